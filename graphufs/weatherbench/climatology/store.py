"""The climatology's store: written whole in WeatherBench2's layout, read by valid time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from graphufs.errors import UserError
from graphufs.grid.grid import Grid
from graphufs.storage.atomic import new_folder
from graphufs.storage.zarr_io import add_checksums, level_coordinate
from graphufs.vocabulary.conventions import DRY_METRES
from graphufs.weatherbench.climatology.compute import DAYS, Gaps, Method, checked, climatology, day_of_year, hour_of_day
from graphufs.weatherbench.climatology.seeps_thresholds import seeps_thresholds
from graphufs.weatherbench.inputs.channels import Channel, channels_of, pack
from graphufs.weatherbench.inputs.layout_checks import check_climatology, grid_of
from graphufs.weatherbench.inputs.truth import Truth, require_channels

CHUNK_BYTES = 2**20
"""About the size of a chunk: small grids then make few files, large ones are still read a few days at a time."""


def days_per_block(grid: Grid) -> int:
    """Days that are stored in one chunk and read at once."""
    return min(16, max(1, CHUNK_BYTES // (4 * grid.shape[0] * grid.shape[1])))


@dataclass(frozen=True)
class ClimatologySettings:
    """How a climatology is made; see `graphufs.weatherbench.climatology.compute`."""

    window: int = 61
    method: Method = "explicit"
    gaps: Gaps = "skip"
    std: bool = False
    """Whether to add X_std for each variable X."""
    seeps: bool = False
    """Whether to add X_seeps_threshold and X_seeps_dry_fraction for each accumulated precipitation X."""


Sink = Callable[[Channel, int, slice, np.ndarray], None]
"""Takes a channel of the store, the hour's position, rows of the grid, and float32 [366, row, lon]."""


def _compute(
    truth: Truth, stamps: np.ndarray, recipe: ClimatologySettings, sink: Sink, progress: Callable[[int, int], None]
) -> np.ndarray:
    """Compute all that the recipe asks for; return where there were data, [hour, 366]."""
    whole = slice(0, truth.grid.shape[0])
    rain = _rain(truth) if recipe.seeps else []
    passes = 1 + len(rain)

    def of_pass(number: int) -> Callable[[int, int], None]:
        return lambda done, total: progress(number * total + done, passes * total)

    def write(hour: int, channels: slice, parts: dict[str, np.ndarray]) -> None:
        for ending, part in parts.items():
            for position, (name, level) in enumerate(truth.channels[channels]):
                sink(Channel(name + ending, level), hour, whole, part[:, position])

    _, covered = climatology(
        truth,
        stamps,
        write,
        window=recipe.window,
        method=recipe.method,
        std=recipe.std,
        gaps=recipe.gaps,
        progress=of_pass(0),
    )
    for number, position in enumerate(rain, 1):
        name = truth.channels[position].variable

        def write_seeps(hour: int, rows: slice, heavy: np.ndarray, dry: np.ndarray, name: str = name) -> None:
            sink(Channel(f"{name}_seeps_threshold"), hour, rows, heavy)
            sink(Channel(f"{name}_seeps_dry_fraction"), hour, rows, dry)

        seeps_thresholds(
            truth,
            position,
            DRY_METRES[name],
            stamps,
            write_seeps,
            window=recipe.window,
            progress=of_pass(number),
        )
    return covered


def _rain(truth: Truth) -> list[int]:
    """The positions of accumulated precipitation."""
    found = [position for position, (name, _) in enumerate(truth.channels) if name in DRY_METRES]
    if not found:
        raise UserError(f"SEEPS thresholds need {' or '.join(DRY_METRES)} in the truth")
    return found


def _channels(truth: Truth, recipe: ClimatologySettings) -> tuple[Channel, ...]:
    """All that the store holds."""
    endings = ["", "_std"] if recipe.std else [""]
    channels = [Channel(name + ending, level) for ending in endings for name, level in truth.channels]
    if recipe.seeps:
        names = [truth.channels[position].variable for position in _rain(truth)]
        channels += [Channel(f"{name}_seeps_{what}") for name in names for what in ("threshold", "dry_fraction")]
    return tuple(channels)


def write_store(
    path: Path,
    truth: Truth,
    stamps: np.ndarray,
    attributes: Mapping[str, Any],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    **recipe: Any,
) -> None:
    """Compute the climatology of `stamps` [time] into a zarr store, written atomically; see `ClimatologySettings`.

    A chunk holds some days of one hour and one level, so the memory needed is that of the computation.
    """
    made = ClimatologySettings(**recipe)
    stamps = checked(stamps, made.window)
    hours = np.unique(hour_of_day(stamps))
    with new_folder(path) as temporary:
        levels = _create(temporary, truth, _channels(truth, made), hours, attributes)
        group = zarr.open_group(temporary, mode="r+", use_consolidated=False)

        def sink(channel: Channel, hour: int, rows: slice, part: np.ndarray) -> None:
            level = () if channel.level is None else (levels.index(channel.level),)
            group[channel.variable][(hour, slice(None), *level, rows)] = part  # type: ignore[index]

        group["covered"][:] = _compute(truth, stamps, made, sink, progress)  # type: ignore[index]
        zarr.consolidate_metadata(str(temporary), zarr_format=2)
        add_checksums(temporary)


