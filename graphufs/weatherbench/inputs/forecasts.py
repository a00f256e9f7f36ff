"""WeatherBench2's zarr layout: opening forecasts with checks that name each defect, and writing stores whole.

Forecasts have the dimensions (time, prediction_timedelta, [level], latitude, longitude) in any order, `time` being
the initial time. Observations have (time, [level], latitude, longitude).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from graphufs.errors import UserError
from graphufs.grid.grid import Grid
from graphufs.storage.atomic import new_folder
from graphufs.weatherbench.inputs.channels import Channel, channels_of, pack
from graphufs.weatherbench.inputs.derived import check_derived, with_derived, with_placeholders
from graphufs.weatherbench.inputs.layout_checks import check_forecasts, require_dimension

if TYPE_CHECKING:
    from graphufs.grid.regridding import Regridder


LEAD_ENCODING = {"units": "hours", "dtype": "int64"}
"""How leads and other durations are stored. xarray adds the attribute dtype="timedelta64[ns]", without which newer
versions read plain integers."""


def grid_of(dataset: xr.Dataset, origin: str) -> Grid:
    """The grid of a dataset in WeatherBench2's layout.

    Raises
    ------
    UserError
        If latitude or longitude are missing or not as the layout has them.
    """
    for name in ("latitude", "longitude"):
        require_dimension(dataset, name, origin, "rename them to WeatherBench2's names")
    latitude = dataset["latitude"].values.astype(np.float64)
    longitude = dataset["longitude"].values.astype(np.float64)
    if not (np.all(np.diff(latitude) > 0) or np.all(np.diff(latitude) < 0)):
        raise UserError(f"the latitudes of {origin} neither rise nor fall throughout; sort them")
    if np.any(longitude < 0) or np.any(longitude >= 360) or not np.all(np.diff(longitude) > 0):
        raise UserError(
            f"the longitudes of {origin} run from {longitude[0]:g} to {longitude[-1]:g}; WeatherBench2 needs them "
            "ascending within 0 to 360: roll the grid"
        )
    return Grid(latitude, longitude)


class Forecasts:
    """Forecasts in WeatherBench2's layout, read one initial time at a time.

    Parameters
    ----------
    dataset
        The store, opened lazily.
    variables, levels
        What to score; where not given, everything there.
    origin
        What to call the store in messages.
    derived
        Variables to make of others (`graphufs.weatherbench.inputs.derived`).
    by_valid
        Whether `time` is the valid time of all leads, as WeatherBench2's by_init=False has it. What is said of initial
        times is then true of valid times.

    Raises
    ------
    UserError
        If the dataset deviates from the layout: the message names the defect.
    """

    by_valid = False

    def __init__(
        self,
        dataset: xr.Dataset,
        variables: Iterable[str] | None = None,
        levels: Iterable[float] | None = None,
        origin: str = "the forecast store",
        derived: Sequence[str] = (),
        by_valid: bool = False,
    ) -> None:
        check_forecasts(dataset, origin)
        check_derived(dataset, derived, origin)
        self._source, self._derived = dataset, tuple(derived)
        self.by_valid = by_valid
        self.dataset = with_placeholders(dataset, derived) if derived else dataset
        self.origin = origin
        self._regridder: Regridder | None = None
        self.grid = grid_of(dataset, origin)
        self.channels: tuple[Channel, ...] = channels_of(self.dataset, variables, levels)
        self.initial_times = dataset["time"].values.astype("datetime64[ns]")
        self.leads = dataset["prediction_timedelta"].values.astype("timedelta64[ns]")

    @classmethod
    def open(
        cls, path: Path | str, variables: Iterable[str] | None = None, levels: Iterable[float] | None = None
    ) -> Forecasts:
        """Open a forecast store."""
        return cls(open_zarr(path), variables, levels, str(path))

    @property
    def is_regridded(self) -> bool:
        """Whether they are given on another grid than they are stored on."""
        return self._regridder is not None

    @property
    def offsets(self) -> np.ndarray:
        """The valid times of all leads relative to what `initial_times` holds, timedelta64[ns] [lead]."""
        return np.zeros_like(self.leads) if self.by_valid else self.leads

    @property
    def vertical(self) -> str:
        """What the levels are: pressure levels, unless the store says otherwise."""
        level = [channel for channel in self.channels if channel.level is not None]
        if not level:
            return "surface only"
        places = [self.dataset[level[0].variable].attrs, self.dataset["level"].attrs, self.dataset.attrs]
        return next((str(attrs["vertical"]) for attrs in places if "vertical" in attrs), "pressure levels")

    def attributes(self, variable: str) -> dict[str, Any]:
        """A variable's attributes, such as its unit."""
        return dict(self.dataset[variable].attrs)

    def read(self, initial_time: np.datetime64) -> np.ndarray:
        """The forecasts from one initial time, float32 [lead, channel, lat, lon]."""
        where = int(np.flatnonzero(self.initial_times == initial_time)[0])
        if self._derived:
            part = with_derived(self._source.isel(time=where), self._derived)
            fields = pack(part, self.channels, ["prediction_timedelta"])
        else:
            fields = pack(self._source, self.channels, ["prediction_timedelta"], {"time": where})
        return fields if self._regridder is None else self._regridder(fields)

    def regridded(self, regridder: Regridder) -> Forecasts:
        """The same forecasts on another grid."""
        forecasts = copy(self)
        forecasts._regridder, forecasts.grid = regridder, regridder.target
        return forecasts


def open_zarr(
    path: Path | str, group: str | None = None, storage_options: Mapping[str, Any] | None = None
) -> xr.Dataset:
    """Open a zarr store (a group of it) lazily and without dask; `path` may be any address fsspec knows.

    Raises
    ------
    UserError
        If there is none.
    """
    try:
        return xr.open_zarr(path, group=group, chunks=None, consolidated=None, storage_options=storage_options)
    except (FileNotFoundError, KeyError) as error:
        raise UserError(f"there is no zarr store at {path} ({type(error).__name__}); make it first") from None


def write_zarr(
    path: Path, groups: Mapping[str | None, xr.Dataset], chunks: Mapping[str, Mapping[str, int]] | None = None
) -> None:
    """Write a zarr v2 store with consolidated metadata, which appears whole or not at all.

    Parameters
    ----------
    path
        Where. A store already there is replaced.
    groups
        The dataset of each group; None is the root.
    chunks
        For each variable the chunk length along some dimensions; other dimensions are one chunk.
    """
    with new_folder(path) as temporary:
        for group, dataset in groups.items():
            encoding: dict[str, dict[str, Any]] = {}
            for name, array in dataset.variables.items():
                wanted = (chunks or {}).get(str(name), {})
                encoding[str(name)] = {"chunks": tuple(wanted.get(str(d), n) for d, n in array.sizes.items())}
                if array.dtype.kind == "m":
                    encoding[str(name)] |= LEAD_ENCODING
                elif array.dtype.kind == "M":
                    encoding[str(name)] |= {"units": "hours since 1970-01-01", "dtype": "int64"}
            dataset.drop_encoding().to_zarr(
                temporary, group=group, mode="a", zarr_format=2, consolidated=True, encoding=encoding
            )
