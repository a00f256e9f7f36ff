"""Chunks of zarr stores are decoded only if they are whole, no larger than their array says, and hold numbers.

Blosc itself does not look at how many bytes it is given: with lz4, zarr's default, it decodes what lies behind them in
memory. A chunk is short when a connection ended early and no length was announced, or a file was cut off.

No codec of zarr looks at how many bytes it makes either, so that a chunk of a megabyte could fill the memory; and some
codecs make any object, which is to say that they run what the store's writer wants. All of that is refused before.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import math
import zlib
from collections.abc import Iterable
from contextvars import ContextVar
from functools import cached_property, lru_cache
from typing import Any, Self

import numcodecs
import numpy as np
import zarr.registry
from numcodecs.compat import ensure_contiguous_ndarray, ndarray_copy
from zarr.abc.codec import Codec
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer
from zarr.core.codec_pipeline import BatchedCodecPipeline

from graphufs.errors import UserError
from graphufs.storage.chunks.zstd_frames import most_bytes

HEADER_BYTES = 16
"""Of a Blosc chunk; its last four are the chunk's length in bytes, little-endian, the header included."""
ROOM, RATIO = 2**26, 100
"""Bytes that any chunk may unpack to, and how many times its own size a larger one may; weather has 1.5 to 5."""
PIECE_BYTES = 2**24
"""Unpacked at once."""
OF_OBJECTS = {"pickle", "json2", "msgpack2", "categorize", "vlen-array"}
"""Codecs of numcodecs that make objects, or run what a pickle says."""

_most: ContextVar[int] = ContextVar("most", default=2**62)
"""Bytes that a codec may make now."""


class BoundedChunks(BatchedCodecPipeline):
    """Zarr's way from the bytes of chunks to arrays, within bounds."""

    @classmethod
    def from_codecs(cls, codecs: Iterable[Codec], *, batch_size: int | None = None) -> Self:
        """The pipeline of an array's codecs.

        Raises
        ------
        UserError
            If one of them makes something else than numbers.
        """
        given = list(codecs)
        for codec in given:
            parts = [*(getattr(codec, "filters", None) or ()), getattr(codec, "compressor", None)]
            for config in [part.get_config() for part in parts if part] + [getattr(codec, "codec_config", {})]:
                _require_numbers(config)
        return super().from_codecs(given, batch_size=batch_size)

    async def decode_batch(
        self, chunk_bytes_and_specs: Iterable[tuple[Buffer | None, ArraySpec]]
    ) -> Iterable[NDBuffer | None]:
        """The arrays of some chunks.

        Raises
        ------
        UserError
            If one is cut off, or is or claims to be far larger than its bytes can hold.
        """
        given = list(chunk_bytes_and_specs)
        most = ROOM
        for chunk, spec in given:
            size = math.prod(spec.shape) * spec.dtype.to_native_dtype().itemsize
            most = max(most, 2 * size)
            if chunk is not None and size > max(ROOM, RATIO * len(chunk)):
                raise UserError(
                    f"a chunk of {len(chunk):,} bytes claims to hold {size:,}; one may hold {ROOM:,}, or {RATIO} times "
                    "its own. Write the store with smaller chunks"
                )
        before = _most.set(most)
        try:
            return await super().decode_batch(given)
        finally:
            _most.reset(before)


def _require_numbers(config: dict[str, Any]) -> None:
    name = config.get("id")
    kinds = {np.dtype(config[key]).kind for key in ("dtype", "astype", "encode_dtype", "decode_dtype") if key in config}
    if name in OF_OBJECTS or not kinds <= set("biufc"):
        raise UserError(f"its codec {name!r} makes something else than numbers; such a store is not read")


def _require_room(size: int) -> None:
    if size > _most.get():
        raise UserError(
            f"a chunk unpacks to {size:,} bytes or more, and its array has place for {_most.get():,}; it is damaged"
        )


class WholeBlosc(numcodecs.Blosc):  # type: ignore[misc]
    """Blosc that refuses a chunk which is shorter than its header says, or too large."""

    def decode(self, buf: Any, out: Any = None) -> Any:
        """The values of a chunk, as bytes.

        Raises
        ------
        UserError
            If its end is missing, or it is too large.
        """
        given = ensure_contiguous_ndarray(buf).view("u1")
        header = given[:HEADER_BYTES].tobytes()
        whole = max(int.from_bytes(header[12:], "little"), HEADER_BYTES)
        if given.size < whole:
            raise UserError(
                f"a chunk was cut off: it has {given.size} bytes of {whole}. Read it again, or restore the store it "
                "belongs to"
            )
        _require_room(int.from_bytes(header[4:8], "little"))
        return super().decode(buf, out)


