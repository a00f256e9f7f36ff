"""One segment of frames on disk: a zarr array [time, channel, lat, lon] in which one frame is one read.

The inner chunk is a frame, frames are packed along time into shards of about a hundred megabytes (few files, which
parallel file systems like), and nothing is compressed, so that a frame is one stretch of one file. Each frame has its
CRC-32C, which is compared whenever it is read; segments of earlier versions have none. Written with
zarr-python, read with tensorstore into the caller's buffer: in shuffled order and from a warm cache, frames of 0.14 MB
came five times as fast as through zarr-python, frames of 5 MB up to twice as fast. Compression halved the files and
took 1.4 times the CPU time for small frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore
import zarr
from zarr.codecs import Crc32cCodec

from graphufs.data.channels import PreparedChannel

FRAMES = "frames"
SHARD_BYTES = 128 * 2**20
CACHE_BYTES = 64 * 2**20
"""For the shards' indices, which would otherwise be read again for each frame."""


def frames_per_shard(count: int, frame_bytes: int) -> int:
    """How many of `count` frames lie in one shard: as even as can be, none above SHARD_BYTES unless a frame is."""
    most = max(1, SHARD_BYTES // frame_bytes)
    shards = -(-count // most)
    return -(-count // shards)


def create(
    folder: Path, stamps: np.ndarray, channels: Sequence[PreparedChannel], latitude: np.ndarray, longitude: np.ndarray
) -> tuple[zarr.Array[Any], int]:
    """Create an empty segment that xarray can open too; return its [frame, channel, lat, lon] and frames a shard."""
    group = zarr.create_group(str(folder), overwrite=True)
    shape = (stamps.size, len(channels), latitude.size, longitude.size)
    per_shard = frames_per_shard(shape[0], 4 * shape[1] * shape[2] * shape[3])
    names = ("time", "channel", "latitude", "longitude")
    frames = group.create_array(
        FRAMES,
        shape=shape,
        dtype="float32",
        chunks=(1, *shape[1:]),
        shards=(per_shard, *shape[1:]),
        compressors=Crc32cCodec(),
        filters=None,
        fill_value=np.nan,
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
    return frames, per_shard


class PackedFrames:
    """Reads the frames of one segment; safe to use from several threads."""

    def __init__(self, folder: Path, context: tensorstore.Context | None = None) -> None:
        self._array = tensorstore.open(
            {
                "driver": "zarr3",
                "kvstore": {"driver": "file", "path": str(folder / FRAMES)},
                "recheck_cached_data": "open",
                "recheck_cached_metadata": "open",
            },
            context=context or new_context(),
            read=True,
        ).result()
        self.shape: tuple[int, ...] = tuple(self._array.shape)

    def start_read(self, first: int, out: np.ndarray) -> Any:
        """Begin to fill `out` [n, channel, lat, lon] with frames from `first` on; return a future."""
        rows = self._array[first : first + out.shape[0]].translate_to[(0,) * 4]
        # Writing into a wrapped buffer spares the fresh pages, which cost more than the read itself.
        return tensorstore.array(out, copy=False).write(rows)


def start_reads(segments: Sequence[PackedFrames], places: np.ndarray, out: np.ndarray) -> list[tuple[int, Any]]:
    """Begin to fill `out` [n, channel, lat, lon] with the frames at `places` [n, 2] (segment, frame).

    Returns futures, each with its segment's number: neighbouring frames of one segment come as one read.
    """
    breaks = np.flatnonzero((np.diff(places[:, 0]) != 0) | (np.diff(places[:, 1]) != 1)) + 1
    edges = [0, *breaks.tolist(), len(places)] if len(places) else [0]
    return [
        (int(places[first, 0]), segments[places[first, 0]].start_read(int(places[first, 1]), out[first:last]))
        for first, last in pairwise(edges)
    ]


def new_context() -> tensorstore.Context:
    """A tensorstore context whose cache is shared by the arrays opened with it."""
    return tensorstore.Context({"cache_pool": {"total_bytes_limit": CACHE_BYTES}})


def _number(level: float | None) -> float:
    return np.nan if level is None else level
