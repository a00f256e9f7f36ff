"""The forecast store: a zarr in the layout that WeatherBench2's own tools read, filled initial time by initial time.

Dimensions are (time, [number], prediction_timedelta, [level], latitude, longitude), where `time` is the initial time,
and `number` counts members where there are several. The store grows in a work folder beside its place, and gets its own
name when it is full:

    <name>.zarr.<key>.part/store.zarr    the store; it is there as a whole, filled with NaN, or not at all
    <name>.zarr.<key>.part/done/<n>      an empty file for each block of initial times that is on disk; <n>.<member>
                                         for each of its members
    <name>.zarr.<key>.part/scores/       the scores of blocks whose members are not stored (graphufs.forecast.scored)
    <name>.zarr.<key>.part/.lock         held to make the store

Several processes may write at once, also on several machines: a block's chunks are files of its own that are replaced
in one rename each, and its mark appears after them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from graphufs.storage.atomic import fsync, new_folder, remove_folder
from graphufs.storage.lock import locked
from graphufs.storage.zarr_io import add_checksums, time_encoding


class Block(NamedTuple):
    """What is written at once: initial times from number `first` on, of one member where there are several."""

    first: int
    member: int | None = None

    @property
    def mark(self) -> str:
        """The name of the file that says that the block is on disk."""
        return str(self.first) if self.member is None else f"{self.first}.{self.member}"


class ForecastWriter:
    """Writes a forecast store in blocks of initial times; after a kill it goes on with the missing blocks.

    `key` stands for what fixes the content besides the finished store's path: stores of other initial times or blocks
    never meet in one folder.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self._work = path.with_name(f"{path.name}.{key}.part")
        self._store, self._done = self._work / "store.zarr", self._work / "done"
        self._group: zarr.Group

    @property
    def scores(self) -> Path:
        """The folder for scores of blocks, which goes when the store is finished."""
        return self._work / "scores"

    def has(self, block: Block) -> bool:
        """Whether a block is on disk."""
        return self._store.is_dir() and (self._done / block.mark).exists()

    def open(self, make_template: Callable[[], xr.Dataset], *, should_stop: Callable[[], bool]) -> None:
        """Make the store from an empty dataset of `template`, if it does not exist; to be called once before `write`.

        Raises
        ------
        Stopped
            If `should_stop()` turned true while another process made the store.
        """
        with locked(self._work, should_stop=should_stop, waiting=lambda: None):
            if not self._store.is_dir():
                shutil.rmtree(self._done, ignore_errors=True)  # marks of a store that is gone
                with new_folder(self._store) as temporary:
                    _create(temporary, make_template())
            self._done.mkdir(exist_ok=True)
        self._group = zarr.open_group(self._store, mode="r+", use_consolidated=False)

    def write(self, block: Block, forecasts: Mapping[str, NDArray[np.float32]]) -> None:
        """Write the initial times of a block, each variable [initial time, lead, [level], lat, lon]."""
        first, count = block.first, len(next(iter(forecasts.values())))
        for name, values in forecasts.items():
            array = self._group[name]
            assert isinstance(array, zarr.Array)
            member = () if block.member is None else (block.member,)
            fields = array.shape[1 + len(member) :]
            array[(slice(first, first + count), *member)] = values.reshape((count, *fields))
            for index in range(first, first + count):
                chunk = self._store / name / ".".join(map(str, (index, *member, *(0 for _ in fields))))
                if chunk.exists():  # zarr writes no chunk of NaN alone
                    fsync(chunk)
            fsync(self._store / name)
        (self._done / block.mark).touch()
        fsync(self._done)

    def finish(self, blocks: Iterable[Block]) -> None:
        """Give the full store its name; `blocks` are those there must be.

        Nobody else may write meanwhile: call it with the forecasts' lock held alone.

        Raises
        ------
        RuntimeError
            If a block is not written yet.
        """
        lacking = [block.mark for block in blocks if not self.has(block)]
        if lacking:
            raise RuntimeError(f"the blocks from the initial times {lacking} on are not written")
        for leftover in self._store.rglob("*.partial"):  # chunks of processes killed while they wrote
            leftover.unlink()
        add_checksums(self._store)
        remove_folder(self.path)  # a damaged one that this one replaces
        os.rename(self._store, self.path)
        fsync(self.path.parent)
        sweep(self.path)


def sweep(path: Path) -> None:
    """Remove what is left of the making of the finished store at `path`; with the forecasts' lock held alone."""
    for folder in path.parent.glob(f"{path.name}.*part"):
        shutil.rmtree(folder)


def _create(path: Path, dataset: xr.Dataset) -> None:
    encoding = time_encoding(dataset)
    for name, variable in dataset.data_vars.items():
        single = 2 if "number" in variable.dims else 1
        encoding[str(name)] = {"chunks": (*[1] * single, *variable.shape[single:]), "_FillValue": np.nan}
    # Only the variables are lazy, and so left unwritten by compute=False; coordinates are written now.
    lazy = dataset.assign({name: variable.chunk({"time": 1}) for name, variable in dataset.data_vars.items()})
    lazy.to_zarr(path, mode="w", zarr_format=2, consolidated=True, compute=False, encoding=encoding)
