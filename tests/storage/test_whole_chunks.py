"""Chunks of stores: read whole, and within bounds."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import pickle
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import zarr

from graphufs.errors import UserError
from graphufs.storage.chunks import whole_chunks
from graphufs.storage.chunks.zstd_frames import most_bytes
from graphufs.storage.zarr_io import open_zarr

VALUES = np.arange(1, 300_001, dtype="f4").reshape(3, 100_000)
HUGE = 10**9
CODECS = [
    *({"id": "blosc", "cname": name} for name in ("lz4", "zstd", "zlib")),
    *({"id": name} for name in ("zstd", "lz4", "zlib", "gzip", "bz2", "lzma")),
]
RUN = b"\x28\xb5\x2f\xfd\x00\x58"
"""The header of a Zstandard frame that does not say its size."""


def runs(size: int, count: int) -> bytes:
    """Such a frame of blocks of one byte repeated."""
    block = ((size << 3) | 2).to_bytes(3, "little") + b"\0"
    return RUN + block * (count - 1) + (((size << 3) | 3).to_bytes(3, "little") + b"\0")


@pytest.fixture(autouse=True)
def _bounded() -> None:
    whole_chunks.require()


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: "-".join(codec.values()))
def test_what_every_codec_packed_is_read(tmp_path: Path, codec: dict[str, str]) -> None:
    compressor = numcodecs.get_codec(codec)
    group = zarr.open_group(tmp_path / "s.zarr", mode="w", zarr_format=2)
    array = group.create_array("a", shape=VALUES.shape, chunks=(2, 70_000), dtype="f4", compressors=[compressor])
    array.attrs["_ARRAY_DIMENSIONS"] = ["x", "y"]
    array[:] = VALUES
    np.testing.assert_array_equal(open_zarr(tmp_path / "s.zarr", consolidated=False)["a"].values, VALUES)


@pytest.mark.parametrize("name", ["zstd", "gzip", "blosc"])
def test_what_every_codec_of_format_3_packed_is_read_and_bounded(tmp_path: Path, name: str) -> None:
    codec = {"zstd": zarr.codecs.ZstdCodec, "gzip": zarr.codecs.GzipCodec, "blosc": zarr.codecs.BloscCodec}[name]()
    path = tmp_path / "s.zarr"
    for shards in (None, (2, 100_000)):
        group = zarr.open_group(path, mode="w", zarr_format=3)
        group.create_array(
            "a", data=VALUES, chunks=(2, 50_000), shards=shards, compressors=[codec], dimension_names=["x", "y"]
        )
        np.testing.assert_array_equal(open_zarr(path, consolidated=False)["a"].values, VALUES)
    group.create_array(
        "b", shape=(HUGE,), chunks=(HUGE,), dtype="i1", compressors=[codec], fill_value=1, dimension_names=["z"]
    )
    small = zarr.open_group(tmp_path / "small.zarr", mode="w", zarr_format=3)
    small.create_array("b", data=np.ones(1000, "i1"), compressors=[codec])
    (path / "b" / "c").mkdir()
    (path / "b" / "c" / "0").write_bytes((tmp_path / "small.zarr" / "b" / "c" / "0").read_bytes())
    with pytest.raises(UserError, match="claims to hold 1,000,000,000"):
        open_zarr(path, consolidated=False, drop_variables=["a"])["b"][:3].load()


BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "blosc": ("blosc", lambda: numcodecs.Blosc().encode(np.zeros(HUGE // 10, "u1"))),
    "blosc that says so": ("blosc", lambda: b"\x02\x01\x21\x04" + HUGE.to_bytes(4, "little") * 2 + b"\x10\0\0\0"),
    "zstd": ("zstd", lambda: numcodecs.Zstd().encode(np.zeros(HUGE // 10, "u1"))),
    "zstd of unknown size": ("zstd", lambda: runs(2**17, 200_000)),
    "zstd in many frames": ("zstd", lambda: numcodecs.Zstd().encode(np.zeros(2**20, "u1")) * 1000),
    "lz4": ("lz4", lambda: HUGE.to_bytes(4, "little") + b"\x1f\0" + b"\xff" * 1000),
    "zlib": ("zlib", lambda: zlib.compress(bytes(HUGE // 10))),
    "gzip": ("gzip", lambda: gzip.compress(bytes(HUGE // 10), 1)),
    "gzip in many members": ("gzip", lambda: gzip.compress(bytes(2**20)) * 70),
    "bz2": ("bz2", lambda: bz2.compress(bytes(2**20)) * 70),
    "lzma": ("lzma", lambda: lzma.compress(bytes(2**20), preset=1) * 70),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_chunk_that_unpacks_to_more_than_its_array_has_place_for_is_refused(tmp_path: Path, kind: str) -> None:
    codec, make = BOMBS[kind]
    path = store_of(tmp_path / "s.zarr", make(), {"id": codec}, [1000])
    assert (path / "a" / "0").stat().st_size < 2**20
    tracemalloc.start()
    with pytest.raises(UserError, match="a chunk unpacks to"):
        open_zarr(path)["a"].load()
    assert tracemalloc.get_traced_memory()[1] < 2e8
    tracemalloc.stop()


@pytest.mark.parametrize("chunk", [[HUGE], [10**5, 10**5], [2**40]])
def test_a_chunk_that_claims_more_than_its_bytes_can_hold_is_refused(tmp_path: Path, chunk: list[int]) -> None:
    path = store_of(tmp_path / "s.zarr", zlib.compress(bytes(10**5)), {"id": "zlib"}, chunk)
    with pytest.raises(UserError, match="claims to hold"):
        open_zarr(path)["a"].isel({name: slice(3) for name in "xy"[: len(chunk)]}).load()


@pytest.mark.parametrize(
    "part",
    [
        {"compressor": {"id": "pickle", "protocol": 5}},
        {"dtype": "|O", "fill_value": None, "filters": [{"id": "pickle", "protocol": 5}]},
        {"filters": [{"id": "pickle", "protocol": 5}]},
        {"filters": [{"id": "astype", "encode_dtype": "<f4", "decode_dtype": "<U9999999"}]},
        {"filters": [{"id": "delta", "dtype": "|O"}]},
        {"filters": [{"id": "categorize", "dtype": "f4", "labels": ["a"], "astype": "u1"}]},
        {"filters": [{"id": "json2"}]},
    ],
    ids=str,
)
def test_what_is_no_number_is_not_made(tmp_path: Path, part: dict[str, object]) -> None:
    class Run:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return (Path.touch, (tmp_path / "ran",))

    path = store_of(tmp_path / "s.zarr", pickle.dumps(Run()), None, [10], **part)
    with pytest.raises(UserError, match="something else than numbers|object array|No Zarr data type|only unicode"):
        open_zarr(path)["a"].load()
    assert not (tmp_path / "ran").exists()


def store_of(path: Path, chunk: bytes, packing: object, shape: list[int], **metadata: object) -> Path:
    """A store of one chunk."""
    array = {
        "zarr_format": 2, "shape": shape, "chunks": shape, "dtype": "<f4", "compressor": packing, "fill_value": 0,
        "order": "C", "filters": None, **metadata,
    }  # fmt: skip
    (path / "a").mkdir(parents=True)
    members = {
        ".zgroup": {"zarr_format": 2}, "a/.zarray": array, "a/.zattrs": {"_ARRAY_DIMENSIONS": list("xy"[: len(shape)])},
    }  # fmt: skip
    for name, member in members.items():
        (path / name).write_text(json.dumps(member))
    (path / ".zmetadata").write_text(json.dumps({"zarr_consolidated_format": 1, "metadata": members}))
    (path / "a" / ".".join("0" for _ in shape)).write_bytes(chunk)
    return path


def test_the_bound_of_zstd_is_what_it_unpacks_to() -> None:
    codec = numcodecs.Zstd(checksum=True)
    for size in (1, 200, 300, 70_000, 10**6):
        packed = codec.encode(np.arange(size, dtype="u4").view("u1"))
        assert most_bytes(packed) == 4 * size and most_bytes(packed * 2) == 8 * size
        assert most_bytes(b"\x50\x2a\x4d\x18\x03\0\0\0abc" + packed) == 4 * size
    assert most_bytes(runs(1000, 7)) == 7000 and len(codec.decode(runs(1000, 7))) == 7000
    assert most_bytes(b"") == most_bytes(b"nothing of that") == 0


def test_a_long_name_of_a_coordinate_counts_as_its_bytes(tmp_path: Path) -> None:
    path = store_of(tmp_path / "s.zarr", b"", None, [20], dtype="<U99999999", fill_value="")
    (path / "a").rename(path / "x")
    (path / ".zmetadata").write_text((path / ".zmetadata").read_text().replace('"a/', '"x/'))
    with pytest.raises(UserError, match="x claims|claims to hold"):
        open_zarr(path)
