"""Forecasts in WeatherBench2's layout, opened with checks that name each defect.

Forecasts have the dimensions (time, prediction_timedelta, [level], latitude, longitude) in any order, `time` being
the initial time; those of an ensemble have number, realization, ensemble or member too. A store with X_std beside X
holds a normal distribution at each point. Observations have (time, [level], latitude, longitude).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from graphufs.errors import UserError
from graphufs.storage.zarr_io import open_zarr
from graphufs.weatherbench.inputs.channels import Channel, channels_of, pack
from graphufs.weatherbench.inputs.derived import check_derived, with_derived, with_placeholders
from graphufs.weatherbench.inputs.layout_checks import check_forecasts, grid_of, member_dimension
from graphufs.weatherbench.inputs.members import single_mean

if TYPE_CHECKING:
    from graphufs.grid.regridding import Regridder

STD = "_std"
"""What the name of a variable's standard deviation ends with."""


class _Lags(NamedTuple):
    """What a lagged ensemble is made of: forecasts, and by lag the positions of leads."""

    source: Forecasts
    places: dict[np.timedelta64, np.ndarray]


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
        deviations = [name for name in map(str, dataset) if name.endswith(STD) and name.removesuffix(STD) in dataset]
        self.gaussian = bool(deviations)
        """Whether the store has the standard deviation of each variable beside it."""
        fields = self.dataset.drop_vars(deviations)
        self.channels: tuple[Channel, ...] = channels_of(fields, variables, levels)
        self._member_dimension = member_dimension(dataset, origin)
        self.members = None if self._member_dimension is None else dataset.sizes[self._member_dimension]
        """How many members there are; None where the store holds single forecasts."""
        self._lags: _Lags | None = None
        self._check_members()
        self.initial_times = dataset["time"].values.astype("datetime64[ns]")
        self.leads = dataset["prediction_timedelta"].values.astype("timedelta64[ns]")

    @classmethod
    def open(
        cls, path: Path | str, variables: Iterable[str] | None = None, levels: Iterable[float] | None = None
    ) -> Forecasts:
        """Open a forecast store."""
        return cls(open_zarr(path), variables, levels, str(path))

    def _check_members(self) -> None:
        """See that all that is scored is of one kind."""
        names = sorted({channel.variable for channel in self.channels})
        if self.gaussian:
            if self.members is not None:
                raise UserError(
                    f"{self.origin} has members along {self._member_dimension} and standard deviations: keep one"
                )
            if self._derived:
                raise UserError(f"{self._derived[0]} cannot be made of normal distributions; leave it out")
            if lacking := [name for name in names if name + STD not in self.dataset]:
                raise UserError(
                    f"{self.origin} has standard deviations, but no {lacking[0]}{STD}; leave {lacking[0]} out with "
                    "--variables, or add it"
                )
        if self.members is not None and not self._derived:
            dims = {name: self.dataset[name].dims for name in names}
            if lacking := [name for name in names if self._member_dimension not in dims[name]]:
                raise UserError(
                    f"{lacking[0]} of {self.origin} has no dimension {self._member_dimension}, which other variables "
                    "have; leave it out with --variables, or score it alone"
                )

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
        """The forecasts from one initial time, float32 [lead, channel, lat, lon]: of an ensemble its mean."""
        if self.members is not None:
            return single_mean(np.moveaxis(self.read_members(initial_time), 1, 0))
        return self._packed(initial_time, self.channels, ["prediction_timedelta"])

    def read_members(self, initial_time: np.datetime64, into: np.ndarray | None = None) -> np.ndarray:
        """The members from one initial time, float32 [lead, member, channel, lat, lon]; a single forecast is one.

        `into` is what was read before and may be used up.
        """
        if self._lags is not None:
            source = self._lags.source
            parts = [source.read_members(initial_time - lag)[at] for lag, at in self._lags.places.items()]
            return np.concatenate(parts, axis=1)
        if self._member_dimension is None:
            return self.read(initial_time)[:, None]
        return self._packed(initial_time, self.channels, ["prediction_timedelta", self._member_dimension], into)

    def lagged(self, count: int) -> Forecasts:
        """An ensemble of the forecasts from `count` initial times in a row, valid at the same times.

        Its initial time is the last of them, and leads are counted from there: those that all of them have.

        Raises
        ------
        UserError
            If there are no such initial times or leads, or the forecasts are none by initial time.
        """
        if self.by_valid or self.gaussian:
            raise UserError("lagged ensembles are made of forecasts by initial time; these are others")
        times = np.sort(self.initial_times)
        if count < 2 or len(times) < count:
            raise UserError(f"{self.origin} has {len(times)} initial times, of which {count} make no lagged ensemble")
        lags = np.diff(times).min() * np.arange(count)
        leads = np.array([lead for lead in np.sort(self.leads) if np.isin(lead + lags, self.leads).all()], "m8[ns]")
        starts = np.array([time for time in times if np.isin(time - lags, times).all()], "M8[ns]")
        if not (leads.size and starts.size):
            raise UserError(
                f"{self.origin} has no {count} forecasts {lags[1] / np.timedelta64(1, 'h'):g} hours apart that are "
                "valid at the same time; take fewer, or store leads at the distance of initial times"
            )
        order = np.argsort(self.leads)
        places = {lag: order[np.searchsorted(self.leads, leads + lag, sorter=order)] for lag in lags}
        forecasts = copy(self)
        forecasts._lags = _Lags(self, places)
        forecasts.leads, forecasts.initial_times = leads, starts
        forecasts.members = count * (self.members or 1)
        return forecasts

    def read_deviations(self, initial_time: np.datetime64) -> np.ndarray:
        """The standard deviations of a Gaussian forecast from one initial time, float32 [lead, channel, lat, lon]."""
        channels = [Channel(name + STD, level) for name, level in self.channels]
        return self._packed(initial_time, channels, ["prediction_timedelta"])

    def _packed(
        self,
        initial_time: np.datetime64,
        channels: Sequence[Channel],
        leading: list[str],
        into: np.ndarray | None = None,
    ) -> np.ndarray:
        where = int(np.flatnonzero(self.initial_times == initial_time)[0])
        if self._derived:
            fields = pack(with_derived(self._source.isel(time=where), self._derived), channels, leading)
        else:
            fields = pack(self._source, channels, leading, {"time": where}, into)
        return fields if self._regridder is None else self._regridder(fields)

    def regridded(self, regridder: Regridder) -> Forecasts:
        """The same forecasts on another grid.

        Raises
        ------
        UserError
            If they are normal distributions, whose standard deviations cannot be.
        """
        if self.gaussian:
            raise UserError("standard deviations cannot be regridded: score normal distributions on their native grid")
        forecasts = copy(self)
        forecasts._regridder, forecasts.grid = regridder, regridder.target
        if self._lags is not None:
            forecasts._lags = self._lags._replace(source=self._lags.source.regridded(regridder))
        return forecasts