class BoundedZstd(numcodecs.Zstd):  # type: ignore[misc]
    """Zstandard that refuses what is too large."""

    def decode(self, buf: Any, out: Any = None) -> Any:
        """The values of a chunk, as bytes."""
        _require_room(most_bytes(ensure_contiguous_ndarray(buf).tobytes(), _most.get()))
        return super().decode(buf, out)


class BoundedLZ4(numcodecs.LZ4):  # type: ignore[misc]
    """LZ4 that refuses what is too large."""

    def decode(self, buf: Any, out: Any = None) -> Any:
        """The values of a chunk, as bytes, which begins with their number."""
        _require_room(int.from_bytes(ensure_contiguous_ndarray(buf).view("u1")[:4].tobytes(), "little"))
        return super().decode(buf, out)


class _Streamed:
    """Decoding by Python's own modules, which stop where they are told to."""

    def decode(self, buf: Any, out: Any = None) -> Any:
        """The values of a chunk, as bytes."""
        most = _most.get()
        made = self._unpacked(ensure_contiguous_ndarray(buf).tobytes(), most + 1)
        _require_room(len(made))
        return ndarray_copy(made, out)

    def _unpacked(self, packed: bytes, most: int) -> bytes:
        raise NotImplementedError


def _read(stream: Any, most: int) -> bytes:
    """At most so many bytes, and memory for no more than there are."""
    parts: list[bytes] = []
    while most > 0 and (part := stream.read(min(most, PIECE_BYTES))):
        parts.append(part)
        most -= len(part)
    return b"".join(parts)


class BoundedZlib(_Streamed, numcodecs.Zlib):  # type: ignore[misc]
    """zlib that refuses what is too large."""

    def _unpacked(self, packed: bytes, most: int) -> bytes:
        stream = zlib.decompressobj()
        made = stream.decompress(packed, most)
        if not stream.eof and len(made) < most:
            raise UserError("a chunk was cut off. Read it again, or restore the store it belongs to")
        return made


class BoundedGZip(_Streamed, numcodecs.GZip):  # type: ignore[misc]
    """gzip that refuses what is too large."""

    def _unpacked(self, packed: bytes, most: int) -> bytes:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as stream:
            return _read(stream, most)


class BoundedBZ2(_Streamed, numcodecs.BZ2):  # type: ignore[misc]
    """bzip2 that refuses what is too large."""

    def _unpacked(self, packed: bytes, most: int) -> bytes:
        with bz2.BZ2File(io.BytesIO(packed)) as stream:
            return _read(stream, most)


class BoundedLZMA(_Streamed, numcodecs.LZMA):  # type: ignore[misc]
    """LZMA that refuses what is too large."""

    def _unpacked(self, packed: bytes, most: int) -> bytes:
        with lzma.LZMAFile(io.BytesIO(packed), format=self.format, filters=self.filters) as stream:
            return _read(stream, most)


class WholeBloscCodec(BloscCodec):
    """The same for stores of zarr's format 3."""

    @cached_property
    def _blosc_codec(self) -> WholeBlosc:
        config = super()._blosc_codec.get_config()
        return WholeBlosc(**{key: value for key, value in config.items() if key != "id"})


class BoundedZstdCodec(ZstdCodec):
    """The same for stores of zarr's format 3."""

    @cached_property
    def _zstd_codec(self) -> BoundedZstd:
        return BoundedZstd(level=self.level, checksum=self.checksum)


class BoundedGzipCodec(GzipCodec):
    """The same for stores of zarr's format 3."""

    @cached_property
    def _gzip_codec(self) -> BoundedGZip:
        return BoundedGZip(self.level)


_OF_FORMAT_3: dict[str, type[Codec]] = {
    "blosc": WholeBloscCodec, "zstd": BoundedZstdCodec, "gzip": BoundedGzipCodec,
}  # fmt: skip


@lru_cache(maxsize=1)
def require() -> None:
    """Have zarr read all chunks so from now on."""
    for codec in (WholeBlosc, BoundedZstd, BoundedLZ4, BoundedZlib, BoundedGZip, BoundedBZ2, BoundedLZMA):
        numcodecs.register_codec(codec)
    zarr.registry.register_pipeline(BoundedChunks)
    paths: dict[str, type] = {"codec_pipeline.path": BoundedChunks}
    for name, codec_of_3 in _OF_FORMAT_3.items():
        zarr.registry.register_codec(name, codec_of_3)
        paths[f"codecs.{name}"] = codec_of_3
    zarr.config.set({key: f"{one.__module__}.{one.__qualname__}" for key, one in paths.items()})
