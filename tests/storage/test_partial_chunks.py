"""Of Blosc chunks in object stores only the blocks travel that are wanted, and give what the whole chunk gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr

from graphufs.storage import object_stores
from graphufs.storage.chunks import partial_chunks
from graphufs.storage.zarr_io import open_zarr
from tests.support.object_server import ObjectServer

SHAPE = (3, 40, 64, 128)
CODECS = {
    "lz4": numcodecs.Blosc("lz4", 5, numcodecs.Blosc.SHUFFLE, 2**13),
    "zstd": numcodecs.Blosc("zstd", 1, numcodecs.Blosc.BITSHUFFLE, 3 * 2**15),  # the last block is shorter
    "blosclz": numcodecs.Blosc("blosclz", 9, numcodecs.Blosc.NOSHUFFLE, 2**14),
    "automatic": numcodecs.Blosc(),
    "plain": numcodecs.Blosc("lz4", 0),
    "zlib": numcodecs.Zlib(),
    "constant": numcodecs.Blosc("lz4", 5, numcodecs.Blosc.SHUFFLE, 2**16),
}


def values(name: str) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(SHAPE, np.float32)
    return np.ones(SHAPE, np.float32) if name == "constant" else noise.round(2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chunks")
    group = zarr.create_group(str(folder / "store.zarr"), zarr_format=2)
    for name, codec in CODECS.items():
        array = group.create_array(
            name, shape=SHAPE, chunks=(1, *SHAPE[1:]), dtype="float32", compressors=codec, fill_value=np.nan
        )
        array[:] = values(name)
        array.attrs["_ARRAY_DIMENSIONS"] = ["time", "level", "lat", "lon"]
    zarr.consolidate_metadata(str(folder / "store.zarr"), zarr_format=2)
    return folder


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectServer]:
    monkeypatch.setattr(object_stores, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(partial_chunks, "GAP_BYTES", 2**10)
    with ObjectServer(folder).running() as server:
        yield server


def read(
    server: ObjectServer, name: str, client: str = "http", *, read_timeout: float = 1, **selection: Any
) -> np.ndarray:
    address, options = server.address(client, "store.zarr")
    options |= {"connect_timeout": 5, "read_timeout": read_timeout, "retry_for": 60}
    return open_zarr(address, storage_options=options)[name].isel(selection).values


def sent(server: ObjectServer, name: str) -> int:
    return sum(count for path, count in server.sent.items() if f"/{name}/" in path and not path.endswith(".zarray"))


def stored(folder: Path, name: str) -> int:
    return sum(path.stat().st_size for path in (folder / "store.zarr" / name).iterdir() if path.name[0].isdigit())


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("levels", [[0], [3, 17, 39], [39], [38, 39], slice(5, 7), [20, 4]], ids=str)
def test_some_levels_are_what_the_whole_chunk_has(server: ObjectServer, name: str, levels: Any) -> None:
    assert np.array_equal(read(server, name, time=[0, 2], level=levels), values(name)[[0, 2]][:, levels])


@pytest.mark.parametrize("client", ["gs", "s3", "http"])
def test_of_three_levels_the_blocks_alone_travel(server: ObjectServer, folder: Path, client: str) -> None:
    assert np.array_equal(read(server, "lz4", client, level=[3, 17, 39]), values("lz4")[:, [3, 17, 39]])
    assert sent(server, "lz4") < 0.25 * stored(folder, "lz4")  # in chunks as small as these, blocks have two levels


def test_whole_chunks_come_by_one_request_each(server: ObjectServer, folder: Path) -> None:
    assert np.array_equal(read(server, "lz4", level=slice(5, None)), values("lz4")[:, 5:])
    assert sent(server, "lz4") == stored(folder, "lz4")
    assert all(count == 1 for path, count in server.asked.items() if "/lz4/" in path)


def test_a_part_of_each_map_is_read_too(server: ObjectServer) -> None:
    found = read(server, "lz4", level=[2, 30], lat=slice(10, 12), lon=[5])
    assert np.array_equal(found, values("lz4")[:, [2, 30], 10:12, 5:6])


@pytest.mark.parametrize("fault", ["503", "reset", "short", "cut"])
def test_requests_for_parts_are_made_again_whatever_the_fault(server: ObjectServer, fault: str) -> None:
    server.faults = lambda name, time: fault if "/lz4/1" in name and time in (1, 3) else ""
    assert np.array_equal(read(server, "lz4", level=[3, 30]), values("lz4")[:, [3, 30]])
    assert server.asked["store.zarr/lz4/1.0.0.0"] > 3


def test_a_part_whose_connection_is_silent_is_asked_for_beside_it(server: ObjectServer) -> None:
    """Long before the client gives the connection up."""
    server.faults = lambda name, time: "stall" if "/lz4/2" in name and time == 2 else ""
    begun = monotonic()
    assert np.array_equal(read(server, "lz4", level=[3, 30], read_timeout=60), values("lz4")[:, [3, 30]])
    assert monotonic() - begun < 30 and server.asked["store.zarr/lz4/2.0.0.0"] == 4


def test_a_server_without_ranges_gives_the_same(server: ObjectServer) -> None:
    server.ranges = False
    assert np.array_equal(read(server, "lz4", level=[3, 30]), values("lz4")[:, [3, 30]])


def test_chunks_that_are_not_there_are_missing_values(server: ObjectServer, folder: Path) -> None:
    kept = (folder / "store.zarr/lz4/1.0.0.0").rename(folder / "away")
    try:
        found = read(server, "lz4", level=[3, 30])
    finally:
        kept.rename(folder / "store.zarr/lz4/1.0.0.0")
    assert np.isnan(found[1]).all() and np.array_equal(found[2], values("lz4")[2, [3, 30]])


def test_blocks_in_any_order_are_told_apart() -> None:
    begins = np.array([500, 60, 300])
    header = partial_chunks.Header(bytes(16), 3 * 100, 100, 640, begins)
    assert header.ends.tolist() == [640, 300, 500]
    assert header.blocks(np.array([[0, 10], [110, 120]])).tolist() == [0, 1]
    assert header.blocks(np.array([[290, 300]])).tolist() == [1, 2]
