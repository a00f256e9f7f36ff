"""The climatology's store: written whole in WeatherBench2's layout, read by valid time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from graphufs.errors import UserError
from graphufs.files import new_folder
from graphufs.weatherbench.climatology import DAYS, Gaps, day_of_year, explicit_climatology, hour_of_day
from graphufs.weatherbench.fields import Channel, channels_of, level_coordinate, pack, unpack
from graphufs.weatherbench.layout import Grid, grid_of
from graphufs.weatherbench.truth import Truth, require_channels

CHUNK_BYTES = 2**20
"""About the size of a chunk: small grids then make few files, large ones are still read a few days at a time."""


def days_per_block(grid: Grid) -> int:
    """Days that are stored in one chunk and read at once."""
    return min(31, max(1, CHUNK_BYTES // (4 * grid.shape[0] * grid.shape[1])))


def in_memory(truth: Truth, stamps: np.ndarray, *, window: int = 61, gaps: Gaps = "skip") -> xr.Dataset:
    """The climatology as a dataset (hour, dayofyear, [level], latitude, longitude); see `explicit_climatology`."""
    shape = (len(np.unique(hour_of_day(stamps))), DAYS, len(truth.channels), *truth.grid.shape)
    values = np.empty(shape, np.float32)

    def write(hour: int, channels: slice, part: np.ndarray) -> None:
        values[hour, :, channels] = part

    hours, covered = explicit_climatology(truth, stamps, write, window=window, gaps=gaps)
    return _dataset(values, truth.channels, truth.grid, hours, covered)


def write_store(
    path: Path,
    truth: Truth,
    stamps: np.ndarray,
    attributes: Mapping[str, Any],
    *,
    window: int = 61,
    gaps: Gaps = "skip",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Compute the climatology into a zarr store that appears whole or not at all; see `explicit_climatology`.

    A chunk holds some days of one hour and one level, so the memory needed is that of the computation.
    """
    hours = np.unique(hour_of_day(stamps))
    with new_folder(path) as temporary:
        levels = _create(temporary, truth, hours, attributes)
        group = zarr.open_group(temporary, mode="r+", use_consolidated=False)

        def write(hour: int, channels: slice, part: np.ndarray) -> None:
            for position, channel in enumerate(truth.channels[channels]):
                array = group[channel.variable]
                if channel.level is None:
                    array[hour] = part[:, position]  # type: ignore[index]
                else:
                    array[hour, :, levels.index(channel.level)] = part[:, position]  # type: ignore[index]

        _, covered = explicit_climatology(truth, stamps, write, window=window, gaps=gaps, progress=progress)
        group["covered"][:] = covered  # type: ignore[index]
        zarr.consolidate_metadata(str(temporary), zarr_format=2)


def _dataset(
    values: np.ndarray, channels: Sequence[Channel], grid: Grid, hours: np.ndarray, covered: np.ndarray
) -> xr.Dataset:
    """A dataset in WeatherBench2's layout from [hour, 366, channel, lat, lon]."""
    variables, levels = unpack(values, channels, ["hour", "dayofyear", "channel", "latitude", "longitude"])
    return xr.Dataset(variables, _coordinates(levels, grid, hours, covered))


def _create(path: Path, truth: Truth, hours: np.ndarray, attributes: Mapping[str, Any]) -> list[float]:
    """Create the store with its coordinates and empty variables; return its levels."""
    levels = sorted({channel.level for channel in truth.channels if channel.level is not None})
    coordinates = _coordinates(np.array(levels), truth.grid, hours, np.zeros((len(hours), DAYS), bool))
    xr.Dataset(coords=coordinates, attrs=dict(attributes)).to_zarr(path, zarr_format=2, consolidated=False)
    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    sizes = {"hour": len(hours), "dayofyear": DAYS, "level": len(levels)}
    sizes |= {"latitude": truth.grid.shape[0], "longitude": truth.grid.shape[1]}
    chunks = sizes | {"hour": 1, "dayofyear": days_per_block(truth.grid), "level": 1}
    for name, level in dict(truth.channels).items():
        dims = [dim for dim in sizes if dim != "level" or level is not None]
        group.create_array(
            name,
            shape=tuple(sizes[dim] for dim in dims),
            chunks=tuple(chunks[dim] for dim in dims),
            dtype="float32",
            fill_value=np.nan,
            attributes={"_ARRAY_DIMENSIONS": dims},
        )
    return levels


