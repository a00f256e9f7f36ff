"""Forecasts in WeatherBench2's layout, opened with checks that name each defect.

Forecasts have the dimensions (time, prediction_timedelta, [level], latitude, longitude) in any order, `time` being
the initial time. Observations have (time, [level], latitude, longitude).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from graphufs.storage.zarr_io import open_zarr
from graphufs.weatherbench.inputs.channels import Channel, channels_of, pack
from graphufs.weatherbench.inputs.derived import check_derived, with_derived, with_placeholders
from graphufs.weatherbench.inputs.layout_checks import check_forecasts, grid_of

if TYPE_CHECKING:
    from graphufs.grid.regridding import Regridder


class Forecasts:
    """Forecasts in WeatherBench2's layout, read one initial time at a time; all variables and levels, or those named.

    The store is opened lazily, and messages call it `origin`. `derived` names variables to make of others
    (`graphufs.weatherbench.inputs.derived`). With `by_valid`, `time` is the valid time of all leads, as WeatherBench2's
    by_init=False has it; what is said of initial times is then true of valid times.

    Raises
    ------
    UserError
        If the dataset deviates from the layout: the message names the defect.
    """

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
