"""A store, opened: Replay's of any resolution, atmosphere or ocean, or what is laid out alike, its quirks removed.

What is put right here, and nowhere else: the extra time coordinates `cftime` (Julian, wrongly tagged) and `ftime` are
never decoded; integers are unpacked (see `decoding`); values come in the units of `vocabulary.physical_bounds`, and
unmarked fill values as NaN; longitudes ascend from 0. Latitude keeps the store's order. What is no Replay store, or
holds what is no weather, is refused.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from graphufs.errors import UserError, refused
from graphufs.replay import axes
from graphufs.replay.decoding import VALID, decoded, without_invalid
from graphufs.replay.opening import undecoded
from graphufs.replay.plausibility import plausible, without_fill_values
from graphufs.replay.reading_costs import chunk_row_bytes
from graphufs.replay.times import text
from graphufs.replay.units import Conversion, variable_conversion
from graphufs.replay.variable_facts import VariableFacts
from graphufs.storage.in_flight import Limits
from graphufs.storage.object_stores import Unreachable, reason
from graphufs.storage.zarr_io import is_remote
from graphufs.vocabulary.physical_bounds import QUANTITIES
from graphufs.vocabulary.variables import PRESSURE_LEVEL, other_names

logger = logging.getLogger(__name__)

ATTEMPTS = 3
FIRST_PAUSE = 1.0
"""Seconds before the second attempt to read from a remote store; doubled before each further one."""

MOST_POINTS = 2**24
"""Points of a grid: 0.06 degrees between them; Replay has 1.2 million."""


@dataclass(frozen=True)
class Dimensions:
    """The names of a component's dimensions, or of an analysis', and what is known of their order and values."""

    latitude: str
    longitude: str
    vertical: tuple[str, ...]
    rising: bool = False
    """Whether latitudes are brought to rise from south to north, whatever their order in the store."""


@dataclass(frozen=True)
class Allowances:
    """What is let pass in a store: a grid that covers a part of the globe, variables with implausible values."""

    limited: bool = False
    implausible: tuple[str, ...] = ()


COMPONENTS: dict[str, Dimensions] = {
    "fv3": Dimensions("grid_yt", "grid_xt", ("pfull",)),
    "mom6": Dimensions("lat", "lon", ("z_l", "zl", "z_i")),
}


class ReplayStore:
    """Read access to one Replay store.

    Its `times` are datetime64[ns] [time], strictly increasing; latitude [lat] and longitude [lon] float64, degrees,
    latitudes in the store's own order, longitudes ascending within [0, 360). `dimensions` are those of a dataset that
    is laid out otherwise than Replay's of that component, `limits` what reading it may take.

    A variable that Replay and WeatherBench2 call by different names is there by both, in the units of each.

    Raises
    ------
    UserError
        If the dataset is not a store of that component, or its axes are not what `graphufs.replay.axes` asks for.
    """

    def __init__(
        self,
        dataset: xr.Dataset,
        url: str,
        component: str,
        allowances: Allowances | None = None,
        dimensions: Dimensions | None = None,
    ) -> None:
        self.url = url
        self.limits = Limits()
        self.component = component
        self.dimensions = dimensions or COMPONENTS[component]
        self.allowances = allowances or Allowances()
        self._dataset = dataset
        for name in (self.dimensions.latitude, self.dimensions.longitude):
            if name not in dataset.dims or name not in dataset.variables:
                raise UserError(
                    f"the store {url} has the dimensions {', '.join(map(str, dataset.dims))}, but component "
                    f"{component} has {self.dimensions.latitude} and {self.dimensions.longitude} with coordinates; "
                    f"set data.source.component to one of {', '.join(COMPONENTS)}"
                )
        if "time" not in dataset.variables or dataset.variables["time"].dims != ("time",):
            raise UserError(f"the store {url} has no time coordinate along a time dimension; it is not a Replay store")
        self.times = dataset.variables["time"].values.astype("datetime64[ns]")
        axes.check_stamps(self.times, url)
        limited = self.allowances.limited
        self.latitude = axes.latitudes(*self._axis(self.dimensions.latitude), url, limited=limited)
        self._turned = self.dimensions.rising and bool(self.latitude[0] > self.latitude[-1])
        if self._turned:
            self.latitude = self.latitude[::-1].copy()
        self.longitude, self._columns = axes.longitudes(*self._axis(self.dimensions.longitude), url, limited=limited)
        if self.latitude.size * self.longitude.size > MOST_POINTS:
            raise UserError(
                f"the grid of {url} has {self.latitude.size:,} by {self.longitude.size:,} points; {MOST_POINTS:,} are "
                "allowed. Give a coarser store"
            )
        self._conversions: dict[str, Conversion] = {}
        self._others = other_names(map(str, dataset.data_vars))

    def _variable(self, name: str) -> xr.Variable:
        """A variable of the store, by Replay's or WeatherBench2's name."""
        return self._dataset.variables[self._others[name].stored if name in self._others else name]

    @property
    def on_pressure_levels(self) -> bool:
        """Whether its levels are surfaces of constant pressure, each called by its own value."""
        return self.dimensions.vertical == (PRESSURE_LEVEL,)

    def _axis(self, name: str) -> tuple[np.ndarray, str]:
        variable = self._dataset.variables[name]
        return variable.values, _units(variable)

    @property
    def names(self) -> tuple[str, ...]:
        """The variables that lie on the horizontal grid, as the store calls them, sorted."""
        return tuple(sorted(filter(self._on_grid, map(str, self._dataset.data_vars))))

    def has(self, name: str) -> bool:
        """Whether there is such a variable on the horizontal grid, by Replay's or WeatherBench2's name."""
        return (name in self._dataset.data_vars or name in self._others) and self._on_grid(name)

    def _on_grid(self, name: str) -> bool:
        return {self.dimensions.latitude, self.dimensions.longitude} <= set(self._variable(name).dims)

    def facts(self, name: str) -> VariableFacts:
        """Dimensions and attributes of a variable.

        Raises
        ------
        UserError
            If the variable has dimensions that are neither time, a vertical one, nor the horizontal grid, holds no real
            numbers, or is in units that cannot be converted.
        """
        variable = self._variable(name)
        given = tuple(str(dimension) for dimension in variable.dims)
        vertical = next((dimension for dimension in given if dimension in self.dimensions.vertical), None)
        lead = (*(("time",) if "time" in given else ()), *((vertical,) if vertical else ()))
        canonical = (*lead, self.dimensions.latitude, self.dimensions.longitude)
        if set(canonical) != set(given):
            raise UserError(
                f"{name} of {self.url} has the dimensions ({', '.join(given)}); only time, one of "
                f"{', '.join(self.dimensions.vertical)}, {self.dimensions.latitude} and {self.dimensions.longitude} "
                "can be prepared. Take the variable out of the experiment"
            )
        if variable.dtype.kind not in ("iuf" if "time" in given else "iufb"):  # a mask may be of truth values
            raise UserError(f"{name} of {self.url} holds {variable.dtype}, not real numbers; it cannot be used")
        attributes = {key: _plain(value) for key, value in variable.attrs.items() if key not in ("coordinates", *VALID)}
        if self._conversion(name) != Conversion():
            attributes["units"] = QUANTITIES[name].units
        return VariableFacts(canonical, vertical, attributes)

    def _conversion(self, name: str) -> Conversion:
        """How to come to the units in which the variable is prepared."""
        if name not in self._conversions:
            given, accepted = _units(self._variable(name)), name in self.allowances.implausible
            stored, factor = self._others.get(name, (name, 1.0))
            to_stored = variable_conversion(stored, given, self.url, accepted=accepted)
            self._conversions[name] = Conversion(to_stored.scale * factor, to_stored.offset * factor)
        return self._conversions[name]

    def levels(self, dimension: str) -> np.ndarray:
        """The native levels along a vertical dimension, float64 [level]: hPa, or metres in the ocean.

        Raises
        ------
        UserError
            If the dimension has no coordinate, or one that holds no such levels.
        """
        if dimension not in self._dataset.variables:
            raise UserError(f"the store {self.url} has no values for its levels ({dimension} has no coordinate)")
        return axes.levels(*self._axis(dimension), self.component, f"{self.url} ({dimension})")

    def metadata(self, names: Iterable[str]) -> dict[str, Any]:
        """What tells the store from another at its place, as JSON by variable: of some variables, and of their axes.

        Types and attributes, and the values of the axes but time, which grows.
        """
        coordinates = (self.dimensions.latitude, self.dimensions.longitude, *self.dimensions.vertical)
        known = {name: self._variable(name) for name in sorted(names)}
        used = {dimension for variable in known.values() for dimension in variable.dims}
        known |= {
            name: self._dataset.variables[name] for name in coordinates if name in used & {*self._dataset.variables}
        }
        return {
            name: {
                "dimensions": [str(dimension) for dimension in variable.dims],
                "type": str(variable.encoding.get("dtype", variable.dtype)),
                "attributes": {key: _plain(value) for key, value in variable.attrs.items() if key != "history"},
                "packing": [_plain(variable.encoding.get(key)) for key in ("scale_factor", "add_offset")],
                "values": variable.values.tolist() if name in coordinates else None,
            }
            for name, variable in known.items()
        }

    def bytes_per_chunk_row(self, name: str, levels: np.ndarray | None = None, *, travelling: bool = False) -> int:
        """Bytes to decode for the chunks that hold one stamp of a variable at some levels.

        With `travelling`, those of them that come, which may be less of a store far away: see `chunk_row_bytes`.
        """
        variable = self._variable(name)
        vertical = next((str(one) for one in variable.dims if one in self.dimensions.vertical), None)
        return chunk_row_bytes(variable, vertical, levels, travelling=travelling and is_remote(self.url))

    def stamps_per_chunk(self, name: str) -> int:
        """How many stamps one chunk of a variable holds."""
        return int(self._variable(name).encoding.get("preferred_chunks", {}).get("time", 1))

    def read(self, name: str, stamps: np.ndarray | None = None, levels: np.ndarray | None = None) -> np.ndarray:
        """Read a variable, float32 [time, level, lat, lon] without the dimensions it does not have.

        Stamps are datetime64[ns], all in `times`, levels indices along the vertical dimension; None where there is
        neither. Values are in the units of the variable's facts, NaN where there is none.

        Raises
        ------
        UserError
            If the store cannot be read, after several attempts, or a value is outside of the variable's physical
            bounds.
        """
        facts = self.facts(name)
        selection: dict[str, Any] = {}
        if stamps is not None:
            selection["time"] = np.searchsorted(self.times, stamps)
        if levels is not None and facts.vertical is not None:
            selection[facts.vertical] = levels
        variable = self._variable(name).isel(selection).transpose(*facts.dimensions)
        pause = FIRST_PAUSE
        for attempt in range(1, ATTEMPTS + 1):
            try:
                values = variable.values
                break
            # Each cloud client raises its own classes, which share no base below Exception.
            except Exception as error:
                # a store without an answer was asked again already; here is a second try at what cannot be decoded
                again = is_remote(self.url) and not isinstance(error, Unreachable)
                place = f"{name} at {text(stamps[0])}" if stamps is not None and len(stamps) else name
                if attempt == ATTEMPTS or not again:
                    raise UserError(
                        f"{place} could not be read from {self.url} ({reason(error)}). What was prepared so far is "
                        "kept; repeat the command to go on"
                    ) from error
                logger.warning("%s could not be read (%s), trying again in %g s", place, reason(error), pause)
                time.sleep(pause)
                pause *= 2
        return self._physical(name, values, stamps)

    def _physical(self, name: str, values: np.ndarray, stamps: np.ndarray | None) -> np.ndarray:
        """What the store holds as float32 in the variable's units, refused where it is implausible."""
        if name not in self.allowances.implausible:
            values = without_invalid(values, self._variable(name), f"{name} of {self.url}")
        values = self._conversion(name).apply(without_fill_values(values))
        if self._columns is not None:
            values = np.ascontiguousarray(values[..., self._columns])
        if self._turned:
            values = np.ascontiguousarray(values[..., ::-1, :])
        if name not in self.allowances.implausible:
            plausible(name, values, stamps, self.url)
        return values


@refused("the source's metadata")
def open_store(
    url: str,
    component: str,
    storage_options: Mapping[str, Any] | None = None,
    allowances: Allowances | None = None,
) -> ReplayStore:
    """Open the Replay store of a component at a URL.

    Raises
    ------
    UserError
        If it cannot be opened or is not a store of that component.
    """
    url, raw = undecoded(url, storage_options, "the Replay store")
    return ReplayStore(decoded(raw, url), url, component, allowances)


def _units(variable: xr.Variable) -> str:
    return str(variable.attrs.get("units", ""))


def _plain(value: Any) -> Any:
    """An attribute as JSON knows it."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value