def _coordinates(levels: np.ndarray, grid: Grid, hours: np.ndarray, covered: np.ndarray) -> dict[str, Any]:
    coordinates: dict[str, Any] = {
        "hour": hours,
        "dayofyear": np.arange(1, DAYS + 1),
        "latitude": grid.latitude,
        "longitude": grid.longitude,
        # False: no data within the window, the nearest day's mean stands in
        "covered": (("hour", "dayofyear"), covered),
    }
    if levels.size:
        coordinates["level"] = level_coordinate(levels)
    return coordinates


class Climatology:
    """Reads a climatology by valid time, from a dataset in WeatherBench2's layout.

    Parameters
    ----------
    dataset
        (hour, dayofyear, [level], latitude, longitude); a variable may be called X or X_mean.
    channels
        What to read.
    grid
        The grid to bring latitudes to.
    """

    def __init__(self, dataset: xr.Dataset, channels: Sequence[Channel], grid: Grid) -> None:
        names = {channel.variable for channel in channels}
        renames = {f"{name}_mean": name for name in names if name not in dataset and f"{name}_mean" in dataset}
        dataset = dataset.rename(renames)
        if lacking := sorted(names - set(map(str, dataset.data_vars))):
            raise UserError(f"the climatology lacks {', '.join(lacking)}; make it from data that have it")
        self._dataset = dataset
        self._channels = require_channels(channels_of(dataset, names), channels, "the climatology")
        self._order = grid.orientation(grid_of(dataset, "the climatology"), "the climatology")
        self._hours = {int(hour): position for position, hour in enumerate(dataset["hour"].values)}
        self._days = {int(day): position for position, day in enumerate(dataset["dayofyear"].values)}
        self._block_days = days_per_block(grid)
        self._blocks: OrderedDict[int, np.ndarray] = OrderedDict()

    def read(self, stamps: np.ndarray) -> np.ndarray:
        """The climatology at valid times, float32 [time, channel, lat, lon].

        Raises
        ------
        UserError
            If it lacks the hour or the day of a time.
        """
        stamps = np.asarray(stamps, "datetime64[ns]")
        fields: np.ndarray | None = None
        days, hours = day_of_year(stamps), hour_of_day(stamps)
        for position, (day, hour) in enumerate(zip(days.tolist(), hours.tolist(), strict=True)):
            if day not in self._days or hour not in self._hours:
                raise UserError(
                    f"the climatology has no day {day} at {hour:02d} UTC, needed at "
                    f"{stamps[position].astype('datetime64[h]')}; its hours are {sorted(self._hours)}"
                )
            block, offset = divmod(self._days[day], self._block_days)
            field = self._block(block, span=len(set(days.tolist())))[self._hours[hour], offset]
            if fields is None:
                fields = np.empty((len(stamps), *field.shape), np.float32)
            fields[position] = field
        if fields is None:
            raise UserError("no times were asked for")
        return fields

    def _block(self, block: int, span: int) -> np.ndarray:
        """Some days of all hours, [hour, day, channel, lat, lon]; the blocks of `span` days are kept."""
        if block not in self._blocks:
            days = slice(block * self._block_days, (block + 1) * self._block_days)
            part = pack(self._dataset.isel(dayofyear=days), self._channels, ["hour", "dayofyear"])
            self._blocks[block] = part[..., self._order, :]
            while len(self._blocks) > span // self._block_days + 2:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(block)
        return self._blocks[block]
