"""Reading frames from a store, a few threads ahead, and writing them atomically as a segment.

A worker in another process writes its segments under names of its own, from an `Order`; the coordinator renames them.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Generator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from threading import Semaphore
from uuid import uuid4

import numpy as np

from graphufs import parallel
from graphufs.config.credentials import to_worker, true
from graphufs.config.experiment import Experiment
from graphufs.data.channels import variable_slices
from graphufs.data.manifest import SEGMENTS, STATIC, Header, Manifest, Segment
from graphufs.data.selection import Selection, select
from graphufs.data.static_fields import read_static
from graphufs.data.zarr_segment import SHARD_BYTES, PackedFrames, create, read_places
from graphufs.errors import Stopped, UserError
from graphufs.replay.source import ReplayStore
from graphufs.replay.times import by_month, text
from graphufs.sources.experiment_source import open_at
from graphufs.storage import packing
from graphufs.storage.atomic import fsync, new_folder, remove_folder
from graphufs.storage.checksums import files_of
from graphufs.storage.zarr_io import is_remote

READ_BYTES = 64 * 2**20
"""Decoded bytes that one read aims at, to have little overhead, and several in memory."""
VERIFY_BYTES = 2**24
"""Read back at once."""
ROWS = 8
"""Chunk rows that one read of a store far away takes at most: zarr asks for little more at once in one read."""
READERS = 4
"""Reads at once of a local store."""
SEGMENT_BYTES = 16 * 2**30
"""Bytes that a segment may hold: a kill loses minutes, also where a month would take hours. What it costs to read does
not count: of whole columns a few levels may be wanted."""
TURNS = Semaphore(max(1, len(os.sched_getaffinity(0)) // READERS))
"""Of segments written at once by one worker: the more threads it has, the more memory they would take."""
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Costs:
    """What reading a selection costs, in bytes."""

    per_stamp: int
    """To decode for one stamp."""
    frame: int
    """That a frame takes here."""
    fetched: int
    """That travel of `per_stamp`, before compression: less where chunks can be read in parts."""
    readers: int
    """How many reads may be in flight, within the store's limits."""

    @property
    def stamps_per_segment(self) -> int:
        """How many stamps a segment may hold at most."""
        return max(1, SEGMENT_BYTES // max(1, self.frame))

    def pieces(self, stamps: np.ndarray) -> list[np.ndarray]:
        """The stamps [time] as segments take them: by month, and of each no more than one may hold."""
        limit = self.stamps_per_segment
        return [month[first : first + limit] for month in by_month(stamps) for first in range(0, month.size, limit)]


def costs(store: ReplayStore, selection: Selection) -> Costs:
    """What reading the selection from the store costs."""
    frame = 4 * len(selection.channels) * store.latitude.size * store.longitude.size
    per_stamp = fetched = largest = 0
    for name in selection.varying:
        levels, stamps = selection.levels.get(name), store.stamps_per_chunk(name)
        row = store.bytes_per_chunk_row(name, levels)
        travelling = store.bytes_per_chunk_row(name, levels, travelling=True)
        per_stamp, fetched = per_stamp + row // stamps, fetched + travelling // stamps
        largest = max(largest, min(_rows_at_once(store, travelling), max(1, SHARD_BYTES // frame)) * travelling)
    readers = store.limits.reads(2 * largest)  # as they come, and decoded
    return Costs(per_stamp, frame, fetched, readers if is_remote(store.url) else min(READERS, readers))


def _rows_at_once(store: ReplayStore, row: int) -> int:
    """How many chunk rows of so many bytes, as they travel, one read takes."""
    return max(1, min(READ_BYTES // row, ROWS if is_remote(store.url) else READ_BYTES))


def read_plan(store: ReplayStore, selection: Selection, stamps: np.ndarray) -> list[tuple[str, slice]]:
    """Cut the reading of `stamps` [time] into (variable, rows): whole chunks of the store, READ_BYTES each at most."""
    positions = np.searchsorted(store.times, stamps)
    plan = []
    for name in selection.varying:
        chunk = positions // store.stamps_per_chunk(name)
        most = _rows_at_once(store, store.bytes_per_chunk_row(name, selection.levels.get(name), travelling=True))
        first = 0
        while first < stamps.size:
            # all rows that fall into the next `most` distinct chunks
            distinct = np.unique(chunk[first:])[:most]
            last = int(np.searchsorted(chunk, distinct[-1], side="right"))
            plan.append((name, slice(first, last)))
            first = last
    return plan


def read_frames(
    store: ReplayStore,
    selection: Selection,
    stamps: np.ndarray,
    block: int,
    *,
    advance: Callable[[float], None],
    should_stop: Callable[[], bool],
    pool: ThreadPoolExecutor,
) -> Generator[tuple[slice, np.ndarray], None, None]:
    """Yield (rows, frames [n, channel, lat, lon]) for each `block` of stamps, the next block being read meanwhile.

    `advance` is told, as reads end, how many stamps' worth of data came. The frames belong to the caller until the
    next turn but one. `pool` reads, for all that are read of the store at the same time.

    Raises
    ------
    Stopped
        If `should_stop()` turned true.
    """
    slices = variable_slices(selection.channels)
    shape = (len(selection.channels), store.latitude.size, store.longitude.size)
    buffers = [np.empty((min(block, stamps.size), *shape), np.float32) for _ in range(2 if stamps.size > block else 1)]

    def read(name: str, rows: slice, into: np.ndarray, part: np.ndarray) -> float:
        values = store.read(name, part[rows], selection.levels.get(name))
        into[rows, slices[name]] = values if name in selection.levels else values[:, None]
        return (rows.stop - rows.start) * (slices[name].stop - slices[name].start) / len(selection.channels)

    blocks = [slice(first, min(first + block, stamps.size)) for first in range(0, stamps.size, block)]
    running: set[Future[float]] = set()

    def submit(index: int) -> set[Future[float]]:
        part, into = stamps[blocks[index]], buffers[index % len(buffers)]
        submitted = {pool.submit(read, name, rows, into, part) for name, rows in read_plan(store, selection, part)}
        running.update(submitted)
        return submitted

    try:
        current = submit(0)
        for index, rows in enumerate(blocks):
            upcoming = submit(index + 1) if index + 1 < len(blocks) else set()
            while current:
                done, current = wait(current, timeout=1.0, return_when=FIRST_COMPLETED)
                running.difference_update(done)
                for future in done:
                    advance(future.result())
                if should_stop():
                    raise Stopped("stopped while reading; the segments committed so far are kept")
            yield rows, buffers[index % len(buffers)][: rows.stop - rows.start]
            current = upcoming
    finally:
        wait([future for future in running if not future.cancel()])  # they write into the buffers


def missing_values(frames: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Which channels of which frames have no finite value at a point where there must be one: bool [n, channel]."""
    bad = np.empty(frames.shape[:2], bool)
    everywhere = [bool(there.all()) for there in mask]
    for index, channel in np.ndindex(*bad.shape):
        values = frames[index, channel]
        bad[index, channel] = not np.isfinite(values if everywhere[channel] else values[mask[channel]]).all()
    return bad


def segment_name(stamps: np.ndarray) -> str:
    """The name of the segment that holds these stamps [frame], sorted."""
    return f"{text(stamps[0])}_{text(stamps[-1])}.zarr"


def free_name(manifest: Manifest, stamps: np.ndarray) -> str:
    """A name for a segment of these stamps [frame] that no segment has, nor one that was merged."""
    taken, name = {segment.name for segment in manifest.segments} | manifest.retired.keys(), segment_name(stamps)
    stem, number = name.removesuffix(".zarr"), 1
    while name in taken:
        number += 1
        name = f"{stem}.{number}.zarr"
    return name


def reading_pool(store: ReplayStore, selection: Selection) -> ThreadPoolExecutor:
    """Threads that read a selection from a store, as many as its limits allow."""
    return ThreadPoolExecutor(costs(store, selection).readers, "replay-read")


def write_segment(
    folder: Path,
    store: ReplayStore,
    selection: Selection,
    header: Header,
    mask: np.ndarray,
    stamps: np.ndarray,
    *,
    advance: Callable[[float], None],
    should_stop: Callable[[], bool],
    name: str | None = None,
    pool: ThreadPoolExecutor | None = None,
) -> Segment:
    """Read `stamps` [time] from the store and write them as one segment of the prepared data in `folder`.

    The segment is written under a temporary name, read back bit for bit, forced to disk and renamed. It counts once
    the manifest lists it. `name` is another name than that of its stamps; `mask`, bool [channel, lat, lon], says where
    values must be finite; `pool` reads for other segments too, None for threads of its own.

    Raises
    ------
    UserError
        If the disk is full, or the source cannot be read.
    Stopped
        If `should_stop()` turned true; nothing is left behind.
    """
    name = name or segment_name(stamps)
    path = folder / SEGMENTS / name
    invalid: dict[str, list[str]] = {}
    try:
        with nullcontext(pool) if pool else reading_pool(store, selection) as readers, new_folder(path) as temporary:
            frames, block = create(
                temporary, stamps, header.channels, header.latitude, header.longitude, header.storage
            )
            read = read_frames(store, selection, stamps, block, advance=advance, should_stop=should_stop, pool=readers)
            with closing(read) as blocks:
                for rows, values in blocks:
                    bad = missing_values(values, mask)
                    for row in np.flatnonzero(bad.any(axis=1)):
                        names = {header.channels[channel].variable for channel in np.flatnonzero(bad[row])}
                        invalid[text(stamps[rows][row])] = sorted(names)
                    frames[rows] = values
                    verify(temporary, rows, values)
            files = files_of(temporary)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise UserError(
            f"no room left while writing {path} ({error.strerror}). Nothing half-written remains and the segments "
            "committed so far are kept: free some space and repeat the command"
        ) from error
    return Segment(name, stamps, invalid, files)


def verify(folder: Path, rows: slice, written: np.ndarray) -> None:
    """Read rows of a segment, just `written` [frame, channel, lat, lon], back and compare them bit for bit.

    Raises
    ------
    OSError
        If they differ.
    """
    frames, most = PackedFrames(folder), max(1, VERIFY_BYTES // written[0].nbytes)
    room = np.empty_like(written[:most])
    for first in range(0, len(written), most):
        part = written[first : first + most]
        numbers, found = rows.start + first + np.arange(len(part)), room[: len(part)]
        read_places([frames], np.stack([np.zeros_like(numbers), numbers], axis=1), found)
        if frames.dtype == np.int16:
            part = packing.rounded(part)
        if not np.array_equal(found.view(np.uint32), part.view(np.uint32)):
            raise OSError(errno.EIO, f"what was read back from {folder} differs from what was written")


@dataclass(frozen=True)
class Order:
    """What a worker in another process must know to write segments: where to, from where, and of what experiment.

    `experiment` is what `to_worker` makes of it; `token` is new for each order, so that nothing a worker keeps open
    serves a later one.
    """

    folder: str
    url: str
    experiment: str
    token: str

    @classmethod
    def of(cls, folder: Path, store: ReplayStore, experiment: Experiment) -> Order:
        """The order for segments of an experiment, to be read from an open store."""
        return cls(str(folder), store.url, to_worker(experiment), uuid4().hex)


def write_ordered(order: Order, stamps: np.ndarray) -> Segment:
    """On a worker: write `stamps` [time] as `write_segment` does, under a hidden name that no other attempt has.

    Raises
    ------
    UserError
        As `write_segment`; and if this worker does not see the folder.
    """
    while not TURNS.acquire(timeout=1.0):
        if parallel.abandoned():
            raise Stopped("the segment is not needed any more: its task was cancelled")
    try:
        store, selection, header, mask = _opened(order)
        return write_segment(
            Path(order.folder),
            store, selection, header, mask, stamps, advance=lambda stamps: None, should_stop=parallel.abandoned,
            name=f".{segment_name(stamps)}.{uuid4().hex}",
        )  # fmt: skip
    finally:
        TURNS.release()


@lru_cache(maxsize=2)
def _opened(order: Order) -> tuple[ReplayStore, Selection, Header, np.ndarray]:
    """The open source and what is written already of the prepared data; kept, as each piece of an order needs it."""
    experiment = Experiment.model_validate_json(true(order.experiment))
    folder = Path(order.folder)
    manifest = Manifest.read(folder)
    if manifest is None:
        raise UserError(f"a worker does not see {folder}; all must have the same file system under the same path")
    store = open_at(experiment, order.url)
    return store, select(store, experiment), manifest.header, read_static(folder / STATIC)[0]


def put_in_place(folder: Path, segment: Segment) -> Segment:
    """Give a segment that came from a worker its real name; one that has it is left as it is.

    Raises
    ------
    UserError
        If it is not there as the worker wrote it.
    """
    name = segment_name(segment.stamps)
    if segment.name != name:
        damage = segment.damage(folder)
        if damage:
            raise UserError(f"what a worker wrote is not there ({damage}); all must have the same file system")
        remove_folder(folder / SEGMENTS / name)
        os.rename(folder / SEGMENTS / segment.name, folder / SEGMENTS / name)
        fsync(folder / SEGMENTS)
    return replace(segment, name=name)


def remove_hidden(folder: Path) -> None:
    """Remove segments that were begun and came to nothing. A worker that still writes one is not waited for."""
    for path in (folder / SEGMENTS).glob(".*"):
        shutil.rmtree(path, ignore_errors=True)
