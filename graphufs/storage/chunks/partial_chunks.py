"""Of a chunk in an object store, only the blocks travel that hold what is wanted, where Blosc compressed it.

A Blosc chunk is a row of independent blocks (half a megabyte each, as zarr's defaults make them) behind a header that
says where each begins. So three levels of whole columns take a twentieth of a chunk's bytes, and of the time to decode
it. What comes out is bit for bit what the whole chunk gives. Chunks of other codecs come whole, as do those of which
most is wanted, and files, which a system reads faster than the ranges could be found.

The format of a chunk: https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numcodecs
import numpy as np
import zarr
from zarr.abc.store import RangeByteRequest
from zarr.codecs._v2 import V2Codec
from zarr.storage import StorePath

from graphufs.storage.chunks.whole_chunks import HEADER_BYTES, RATIO, ROOM, BoundedChunks
from graphufs.storage.object_stores import PatientStore, UpTo

START_BYTES = 4096
"""Of the first request: the header and where 1,020 blocks begin."""
WORTH = 0.6
"""The share of a chunk up to which its parts are asked for: each takes a request of its own."""
GAP_BYTES = 2**17
"""Bytes between two blocks that are read with them, since another request takes longer."""
AT_LEAST = 2**20
"""Decoded bytes of a chunk of which parts are asked for."""
USUAL_BLOCK = 2**19
"""Bytes of a block, as zarr's defaults make them; chunks far below a megabyte have smaller ones."""
KEPT_BYTES = 2**24
"""Filled bytes of a chunk that a thread keeps for the next: to get pages from the system took longer than to decode."""
PLAIN = 0x2
"""The flag of a chunk that is not compressed."""


@lru_cache(maxsize=1)
def require() -> None:
    """Have zarr read parts of chunks from now on, and whole ones within bounds, as `whole_chunks.require` has it."""
    zarr.registry.register_pipeline(PartialPipeline)
    zarr.config.set({"codec_pipeline.path": f"{PartialPipeline.__module__}.{PartialPipeline.__qualname__}"})


