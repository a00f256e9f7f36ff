"""Moments of one calendar month of prepared data: the unit that is computed, saved, and merged.

A block owns the differences into its own frames, so it reads the frame before its first where that one counts too.
What a block covers (its stamps, and which of them have a difference) is saved with it: a block is used again only
where it covers exactly what is wanted.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from graphufs.config.data import Transform
from graphufs.data.channels import variable_slices
from graphufs.data.dataset import PreparedData
from graphufs.data.manifest import MANIFEST
from graphufs.forcings import derived_forcing
from graphufs.grid.areas import row_areas
from graphufs.normalization.accumulate import Accumulator
from graphufs.normalization.moments import FieldMoments, Moments, State
from graphufs.replay.times import by_month, hours, text
from graphufs.storage.atomic import fsync, replace_file
from graphufs.storage.paths import thickness_variable

READ_BYTES = 32 * 2**20
"""Bytes of frames a thread reads at once."""

Weights = Literal["none", "area", "volume"]


@dataclass(frozen=True)
class Task:
    """What the moments of any block are made of: those of variables with a transform, of the transformed field."""

    weights: Weights
    variables: tuple[str, ...]
    derived: tuple[str, ...]
    tisr_period: int
    transforms: Mapping[str, Transform] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Block:
    """Stamps of one month, datetime64[ns] sorted, and for each whether the difference to the stamp before counts."""

    stamps: np.ndarray
    paired: np.ndarray

    @property
    def name(self) -> str:
        """The file name, without suffix."""
        joined = "joined" if self.paired[0] else "first"
        return f"{text(self.stamps[0])}_{text(self.stamps[-1])}_{joined}"


def plan_blocks(stamps: np.ndarray, time_step: int) -> list[Block]:
    """Cut sorted stamps [frame] into months; a difference counts where the stamp one step before is among them."""
    paired = np.isin(stamps - hours(time_step), stamps)
    first = 0
    blocks = []
    for month in by_month(stamps):
        blocks.append(Block(month, paired[first : first + month.size]))
        first += month.size
    return blocks


def compute_block(data: PreparedData | str, block: Block, task: Task) -> State:
    """Moments of all variables over a block of prepared data, or of their folder (for workers in other processes)."""
    if isinstance(data, str):
        data = _opened(data, (Path(data) / MANIFEST).stat().st_mtime_ns)
    state: State = {}
    if task.variables:
        slices = variable_slices(data.channels)
        transforms = [(slices[name], transform) for name, transform in task.transforms.items() if name in slices]
        accumulator = Accumulator(grid_rows(data, task.weights), layer_channels(data, task.weights), transforms)
        for frame, before in _frames(data, block):
            accumulator.update(frame, before)
        moments = accumulator.moments()
        state = {name: moments.part(slices[name]) for name in task.variables}
    return state | {name: derived_moments(data, name, block, task) for name in task.derived}


@lru_cache(maxsize=1)
def _opened(folder: str, written: int) -> PreparedData:
    """Prepared data, opened once by a worker and not for each of its blocks; again where the manifest was `written`."""
    return PreparedData.open(Path(folder))


def _frames(data: PreparedData, block: Block) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Each frame of a block with the one before it, or with None where the difference does not count."""
    step = hours(data.time_step)
    length = max(1, READ_BYTES // (4 * int(np.prod(data.frame_shape))))
    buffer = np.empty((length + 1, *data.frame_shape), np.float32)  # row 0: the last frame of the read before
    if block.paired[0]:
        data.read(block.stamps[:1] - step, buffer[:1])
    for first in range(0, block.stamps.size, length):
        stamps = block.stamps[first : first + length]
        data.read(stamps, buffer[1 : 1 + stamps.size])
        for row in range(stamps.size):
            yield buffer[1 + row], buffer[row] if block.paired[first + row] else None
        buffer[0] = buffer[stamps.size]


def grid_rows(data: PreparedData, weights: Weights) -> np.ndarray:
    """The weight of each latitude row, float64 [lat]."""
    if weights == "none":
        return np.ones(data.latitude.size)
    return row_areas(data.latitude, data.parent_latitude)


def layer_channels(data: PreparedData, weights: Weights) -> np.ndarray:
    """For each channel the channel of its layer's thickness, or -1 where area alone weights it; int64 [channel]."""
    layer = np.full(len(data.channels), -1, np.int64)
    if weights == "volume":
        thickness = data.variable_slice(thickness_variable(data.component))
        by_level = {data.channels[index].level: index for index in range(thickness.start, thickness.stop)}
        for index, channel in enumerate(data.channels):
            if channel.level is not None:
                layer[index] = by_level[channel.level]
    return layer


def derived_moments(data: PreparedData, name: str, block: Block, task: Task) -> FieldMoments:
    """Moments of a forcing computed from time and place, over the same stamps and differences as the data."""
    before = block.stamps[:1] - hours(data.time_step)
    stamps = np.concatenate([before, block.stamps])
    values = derived_forcing(name, stamps, data.latitude, data.longitude, task.tisr_period)
    area = grid_rows(data, task.weights) if values.shape[2] > 1 else np.ones(1)
    accumulator = Accumulator(area, np.full(1, -1, np.int64))
    for row, paired in enumerate(block.paired):
        # within a month only the first stamp's neighbour may lie outside the block
        previous = np.searchsorted(stamps, stamps[1 + row] - hours(data.time_step))
        accumulator.update(values[1 + row], values[previous] if paired else None)
    return accumulator.moments()


def static_moments(data: PreparedData, name: str, task: Task) -> FieldMoments:
    """Moments of a static field; it has no differences."""
    transforms = [(slice(0, 1), task.transforms[name])] if name in task.transforms else []
    accumulator = Accumulator(grid_rows(data, task.weights), np.full(1, -1, np.int64), transforms)
    accumulator.update(data.static[name][None])
    return accumulator.moments()


def save_block(path: Path, block: Block, state: State) -> None:
    """Write a block's moments in one step."""
    arrays = {"stamps": block.stamps.astype(np.int64), "paired": block.paired}
    for name, moments in state.items():
        for kind in ("values", "differences"):
            arrays[f"{name}/{kind}"] = getattr(moments, kind).to_array()
    with replace_file(path) as temporary, open(temporary, "wb") as file:  # a name would get the ending .npz
        np.savez(file, allow_pickle=False, **arrays)
    fsync(path.parent)


def load_block(path: Path, block: Block, names: Sequence[str]) -> State | None:
    """A block's moments, if they are there, whole, cover exactly this block and have all variables; else None."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            if not (
                np.array_equal(saved["stamps"], block.stamps.astype(np.int64))
                and np.array_equal(saved["paired"], block.paired)
                and all(f"{name}/values" in saved for name in names)
            ):
                return None
            return {
                name: FieldMoments(*(Moments(*saved[f"{name}/{kind}"]) for kind in ("values", "differences")))
                for name in names
            }
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):  # none, or damaged
        return None
