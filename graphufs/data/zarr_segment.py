"""One segment of frames on disk: a zarr array [time, channel, lat, lon] in which one frame is one read.

The inner chunk is a frame, frames are packed along time into shards of about a hundred megabytes (few files, which
parallel file systems like), and nothing is compressed, so that a frame is one stretch of one file. Each frame has its
CRC-32C, which is compared the first time that it is read after opening, since that takes half as long as reading from
the page cache; segments of earlier versions have none. Read by positioned reads straight into the caller's buffer,
neighbours by one. Shards are written here, byte for byte as by zarr-python, which keeps the event loop meanwhile that
also brings what is read from far away. Compression halved the files and took 1.4 times the CPU time for small frames.

Where they are packed to 16 bits (graphufs.storage.packing), `frames` holds the codes, and `scales` what they mean.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from zarr.codecs import Crc32cCodec

from graphufs.data.channels import PreparedChannel
from graphufs.storage import packing

FRAMES, SCALES = "frames", "scales"
SHARD_BYTES = 128 * 2**20
READERS = 4
"""Reads at once of one call: a disk, or a parallel file system, is idle while a single one waits for its answer."""
INDICES = 4096
"""Shards whose index is remembered, which would otherwise be read again for each frame; some kilobytes each."""
MOST_BUFFERS = 512
"""Frames of one read, each with its checksum: systems take 1,024 buffers."""
CHECKSUM_BYTES = 4
GAP_BYTES = 16 * 2**10
"""What lies between two wanted stretches of a field is read, too, up to so much: that is faster than one more read."""
BLOCK_BYTES = 2**20
"""Of fields of which a part is wanted, read at once: they stay in a cache until it is taken out of them."""
NOWHERE = 2**64 - 1
"""The offset of a frame that was never written, which stands for NaN."""


def frames_per_shard(count: int, frame_bytes: int) -> int:
    """How many of `count` frames lie in one shard: as even as can be, none above SHARD_BYTES unless a frame is."""
    most = max(1, SHARD_BYTES // frame_bytes)
    shards = -(-count // most)
    return -(-count // shards)


def create(
    folder: Path,
    stamps: np.ndarray,
    channels: Sequence[PreparedChannel],
    latitude: np.ndarray,
    longitude: np.ndarray,
    storage: str = "float32",
) -> tuple[Frames | Packing, int]:
    """Create an empty segment that xarray can open too; return its [frame, channel, lat, lon] and frames a shard."""
    group = zarr.create_group(str(folder), overwrite=True)
    shape = (stamps.size, len(channels), latitude.size, longitude.size)
    dtype = np.dtype(storage)
    per_shard = frames_per_shard(shape[0], 4 * shape[1] * shape[2] * shape[3])
    names = ("time", "channel", "latitude", "longitude")
    frames = group.create_array(
        FRAMES,
        shape=shape,
        dtype=dtype,
        chunks=(1, *shape[1:]),
        shards=(per_shard, *shape[1:]),
        compressors=Crc32cCodec(),
        filters=None,
        fill_value=np.nan if dtype.kind == "f" else int(packing.NONE),
        dimension_names=names,
        config={"write_empty_chunks": True},
    )
    hours = (stamps - np.datetime64("1970-01-01T00")) // np.timedelta64(1, "h")
    coordinates: dict[str, tuple[np.ndarray, str, dict[str, Any]]] = {
        "time": (hours.astype(np.int64), "time", {"units": "hours since 1970-01-01", "calendar": "standard"}),
        "latitude": (latitude, "latitude", {"units": "degrees_north"}),
        "longitude": (longitude, "longitude", {"units": "degrees_east"}),
        "level": (np.array([_number(channel.level) for channel in channels]), "channel", {}),
        "native_level": (np.array([_number(channel.native) for channel in channels]), "channel", {}),
    }
    for name, (values, dimension, attributes) in coordinates.items():
        array = group.create_array(name, shape=values.shape, dtype=values.dtype, dimension_names=(dimension,))
        array[:] = values
        array.attrs.update(attributes)
    group.attrs["variables"] = [channel.variable for channel in channels]
    if dtype.kind == "f":
        return Frames(frames, folder / FRAMES, per_shard), per_shard
    of_scales = {"shape": (*shape[:2], 2), "dimension_names": ("time", "channel", "scale")}
    scales = group.create_array(SCALES, dtype="float32", fill_value=np.nan, **of_scales)  # type: ignore[arg-type]
    return Packing(Frames(frames, folder / FRAMES, per_shard), scales), per_shard


@dataclass(frozen=True)
class Frames:
    """Frames [frame, channel, lat, lon] that are written as they are assigned, in whole shards."""

    array: zarr.Array[Any]
    folder: Path
    per_shard: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of all frames."""
        return self.array.shape

    def __setitem__(self, rows: slice, values: np.ndarray) -> None:
        first, stop, _ = rows.indices(self.shape[0])
        if first % self.per_shard or (stop < self.shape[0] and stop % self.per_shard) or len(values) != stop - first:
            raise ValueError(f"{len(values)} frames for the rows {first} to {stop} are no whole shards")
        for begin in range(first, stop, self.per_shard):
            part = np.ascontiguousarray(values[begin - first :][: self.per_shard], self.array.dtype)
            self._write(self.folder / "c" / str(begin // self.per_shard) / "0/0/0", part)

    def _write(self, path: Path, frames: np.ndarray) -> None:
        """Write a shard, the last of which may have fewer frames than it has places."""
        path.parent.mkdir(parents=True, exist_ok=True)
        index = np.full((self.per_shard, 2), NOWHERE, "<u8")
        index[: len(frames), 1] = size = frames[0].nbytes + CHECKSUM_BYTES
        index[: len(frames), 0] = size * np.arange(len(frames))
        with open(path, "wb") as file:
            for content in (*frames, index):
                file.write(content.data)
                file.write(_checksum(content).tobytes())


def _checksum(content: np.ndarray) -> np.ndarray:
    """The CRC-32C of an array, as it is written."""
    return np.array(google_crc32c.value(content.reshape(-1).view(np.uint8)), "<u4")


@dataclass(frozen=True)
class Packing:
    """Frames float32 [frame, channel, lat, lon] that are packed as they are assigned."""

    frames: Frames
    scales: zarr.Array[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of all frames."""
        return self.frames.shape

    def __setitem__(self, rows: slice, values: np.ndarray) -> None:
        self.frames[rows], self.scales[rows] = packing.pack(values)


@dataclass(frozen=True)
class Place:
    """Frames that lie one after the other in one shard, and the rows of a buffer for them."""

    segment: int
    shard: int
    first: int
    rows: slice


@dataclass(frozen=True, eq=False)
class Part:
    """Some grid points of every frame, for one of several processes that share what they read."""

    points: np.ndarray
    """Numbers of points [point] in a field [lat * lon], in any order, repeats allowed."""
    reader: tuple[int, int] = (0, 1)
    """(this process, processes): each compares the checksums of its share of the frames, for which it reads them whole,
    once; what one finds damaged ends them all."""

    def compares(self, frame: int) -> bool:
        """Whether this process compares the checksum of a frame of some number."""
        return frame % self.reader[1] == self.reader[0]


@lru_cache(64)
def _stretches(part: Part, channels: int, size: int, itemsize: int) -> list[tuple[int, int]]:
    """First and last byte, not included, of what is read of fields [channel, point] of so many points."""
    wanted = np.unique(part.points)
    breaks = np.flatnonzero(np.diff(wanted) > 1)
    fields = np.arange(channels)[:, None] * size
    first = (fields + wanted[[0, *(breaks + 1)]]).ravel() * itemsize
    last = (fields + wanted[[*breaks, -1]] + 1).ravel() * itemsize
    far = np.flatnonzero(first[1:] - last[:-1] > GAP_BYTES)
    return list(zip(first[[0, *(far + 1)]].tolist(), last[[*far, -1]].tolist(), strict=True))


class PackedFrames:
    """Reads the frames of one segment; safe to use from several threads. It keeps nothing open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FRAMES
        self._place = str(self._folder / "c")
        array = json.loads((self._folder / "zarr.json").read_bytes())
        self.shape: tuple[int, ...] = tuple(array["shape"])
        self.per_shard = int(array["chunk_grid"]["configuration"]["chunk_shape"][0])
        (sharding,) = array["codecs"]
        codecs = [codec["name"] for codec in sharding["configuration"]["codecs"]]
        if codecs not in (["bytes"], ["bytes", "crc32c"]):
            raise ValueError(f"{self._folder / 'zarr.json'} has the codecs {', '.join(codecs)}")
        self._checksums = len(codecs) > 1
        self._compared: dict[tuple[int, int], np.ndarray] = {}
        self.dtype = np.dtype(array["data_type"])
        self._bytes = self.dtype.itemsize * int(np.prod(self.shape[1:]))
        self._bytes += CHECKSUM_BYTES if self._checksums else 0
        self._scales: np.ndarray | None = None

    def read(self, shard: int, first: int, out: np.ndarray, part: Part | None = None) -> None:
        """Fill `out` [n, channel, lat, lon] with neighbouring frames of a shard; [n, channel, 1, point] with a part.

        Raises
        ------
        ValueError
            If they are not what was written. What the system refuses is an OSError.
        """
        if self.dtype == np.int16:
            codes = np.empty(out.shape, np.int16)
            self._read(shard, first, codes, part)
            begin = shard * self.per_shard + first
            packing.unpack(codes, self._scales_of(slice(begin, begin + len(out))), out)
        else:
            self._read(shard, first, out, part)

    def _scales_of(self, rows: slice) -> np.ndarray:
        """What the codes of some frames mean, float32 [n, channel, 2]."""
        if self._scales is None or not np.isfinite(self._scales[rows]).all():  # or they were written meanwhile
            self._scales = np.asarray(zarr.open_array(self._folder.with_name(SCALES), mode="r")[:])
        found: np.ndarray = self._scales[rows]
        return found

    def _read(self, shard: int, first: int, out: np.ndarray, part: Part | None) -> None:
        """Fill `out` with what lies on disk of neighbouring frames."""
        path = f"{self._place}/{shard}/0/0/0"
        descriptor = os.open(path, os.O_RDONLY)
        try:
            written = os.fstat(descriptor).st_mtime_ns
            offsets = _index(path, written, self.per_shard)
            compared = self._compared.get((shard, written))
            if compared is None:
                compared = self._compared.setdefault((shard, written), np.zeros(self.per_shard, bool))
            if part is not None:
                rows = slice(first, first + len(out))
                self._fill_part(descriptor, offsets[rows], out, compared[rows], part, shard * self.per_shard + first)
                return
            for begin in range(0, len(out), MOST_BUFFERS):
                rows = slice(first + begin, first + min(begin + MOST_BUFFERS, len(out)))
                self._fill(descriptor, offsets[rows], out[begin : begin + MOST_BUFFERS], compared[rows])
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        finally:
            os.close(descriptor)

    def _fill(self, descriptor: int, offsets: np.ndarray, out: np.ndarray, compared: np.ndarray) -> None:
        """Read frames at `offsets` [n], by one read where they lie side by side; `compared` says of which all is known.

        The latter is bool [n], and becomes True.
        """
        checksums = bytearray(CHECKSUM_BYTES * len(out))
        begins, ends, summed = offsets.tolist(), memoryview(checksums), self._checksums
        breaks = [row for row in range(1, len(begins)) if begins[row] - begins[row - 1] != self._bytes]
        for first, last in pairwise([0, *breaks, len(out)]):
            if begins[first] == NOWHERE:
                out[first:last] = np.nan if out.dtype == np.float32 else packing.NONE
                continue
            buffers = []
            for row in range(first, last):
                buffers.append(out[row].data.cast("B"))
                if summed:
                    buffers.append(ends[CHECKSUM_BYTES * row : CHECKSUM_BYTES * (row + 1)])
            _whole(descriptor, buffers, begins[first])
        if summed and not compared.all():
            for row in np.flatnonzero(~compared & (offsets != NOWHERE)).tolist():
                if _checksum(out[row]) != np.frombuffer(checksums, "<u4")[row]:
                    raise ValueError(f"the checksum of the frame at byte {begins[row]} differs")
            compared[:] = True

    def _fill_part(
        self, descriptor: int, offsets: np.ndarray, out: np.ndarray, compared: np.ndarray, part: Part, number: int
    ) -> None:
        """Read a part of frames at `offsets` [n], the first of which has this number in the segment."""
        channels, size = self.shape[1], self.shape[2] * self.shape[3]
        block = np.empty((max(1, BLOCK_BYTES // (size * self.dtype.itemsize)), size), self.dtype)
        for row, offset in enumerate(offsets.tolist()):
            if offset == NOWHERE:
                out[row] = np.nan if out.dtype == np.float32 else packing.NONE
                continue
            compares = self._checksums and not compared[row] and part.compares(number + row)
            at, checksum = offset, 0
            for begin in range(0, channels, len(block)):
                fields = block[: channels - begin]
                view = fields.data.cast("B")
                whole = [(0, view.nbytes)]
                for first, last in whole if compares else _stretches(part, *fields.shape, fields.itemsize):
                    _whole(descriptor, [view[first:last]], at + first)
                checksum = google_crc32c.extend(checksum, fields.reshape(-1).view(np.uint8)) if compares else 0
                np.take(fields, part.points, axis=1, out=out[row, begin : begin + len(fields), 0], mode="clip")
                at += view.nbytes
            if compares and checksum.to_bytes(CHECKSUM_BYTES, "little") != os.pread(descriptor, CHECKSUM_BYTES, at):
                raise ValueError(f"the checksum of the frame at byte {offset} differs")
            compared[row] |= compares


def _whole(descriptor: int, buffers: list[memoryview], offset: int) -> None:
    """Fill all buffers from `offset` on. A system may give less at once than was asked for, as above 2 GiB."""
    while buffers:
        got = os.preadv(descriptor, buffers, offset)
        if got == 0:
            raise ValueError("it was cut off")
        if got == sum(buffer.nbytes for buffer in buffers):
            return
        offset += got
        while buffers and got >= buffers[0].nbytes:
            got -= buffers.pop(0).nbytes
        if got:
            buffers[0] = buffers[0][got:]


@lru_cache(INDICES)
def _index(path: str, written: int, frames: int) -> np.ndarray:
    """Where the frames of a shard begin, uint64 [frame]; its index is its end, `written` then [ns since the epoch]."""
    with open(path, "rb") as file:
        size = 16 * frames + CHECKSUM_BYTES
        if os.fstat(file.fileno()).st_size < size:
            raise ValueError("it was cut off")
        file.seek(-size, os.SEEK_END)
        index = file.read(size)
    if google_crc32c.value(index[:-CHECKSUM_BYTES]) != int.from_bytes(index[-CHECKSUM_BYTES:], "little"):
        raise ValueError("the checksum of its index differs")
    return np.frombuffer(index[:-CHECKSUM_BYTES], "<u8")[::2]


class Unreadable(ValueError):
    """Frames that cannot be read, or are not what was written; `segment` is the number of theirs."""

    def __init__(self, segment: int, why: str) -> None:
        super().__init__(why)
        self.segment = segment


def read_places(
    segments: Sequence[PackedFrames], places: np.ndarray, out: np.ndarray, part: Part | None = None
) -> None:
    """Fill `out` [n, channel, lat, lon] with the frames at `places` [n, 2] (segment, frame).

    With a part of each, `out` is [n, channel, 1, point].

    Raises
    ------
    Unreadable
        If one is not what was written.
    """

    def read(chosen: Sequence[Place]) -> None:
        for place in chosen:
            try:
                segments[place.segment].read(place.shard, place.first, out[place.rows], part)
            except (ValueError, OSError) as error:
                raise Unreadable(place.segment, str(error)) from error

    todo = list(_cut(segments, places))
    if len(todo) < 2:
        return read(todo)
    for _ in _pool(os.getpid()).map(read, [todo[start::READERS] for start in range(min(READERS, len(todo)))]):
        pass


def _cut(segments: Sequence[PackedFrames], places: np.ndarray) -> Iterator[Place]:
    """The stretches of neighbouring frames."""
    if not len(places):
        return
    breaks = np.flatnonzero((np.diff(places[:, 0]) != 0) | (np.diff(places[:, 1]) != 1)) + 1
    for begin, end in pairwise([0, *breaks.tolist(), len(places)]):
        number, first = int(places[begin, 0]), int(places[begin, 1])
        per_shard = segments[number].per_shard
        while begin < end:
            shard, within = divmod(first, per_shard)
            count = min(end - begin, per_shard - within)
            yield Place(number, shard, within, slice(begin, begin + count))
            begin, first = begin + count, first + count


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """The threads that read, for the `process`: a fork has none."""
    return ThreadPoolExecutor(READERS, "frames")


def _number(level: float | None) -> float:
    return np.nan if level is None else level
