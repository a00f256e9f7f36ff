"""Several processes that share each sample: each reads what its devices hold of a frame, and no more."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from graphufs.data import zarr_segment
from graphufs.data.channels import PreparedChannel
from graphufs.data.loader import BatchLoader, WindowReader
from graphufs.data.zarr_segment import CHECKSUM_BYTES, PackedFrames, Part, Unreadable, create, read_places
from graphufs.graph.build import build_graph
from graphufs.graph.partition import Partition
from graphufs.train.division import Division

SHAPE = FRAMES, CHANNELS, ROWS, COLUMNS = 6, 3, 33, 64
STAMPS = np.datetime64("1994-01-01T00", "ns") + np.arange(FRAMES) * np.timedelta64(6, "h")
LATITUDE, LONGITUDE = np.linspace(84.0, -84.0, ROWS), np.arange(COLUMNS) * 360 / COLUMNS
FRAME_BYTES = 4 * CHANNELS * ROWS * COLUMNS


@pytest.fixture(params=["float32", "int16"])
def frames(request: pytest.FixtureRequest, tmp_path: Path) -> PackedFrames:
    """A segment of one shard, in which there is a missing value."""
    channels = [PreparedChannel("tmp", float(level), float(level)) for level in range(CHANNELS)]
    written, _ = create(tmp_path, STAMPS, channels, LATITUDE, LONGITUDE, request.param)
    values = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    values[2, 1, 3, 4] = np.nan
    written[slice(0, FRAMES)] = values
    return PackedFrames(tmp_path)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[int, int]]:
    """Asked, it says how many reads of frames there were since it was asked last, and how many bytes they brought."""
    sizes: list[int] = []
    real = os.preadv

    def counting(*arguments: object) -> int:
        sizes.append(real(*arguments))  # type: ignore[arg-type]
        return sizes[-1]

    def since() -> tuple[int, int]:
        found = len(sizes), sum(sizes)
        sizes.clear()
        return found

    monkeypatch.setattr(os, "preadv", counting)
    return since


def parts(count: int) -> list[Part]:
    """What each of so many processes with two devices reads."""
    graph = build_graph(LATITUDE, LONGITUDE, mesh_size=1)
    division = Division(Partition.of(graph, 2 * count))
    return [division.part(SimpleNamespace(sharers=(here, count))) for here in range(count)]  # type: ignore[arg-type]


def read(frames: PackedFrames, numbers: list[int], part: Part | None = None) -> np.ndarray:
    grid = SHAPE[2:] if part is None else (1, part.points.size)
    out = np.empty((len(numbers), CHANNELS, *grid), np.float32)
    read_places([frames], np.array([(0, number) for number in numbers]), out, part)
    return out


@pytest.mark.parametrize("count", [1, 2, 4])
def test_together_they_have_every_point_bit_for_bit(frames: PackedFrames, count: int) -> None:
    numbers = [3, 1, 2, 5, 5]
    whole = read(frames, numbers).reshape(len(numbers), CHANNELS, -1)
    every = parts(count)
    for part in every:
        opened = PackedFrames(frames._folder.parent)
        for _ in range(2):  # first with checksums, then without
            assert read(opened, numbers, part)[:, :, 0].tobytes() == whole[:, :, part.points].tobytes()
    assert np.array_equal(np.unique(np.concatenate([part.points for part in every])), np.arange(ROWS * COLUMNS))


def test_each_of_two_reads_half_of_what_it_need_not_check(
    frames: PackedFrames, counted: Callable[[], tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zarr_segment, "GAP_BYTES", 0)
    monkeypatch.setattr(zarr_segment, "BLOCK_BYTES", 1)  # a field at a time
    size = FRAME_BYTES * frames.dtype.itemsize // 4
    for part in parts(2):
        read(frames, list(range(FRAMES)), part)
        assert counted()[1] == (size + size // 2) * FRAMES // 2
        read(frames, list(range(FRAMES)), part)
        # a hemisphere is one stretch, but for the equator, of which each has half
        reads, brought = counted()
        assert brought == size // 2 * FRAMES and reads <= 3 * CHANNELS * FRAMES


def test_short_gaps_are_read_through(frames: PackedFrames, counted: Callable[[], tuple[int, int]]) -> None:
    part = Part(np.arange(0, ROWS * COLUMNS, 2), (0, 2))
    assert read(frames, [1, 3], part)[0, 0, 0].tobytes() == read(frames, [1])[0, 0].ravel()[::2].tobytes()
    counted()
    read(frames, [1, 3], part)
    assert counted()[0] == 2


def test_damage_is_found_by_the_one_whose_turn_it_is(frames: PackedFrames) -> None:
    path = frames._folder / "c/0/0/0/0"
    content = bytearray(path.read_bytes())
    size = FRAME_BYTES * frames.dtype.itemsize // 4
    content[2 * (size + CHECKSUM_BYTES) + 5] ^= 1  # in frame 2
    path.write_bytes(content)
    checking, other = parts(2)
    with pytest.raises(Unreadable, match=r"the checksum of the frame at byte \d+ differs"):
        read(frames, [2, 3], checking)
    read(frames, [2, 3], other)


def test_a_loaders_batches_are_those_of_a_process_that_reads_all(frames: PackedFrames) -> None:
    def taken(stamps: np.ndarray, out: np.ndarray | None = None, part: Part | None = None) -> np.ndarray:
        return read(frames, ((stamps - STAMPS[0]) // np.timedelta64(6, "h")).tolist(), part)

    data = SimpleNamespace(time_step=6, latitude=LATITUDE, longitude=LONGITUDE, frame_shape=SHAPE[1:], read=taken)
    names = ("day_progress_sin", "toa_incident_solar_radiation", "year_progress_cos")
    samples = WindowReader(data, STAMPS[1:-2], names, 2, 2, 1)  # type: ignore[arg-type]
    whole = dict(BatchLoader(samples, 1, (0,)).batches(0, 3))
    for part in parts(2):
        loader = BatchLoader(samples, 1, (0,))
        bytes_of_all = loader.samples.bytes_per_sample
        loader.read_only(part)
        assert loader.samples.bytes_per_sample < 0.6 * bytes_of_all
        for number, batch in loader.batches(0, 3):
            expected = whole[number].frames.reshape(1, 4, CHANNELS, -1)[..., None, part.points]
            assert batch.frames.tobytes() == expected.tobytes()
            for name, field in batch.derived.items():
                full = whole[number].derived[name]
                if full.shape[-2:] != (1, 1):
                    full = np.broadcast_to(full, (*full.shape[:-2], ROWS, COLUMNS)).reshape(1, 4, 1, -1)
                    full = full[..., None, part.points]
                assert np.array_equal(field, full), name
