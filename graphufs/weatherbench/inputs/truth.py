"""Truth: the fields forecasts are scored against, read by valid time from whatever holds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import xarray as xr

from graphufs.errors import UserError
from graphufs.grid.grid import Grid
from graphufs.vocabulary.variables import weatherbench_name, weatherbench_scale
from graphufs.weatherbench.inputs.channels import Channel, as_slice, channels_of, pack
from graphufs.weatherbench.inputs.derived import check_derived, with_derived, with_placeholders
from graphufs.weatherbench.inputs.layout_checks import check_observations, grid_of

if TYPE_CHECKING:
    from graphufs.data.dataset import PreparedData


TOGETHER = 8
"""Frames read at once into one array, which stays as long as one of them is needed."""


class Truth(Protocol):
    """Fields of some channels at many times, on one grid."""

    channels: tuple[Channel, ...]
    grid: Grid
    mask: np.ndarray
    """bool [channel, lat, lon]: False at points that have no value at any time, as land in ocean fields."""
    stamps: np.ndarray
    """The times there are usable fields for, datetime64[ns] [time], ascending."""

    def read(self, stamps: np.ndarray) -> np.ndarray:
        """The fields at `stamps`, float32 [time, channel, lat, lon], on `grid`; UserError where one is absent."""


class ClimatologyReader(Protocol):
    """What is normal at a time: a climatology."""

    def read(self, stamps: np.ndarray) -> np.ndarray:
        """The fields at `stamps`, float32 [time, channel, lat, lon]."""


class DatasetTruth:
    """Truth from a dataset in WeatherBench2's observation layout: (time, [level], latitude, longitude).

    Where not given, `channels` are all that are there, and `grid`, whose latitudes it is brought to, its own. `derived`
    names variables to make of others (`graphufs.weatherbench.inputs.derived`).
    """

    def __init__(
        self,
        dataset: xr.Dataset,
        channels: Sequence[Channel] | None = None,
        grid: Grid | None = None,
        derived: Sequence[str] = (),
    ) -> None:
        check_observations(dataset, "the truth")
        check_derived(dataset, derived, "the truth")
        own = grid_of(dataset, "the truth")
        self._dataset, self._derived = dataset, tuple(derived)
        self.grid = grid or own
        self._order = self.grid.orientation(own, "the truth")
        self.channels = require_channels(channels_of(with_placeholders(dataset, derived)), channels)
        self.mask = np.ones((len(self.channels), *self.grid.shape), bool)
        times = dataset["time"].values.astype("datetime64[ns]")
        order = np.argsort(times, kind="stable")
        self.stamps, self._positions = times[order], order

    def read(self, stamps: np.ndarray) -> np.ndarray:
        """The fields at `stamps`, float32 [time, channel, lat, lon].

        Raises
        ------
        UserError
            If the dataset has no fields at one of them.
        """
        wanted = np.asarray(stamps, "datetime64[ns]")
        where = np.searchsorted(self.stamps, wanted)
        found = where < len(self.stamps)
        found[found] = self.stamps[where[found]] == wanted[found]
        if not found.all():
            raise UserError(f"the truth has no fields at {wanted[~found][0].astype('datetime64[h]')}")
        at = as_slice(self._positions[where])
        if self._derived:
            fields = pack(with_derived(self._dataset.isel(time=at), self._derived), self.channels, ["time"])
        else:
            fields = pack(self._dataset, self.channels, ["time"], {"time": at})
        return fields[..., self._order, :]


def land_sea_mask(dataset: xr.Dataset, grid: Grid) -> np.ndarray | None:
    """The fraction of land, float64 [lat, lon] on `grid`, of a dataset in WeatherBench2's layout; None without one.

    Raises
    ------
    UserError
        If it lies on another grid.
    """
    if "land_sea_mask" not in dataset:
        return None
    mask = dataset["land_sea_mask"]
    if "time" in mask.dims:
        mask = mask.isel(time=0, drop=True)
    order = grid.orientation(grid_of(dataset, "the land-sea mask"), "the land-sea mask")
    return mask.transpose("latitude", "longitude").values.astype(np.float64)[order]


def require_channels(
    there: Sequence[Channel], wanted: Sequence[Channel] | None, origin: str = "the truth"
) -> tuple[Channel, ...]:
    """The wanted channels; all that are there where none are named.

    Raises
    ------
    UserError
        If one is not there.
    """
    if wanted is None:
        return tuple(there)
    if lacking := [str(channel) for channel in wanted if channel not in there]:
        raise UserError(
            f"{origin} has no {', '.join(lacking)}, which the forecasts have; it has {', '.join(map(str, there))}"
        )
    return tuple(wanted)


class PreparedTruth:
    """Truth from the prepared data of an experiment, in WeatherBench2's names and units.

    Times at which one of these channels' variables had NaN where it must not are left out of `stamps`. Latitudes are
    brought to those of `grid`, where one is given.
    """

    def __init__(self, prepared: PreparedData, channels: Sequence[Channel], grid: Grid | None = None) -> None:
        own = Grid(prepared.latitude, prepared.longitude)
        self.grid = grid or own
        self._order = self.grid.orientation(own, "the prepared data")
        self._prepared = prepared
        there = [Channel(weatherbench_name(channel.variable), channel.level) for channel in prepared.channels]
        self.channels = require_channels(there, channels, "the prepared data")
        self._positions = [there.index(channel) for channel in self.channels]
        scales = [weatherbench_scale(prepared.channels[position].variable) for position in self._positions]
        self._scales = None if set(scales) == {1.0} else np.array(scales, np.float32)[:, None, None]
        self.mask = prepared.mask[self._positions][:, self._order]
        used = {prepared.channels[position].variable for position in self._positions}
        flawed = [stamp for stamp, names in prepared.invalid.items() if used & set(names)]
        self.stamps = np.setdiff1d(prepared.stamps, np.array(flawed, "datetime64[ns]"))

    def read(self, stamps: np.ndarray) -> np.ndarray:
        """The fields at `stamps`, float32 [time, channel, lat, lon]."""
        frames = self._prepared.read(np.asarray(stamps, "datetime64[ns]"))
        fields = frames[:, self._positions, self._order]
        return fields if self._scales is None else fields * self._scales


class DailyMeans:
    """The means of a truth over whole days, each stamped with its day at 00 UTC, for a climatology without hours.

    A day counts if it has all the hours that any day has. NaN is left out where it lies, as WeatherBench2's script
    does: a point has the mean of the day's other hours.
    """

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self.channels, self.grid, self.mask = truth.channels, truth.grid, truth.mask
        self._whole = truth.stamps
        self._days = self._whole.astype("datetime64[D]")
        days, counts = np.unique(self._days, return_counts=True)
        self.stamps = days[counts == counts.max()].astype("datetime64[ns]") if days.size else truth.stamps

    def read(self, stamps: np.ndarray) -> np.ndarray:
        """The means of the days `stamps`, float32 [day, channel, lat, lon]; NaN where a day has nothing else."""
        return np.stack([_mean(self._truth.read(self._whole[self._days == day])) for day in stamps])


def _mean(frames: np.ndarray) -> np.ndarray:
    """The mean over axis 0 of what is not NaN."""
    missing = np.isnan(frames)
    if not missing.any():
        found: np.ndarray = frames.mean(axis=0)
        return found
    counts = (~missing).sum(axis=0, dtype=frames.dtype)
    sums = np.where(missing, 0, frames).sum(axis=0)
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


class FrameWindow:
    """Reads frames by time and keeps those of the last request, so that overlapping requests read each frame once."""

    def __init__(self, read: Callable[[np.ndarray], np.ndarray]) -> None:
        self._read = read
        self._frames: dict[np.datetime64, np.ndarray] = {}

    def frames(self, stamps: np.ndarray) -> list[np.ndarray]:
        """The frames [channel, lat, lon] at `stamps` [time]; a time may come more than once."""
        wanted = list(stamps)
        self._frames = {stamp: self._frames[stamp] for stamp in set(wanted) & set(self._frames)}
        new = sorted(set(wanted) - set(self._frames))
        for first in range(0, len(new), TOGETHER):
            part = new[first : first + TOGETHER]
            self._frames |= dict(zip(part, self._read(np.array(part)), strict=True))
        return [self._frames[stamp] for stamp in wanted]

    def read(self, stamps: np.ndarray) -> np.ndarray:
        """The frames at `stamps` as one array, [time, ...]."""
        return np.stack(self.frames(stamps))
