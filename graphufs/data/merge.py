"""Merging segments: those that the nights of a month left become one, so that years of nights open as fast as years.

A segment has a dozen files, however few frames it holds. The months before the newest one are merged, each into one
segment, or several where it is large. Merged ones are written and committed as all others are; the segments they
replace are kept on disk as `retired` for some time, since who opened the data before goes on reading them. Killed at
any moment, what is committed stays, and merging is repeated.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np

from graphufs.data.commits import Commits
from graphufs.data.manifest import SEGMENTS, Header, Manifest, Segment, places
from graphufs.data.segments import DISK_FULL, free_name, verify
from graphufs.data.zarr_segment import PackedFrames, create, read_places
from graphufs.errors import Stopped, UserError
from graphufs.replay.times import text
from graphufs.storage.atomic import new_folder, remove_folder
from graphufs.storage.checksums import files_of
from graphufs.storage.lock import locked

MERGED_BYTES = 16 * 2**30
"""Bytes a merged segment may have: a kill loses minutes, also where a month is hundreds of gigabytes."""

Group = tuple[Segment, ...]
"""Segments that become one."""


def groups(manifest: Manifest) -> list[Group]:
    """The segments to merge: neighbours of one month, two or more; not those of the newest month, which still grows."""
    if not manifest.segments:
        return []
    newest = _month(manifest.stamps[-1])
    frame = manifest.header.frame_bytes
    found: list[list[Segment]] = []
    for month, segments in groupby(manifest.segments, key=lambda segment: _month(segment.stamps[0])):
        room = 0
        for segment in segments:
            size = frame * segment.stamps.size
            if month >= newest or _month(segment.stamps[-1]) != month:
                continue
            if room < size:
                found.append([])
                room = max(MERGED_BYTES, size)
            found[-1].append(segment)
            room -= size
    return [tuple(group) for group in found if len(group) > 1]


def merge(folder: Path, *, should_stop: Callable[[], bool]) -> tuple[int, int]:
    """Merge what can be merged of the prepared data in a folder; how many segments became how many.

    Raises
    ------
    UserError
        If a segment is damaged: it stays, and `prepare` repairs it.
    Stopped
        If another process prepares the same data, or `should_stop()` turned true; what is committed stays.
    """
    with _alone(folder):
        manifest = Manifest.read(folder)
        todo = groups(manifest) if manifest is not None else []
        if manifest is None or not todo:
            return 0, 0
        with Commits(folder, manifest) as commits:
            for group in todo:
                commits.add(_merged(folder, manifest, group, should_stop), instead_of=group)
    return sum(map(len, todo)), len(todo)


def expired(manifest: Manifest, before: float) -> list[str]:
    """The names of the segments that were merged into others earlier than `before` [s since the epoch]."""
    return sorted(name for name, since in manifest.retired.items() if since < before)


def remove_expired(folder: Path, before: float) -> None:
    """Remove the segments that were merged into others before a time [s since the epoch].

    Raises
    ------
    UserError
        If the manifest cannot be read.
    Stopped
        If another process prepares the same data.
    """
    with _alone(folder):
        manifest = Manifest.read(folder)
        names = expired(manifest, before) if manifest is not None else []
        if manifest is None or not names:
            return
        kept = {name: since for name, since in manifest.retired.items() if name not in names}
        replace(manifest, retired=kept).write(
            folder
        )  # what a kill leaves now, is listed nowhere, and `prepare` removes
        for name in names:
            remove_folder(folder / SEGMENTS / name)


def _alone(folder: Path) -> AbstractContextManager[None]:
    return locked(folder, should_stop=lambda: True, waiting=lambda: None)


def _month(stamp: np.datetime64) -> np.datetime64:
    return stamp.astype("datetime64[M]")


def _merged(folder: Path, manifest: Manifest, group: Group, should_stop: Callable[[], bool]) -> Segment:
    """Write the frames of segments as one segment, which the manifest does not list yet."""
    for segment in group:
        if damage := segment.damage(folder, thorough=True):
            segment.suspect(folder)
            raise UserError(f"prepared data are damaged: {damage}; run `graphufs prepare`, it repairs them")
    stamps, where = places(group)
    invalid = {}
    for stamp, (number, _) in zip(map(text, stamps), where, strict=True):
        if names := group[number].invalid.get(stamp):
            invalid[stamp] = names
    name = free_name(manifest, stamps)
    written = max((folder / SEGMENTS / segment.name).stat().st_mtime for segment in group)
    try:
        with new_folder(folder / SEGMENTS / name) as temporary:
            _copy(folder, manifest.header, group, stamps, where, temporary, should_stop)
            files = files_of(temporary)
            os.utime(temporary, (written, written))  # by which `late` knows when stamps were found with missing values
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise UserError(f"no room left to merge segments in {folder} ({error.strerror}); all is as it was") from error
    return Segment(name, stamps, invalid, files)


def _copy(
    folder: Path,
    header: Header,
    group: Sequence[Segment],
    stamps: np.ndarray,
    where: np.ndarray,
    into: Path,
    should_stop: Callable[[], bool],
) -> None:
    """Copy frames at `stamps` [frame], which lie `where` [frame, 2] in the segments, a shard at a time."""
    sources = [PackedFrames(folder / SEGMENTS / segment.name) for segment in group]
    frames, block = create(into, stamps, header.channels, header.latitude, header.longitude, header.storage)
    buffer = np.empty((min(block, stamps.size), *frames.shape[1:]), np.float32)
    for first in range(0, stamps.size, block):
        if should_stop():
            raise Stopped("stopped while merging; what is merged is kept")
        part = where[first : first + block]
        values = buffer[: len(part)]
        read_places(sources, part, values)
        frames[first : first + len(part)] = values
        verify(into, slice(first, first + len(part)), values)
