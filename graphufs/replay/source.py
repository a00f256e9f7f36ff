"""A Replay store, opened: any resolution, atmosphere or ocean, by URL, with its quirks removed.

What is put right here, and nowhere else: the extra time coordinates `cftime` (Julian, wrongly tagged) and `ftime` are
never decoded; integer masks become float32; a fill value of 0 does not turn a mask's zeros into NaN; stamps come out
as datetime64, sorted. Latitude keeps the store's order.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from graphufs.errors import UserError, refused
from graphufs.replay.times import text
from graphufs.replay.variable_facts import VariableFacts
from graphufs.storage.zarr_io import is_remote, open_zarr

logger = logging.getLogger(__name__)

EXTRA_COORDINATES = ("cftime", "ftime")
ATTEMPTS = 3
FIRST_PAUSE = 1.0
"""Seconds before the second attempt to read from a remote store; doubled before each further one."""


@dataclass(frozen=True)
class Dimensions:
    """The names of a component's dimensions."""

    latitude: str
    longitude: str
    vertical: tuple[str, ...]


COMPONENTS: dict[str, Dimensions] = {
    "fv3": Dimensions("grid_yt", "grid_xt", ("pfull",)),
    "mom6": Dimensions("lat", "lon", ("z_l", "zl", "z_i")),
}


class ReplayStore:
    """Read access to one Replay store.

    Its `times` are datetime64[ns] [time], sorted, once each; latitude and longitude float64, degrees, in its own order.
    """

    def __init__(self, dataset: xr.Dataset, url: str, component: str) -> None:
        self.url = url
        self.component = component
        self.dimensions = COMPONENTS[component]
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
        self.times, self._order = np.unique(_datetimes(dataset.variables["time"].values), return_index=True)
        self.latitude = dataset.variables[self.dimensions.latitude].values.astype(np.float64)
        self.longitude = dataset.variables[self.dimensions.longitude].values.astype(np.float64)

    @property
    def names(self) -> tuple[str, ...]:
        """The variables that lie on the horizontal grid, sorted."""
        grid = {self.dimensions.latitude, self.dimensions.longitude}
        return tuple(
            sorted(str(name) for name, variable in self._dataset.data_vars.items() if grid <= set(variable.dims))
        )

    def facts(self, name: str) -> VariableFacts:
        """Dimensions and attributes of a variable.

        Raises
        ------
        UserError
            If the variable has dimensions that are neither time, a vertical one, nor the horizontal grid.
        """
        variable = self._dataset.variables[name]
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
        attributes = {key: _plain(value) for key, value in variable.attrs.items() if key != "coordinates"}
        return VariableFacts(canonical, vertical, attributes)

    def levels(self, dimension: str) -> np.ndarray:
        """The native levels along a vertical dimension, float64 [level].

        Raises
        ------
        UserError
            If the dimension has no coordinate.
        """
        if dimension not in self._dataset.variables:
            raise UserError(f"the store {self.url} has no values for its levels ({dimension} has no coordinate)")
        return self._dataset.variables[dimension].values.astype(np.float64)

    def bytes_per_chunk_row(self, name: str, levels: np.ndarray | None = None) -> int:
        """Bytes to decode for the chunks that hold one stamp of a variable at some levels: chunks come whole."""
        variable = self._dataset.variables[name]
        chunks = variable.encoding.get("preferred_chunks", {})
        size = variable.dtype.itemsize
        for dimension, length in variable.sizes.items():
            chunk = int(chunks.get(dimension, length))
            if dimension == "time":
                size *= chunk
            elif levels is not None and dimension in self.dimensions.vertical:
                size *= chunk * np.unique(levels // chunk).size
            else:
                size *= length
        return int(size)

    def stamps_per_chunk(self, name: str) -> int:
        """How many stamps one chunk of a variable holds."""
        return int(self._dataset.variables[name].encoding.get("preferred_chunks", {}).get("time", 1))

    def read(self, name: str, stamps: np.ndarray | None = None, levels: np.ndarray | None = None) -> np.ndarray:
        """Read a variable, float32 [time, level, lat, lon] without the dimensions it does not have.

        Stamps are datetime64[ns], all in `times`, levels indices along the vertical dimension; None where there is
        neither.

        Raises
        ------
        UserError
            If the store cannot be read, after several attempts.
        """
        facts = self.facts(name)
        selection: dict[str, Any] = {}
        if stamps is not None:
            selection["time"] = self._order[np.searchsorted(self.times, stamps)]
        if levels is not None and facts.vertical is not None:
            selection[facts.vertical] = levels
        variable = self._dataset.variables[name].isel(selection).transpose(*facts.dimensions)
        pause = FIRST_PAUSE
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return np.asarray(variable.values, np.float32)
            # Each cloud client raises its own classes, which share no base below Exception.
            except Exception as error:
                place = f"{name} at {text(stamps[0])}" if stamps is not None and len(stamps) else name
                if attempt == ATTEMPTS or not is_remote(self.url):
                    raise UserError(
                        f"{place} could not be read from {self.url} ({type(error).__name__}: {error}). What was "
                        "prepared so far is kept; repeat the command to go on"
                    ) from error
                logger.warning("%s could not be read (%s), trying again in %g s", place, error, pause)
                time.sleep(pause)
                pause *= 2
        raise AssertionError("unreachable")


def clean_url(url: str) -> str:
    """The URL in the one spelling used: gcs:// becomes gs://, file:// and ~ become absolute paths.

    Raises
    ------
    UserError
        If the URL is empty.
    """
    if not url.strip():
        raise UserError("data.source.url is empty; give gs://..., s3://..., https://..., a path, or embedded")
    if url.startswith("gcs://"):
        return "gs://" + url.removeprefix("gcs://")
    if url.startswith("file://"):
        url = url.removeprefix("file://")
    return url if is_remote(url) else str(Path(url).expanduser().absolute())


@refused("the source's metadata")
def open_store(url: str, component: str, storage_options: Mapping[str, Any] | None = None) -> ReplayStore:
    """Open the Replay store of a component at a URL.

    Raises
    ------
    UserError
        If it cannot be opened or is not a store of that component.
    """
    url = clean_url(url)
    raw = open_zarr(
        url, storage_options=storage_options, what="the Replay store", decode_cf=False, drop_variables=EXTRA_COORDINATES
    )
    # Fill values of integer masks are left alone: zarr's format 2 fills them with 0, which is data.
    decoded = xr.decode_cf(
        raw,
        mask_and_scale={str(name): variable.dtype.kind == "f" for name, variable in raw.variables.items()},  # type: ignore[arg-type]
        decode_times={str(name): name == "time" for name in raw.variables},
        decode_timedelta=False,
        decode_coords=False,
    )
    return ReplayStore(decoded, url, component)


def _datetimes(values: np.ndarray) -> np.ndarray:
    """Stamps as datetime64[ns]; those of a foreign calendar keep the date they show."""
    if np.issubdtype(values.dtype, np.datetime64):
        return values.astype("datetime64[ns]")
    return np.array([np.datetime64(value.isoformat(), "ns") for value in values], "datetime64[ns]")


def _plain(value: Any) -> Any:
    """An attribute as JSON knows it."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value