@dataclass(frozen=True)
class Header:
    """What the first bytes of a Blosc chunk say."""

    start: bytes
    decoded: int
    block: int
    encoded: int
    begins: np.ndarray
    """Where each block begins, int64 [block]."""

    @classmethod
    def of(cls, start: bytes) -> Header | None:
        """The header in a chunk's `start`; None if there is more of it, or the blocks cannot be told apart."""
        if len(start) < HEADER_BYTES or start[2] & PLAIN:
            return None
        decoded, block, encoded = np.frombuffer(start[4:HEADER_BYTES], "<u4").astype(int).tolist()
        blocks = -(-decoded // block) if block else 0
        end = HEADER_BYTES + 4 * blocks
        if blocks < 2 or len(start) < end:
            return None
        return cls(
            start[:HEADER_BYTES], decoded, block, encoded, np.frombuffer(start[HEADER_BYTES:end], "<i4").astype(int)
        )

    @property
    def ends(self) -> np.ndarray:
        """Where each block ends, int64 [block]: threads may have written them in any order."""
        ordered = np.append(np.sort(self.begins), self.encoded)
        return ordered[np.searchsorted(ordered, self.begins, side="right")]

    def blocks(self, wanted: np.ndarray) -> np.ndarray:
        """The numbers [block] of the blocks that hold decoded bytes `wanted` [n, 2] (first, behind the last)."""
        counts = np.zeros(self.begins.size + 1, int)
        np.add.at(counts, wanted[:, 0] // self.block, 1)
        np.add.at(counts, (wanted[:, 1] - 1) // self.block + 1, -1)
        found = np.cumsum(counts[:-1]) > 0
        if found[-1]:
            found[-2] = True  # the last, if shorter, is no chunk of its own for Blosc
        return np.flatnonzero(found)

    def chunk(self, number: int, parts: Sequence[bytes]) -> bytes:
        """Neighbouring blocks, from `number` on, as a Blosc chunk."""
        decoded = min(self.decoded, (number + len(parts)) * self.block) - number * self.block
        first = HEADER_BYTES + 4 * len(parts)
        begins = first + np.cumsum([0, *map(len, parts)])
        sizes = np.array([decoded, self.block, begins[-1]], "<u4").tobytes()
        return b"".join([self.start[:4], sizes, begins[:-1].astype("<i4").tobytes(), *parts])


def bytes_read(shape: Sequence[int], selection: Sequence[Any], itemsize: int, encoding: Mapping[str, Any]) -> int:
    """Decoded bytes of what is read of a chunk in an object store: of its blocks, or all of it.

    `selection` has one entry an axis, `encoding` is a variable's as xarray tells it; blocks are taken to be of
    USUAL_BLOCK bytes.
    """
    size = itemsize * math.prod(shape)
    codecs: Sequence[Any] = encoding.get("compressors") or ()
    if len(codecs) != 1 or not isinstance(codecs[0], numcodecs.Blosc) or encoding.get("filters"):
        return size
    wanted = selected_bytes(shape, selection, itemsize)
    if size < max(AT_LEAST, 2 * USUAL_BLOCK) or np.diff(wanted).sum() > WORTH * size:
        return size
    blocks = Header(b"", size, USUAL_BLOCK, size, np.arange(-(-size // USUAL_BLOCK))).blocks(wanted)
    return min(size, blocks.size * USUAL_BLOCK)


class PartialPipeline(BoundedChunks):
    """Zarr's way from bytes to chunks, which asks remote stores for parts of Blosc chunks."""

    async def read_batch(self, batch_info: Iterable[Any], out: Any, drop_axes: tuple[int, ...] = ()) -> None:
        """Read what is selected of some chunks into `out`; see zarr."""
        whole, parts = [], []
        for item in batch_info:
            wanted = self._wanted(*item[:3])
            if wanted is None:
                whole.append(item)
            else:
                parts.append((item, wanted))
        if parts:
            await asyncio.gather(*(self._read_parts(item, wanted, out, drop_axes) for item, wanted in parts))
        if whole or not parts:
            await super().read_batch(whole, out, drop_axes)

    def _wanted(self, getter: Any, spec: Any, selection: Any) -> np.ndarray | None:
        """The decoded bytes that are selected of a chunk, int64 [n, 2]; None where it is read whole."""
        codec = self.array_bytes_codec
        if not (isinstance(getter, StorePath) and isinstance(getter.store, PatientStore)):
            return None
        if not (isinstance(codec, V2Codec) and isinstance(codec.compressor, numcodecs.Blosc) and not codec.filters):
            return None
        itemsize = spec.dtype.to_native_dtype().itemsize
        size = itemsize * int(np.prod(spec.shape))
        if (
            spec.order != "C"
            or size < AT_LEAST
            or not isinstance(selection, tuple)
            or len(selection) != len(spec.shape)
        ):
            return None
        found = selected_bytes(spec.shape, selection, itemsize)
        return found if np.diff(found).sum() <= WORTH * size else None

    async def _read_parts(self, item: Any, wanted: np.ndarray, out: Any, drop_axes: tuple[int, ...]) -> None:
        getter, spec, selection, place, _ = item
        start = await getter.get(spec.prototype, UpTo(0, START_BYTES))
        header = None if start is None else Header.of(start.to_bytes())
        size = spec.dtype.to_native_dtype().itemsize * int(np.prod(spec.shape))
        decompress: Any = self.array_bytes_codec.compressor  # type: ignore[attr-defined]
        if header is None or header.decoded != size or size > max(ROOM, RATIO * header.encoded):
            await super().read_batch([item], out, drop_axes)
            return
        numbers = header.blocks(wanted)
        blocks = await self._blocks(getter, spec, header, numbers)

        def decode() -> None:
            chunk = _room(size, header.block * numbers.size)
            for run in np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1):
                first, last = int(run[0]) * header.block, min((int(run[-1]) + 1) * header.block, size)
                part = header.chunk(int(run[0]), [blocks[number] for number in run.tolist()])
                decompress.decode(part, out=chunk[first:last])
            values = chunk.view(spec.dtype.to_native_dtype()).reshape(spec.shape)[selection]
            out[place] = values.squeeze(axis=drop_axes) if drop_axes else values

        await asyncio.to_thread(decode)

    async def _blocks(self, getter: Any, spec: Any, header: Header, numbers: np.ndarray) -> dict[int, bytes]:
        """The blocks with these numbers, by number, read by as few requests as are worth it."""
        begins, ends = header.begins[numbers], header.ends[numbers]
        order = np.argsort(begins)
        groups = np.split(order, np.flatnonzero(begins[order][1:] - ends[order][:-1] > GAP_BYTES) + 1)

        async def fetch(group: np.ndarray) -> dict[int, bytes]:
            first = int(begins[group[0]])
            got = await getter.get(spec.prototype, RangeByteRequest(first, int(ends[group[-1]])))
            if got is None:
                raise OSError(f"{getter} is gone")
            text = got.to_bytes()
            return {int(numbers[one]): text[begins[one] - first : ends[one] - first] for one in group}

        found: dict[int, bytes] = {}
        for part in await asyncio.gather(*map(fetch, groups)):
            found |= part
        return found


class _Kept(threading.local):
    room = np.empty(0, np.uint8)


_KEPT = _Kept()


def _room(size: int, filled: int) -> np.ndarray:
    """Room for a chunk, uint8 [size], for this thread until it asks again; what is not filled takes no memory."""
    if filled > KEPT_BYTES:
        return np.empty(size, np.uint8)
    if _KEPT.room.size != size:
        _KEPT.room = np.empty(size, np.uint8)
    return _KEPT.room


def selected_bytes(shape: Sequence[int], selection: Sequence[Any], itemsize: int) -> np.ndarray:
    """The bytes of a selection, one entry an axis, of an array in C order: int64 [n, 2] (first, behind the last)."""
    chosen = [
        np.unique(np.arange(length)[one.ravel() if isinstance(one, np.ndarray) else one])
        for length, one in zip(shape, selection, strict=True)
    ]
    partial = [axis for axis, one in enumerate(chosen) if one.size < shape[axis]]
    last = partial[-1] + 1 if partial else 0
    rows = (
        np.ravel_multi_index(np.meshgrid(*chosen[:last], indexing="ij"), shape[:last]).ravel() if last else np.zeros(1)
    )
    inner = itemsize * int(np.prod(shape[last:]))
    first = rows.astype(np.int64) * inner
    return np.stack([first, first + inner], axis=1)