def _create(
    path: Path, truth: Truth, channels: Sequence[Channel], hours: np.ndarray, attributes: Mapping[str, Any]
) -> list[float]:
    """Create the store with its coordinates and empty variables; return its levels."""
    levels = sorted({channel.level for channel in channels if channel.level is not None})
    coordinates: dict[str, Any] = {
        "hour": hours,
        "dayofyear": np.arange(1, DAYS + 1),
        "latitude": truth.grid.latitude,
        "longitude": truth.grid.longitude,
        # False: no data within the window, the nearest day's mean stands in
        "covered": (("hour", "dayofyear"), np.zeros((len(hours), DAYS), bool)),
    }
    if levels:
        coordinates["level"] = level_coordinate(np.array(levels))
    xr.Dataset(coords=coordinates, attrs=dict(attributes)).to_zarr(path, zarr_format=2, consolidated=False)
    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    sizes = {"hour": len(hours), "dayofyear": DAYS, "level": len(levels)}
    sizes |= {"latitude": truth.grid.shape[0], "longitude": truth.grid.shape[1]}
    chunks = sizes | {"hour": 1, "dayofyear": days_per_block(truth.grid), "level": 1}
    for name, level in dict(channels).items():
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


class Climatology:
    """Reads a climatology by valid time, from a dataset in WeatherBench2's layout, with the latitudes of `grid`.

    The dataset is (hour, dayofyear, [level], latitude, longitude); a variable may be called X or X_mean.
    """

    def __init__(self, dataset: xr.Dataset, channels: Sequence[Channel], grid: Grid) -> None:
        check_climatology(dataset, "the climatology")
        names = {channel.variable for channel in channels}
        renames = {f"{name}_mean": name for name in names if name not in dataset and f"{name}_mean" in dataset}
        dataset = dataset.rename(renames)
        if lacking := sorted(names - set(map(str, dataset.data_vars))):
            raise UserError(f"the climatology has no {', '.join(lacking)}; make it from data that have it")
        self._dataset = dataset
        self._channels = require_channels(channels_of(dataset, names), channels, "the climatology")
        self._order = grid.orientation(grid_of(dataset, "the climatology"), "the climatology")
        self._hours = {int(hour): position for position, hour in enumerate(dataset["hour"].values)}
        self._days = {int(day): position for position, day in enumerate(dataset["dayofyear"].values)}
        self._block_days = days_per_block(grid)
        self._block: tuple[int, np.ndarray] | None = None

    def read(self, stamps: np.ndarray) -> np.ndarray:
        """The climatology at valid times, float32 [time, channel, lat, lon].

        Some days are read at once and the last ones kept, so that times are best asked for in ascending order.

        Raises
        ------
        UserError
            If it does not have the hour or the day of a time.
        """
        stamps = np.asarray(stamps, "datetime64[ns]")
        wanted: dict[int, list[tuple[int, int, int]]] = {}
        for position, (day, hour) in enumerate(
            zip(day_of_year(stamps).tolist(), hour_of_day(stamps).tolist(), strict=True)
        ):
            if day not in self._days or hour not in self._hours:
                raise UserError(
                    f"the climatology has no day {day} at {hour:02d} UTC, needed at "
                    f"{stamps[position].astype('datetime64[h]')}; its hours are {sorted(self._hours)}"
                )
            block, offset = divmod(self._days[day], self._block_days)
            wanted.setdefault(block, []).append((position, self._hours[hour], offset))
        fields: np.ndarray | None = None
        for block, places in wanted.items():
            days = self._days_of(block)
            if fields is None:
                fields = np.empty((len(stamps), *days.shape[2:]), np.float32)
            for position, at_hour, offset in places:
                fields[position] = days[at_hour, offset]
        if fields is None:
            raise UserError("no times were asked for")
        return fields

    def _days_of(self, block: int) -> np.ndarray:
        """Some days of all hours, [hour, day, channel, lat, lon]."""
        kept = self._block  # looked at once: other threads may read other days meanwhile
        if kept is None or kept[0] != block:
            self._block = None  # gone before the next one is read
            days = slice(block * self._block_days, (block + 1) * self._block_days)
            part = pack(self._dataset, self._channels, ["hour", "dayofyear"], {"dayofyear": days})
            self._block = kept = block, part[..., self._order, :]
        return kept[1]
