"""Prepared frames in 16 bits: half the room, within the store's own rounding, and all that reads them knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from graphufs.config.experiment import Experiment
from graphufs.data import merge, zarr_segment
from graphufs.data.channels import PreparedChannel
from graphufs.data.dataset import PreparedData
from graphufs.data.manifest import SEGMENTS
from graphufs.errors import UserError
from graphufs.steps import run_step
from graphufs.storage import packing
from graphufs.storage.paths import Paths
from tests.support.experiments import daily_experiment
from tests.support.lookalike import build_atmosphere

VARIABLES = ("pressfc", "ugrd10m", "tmp", "dswrf_avetoa", "land_static", "hgtsfc_static")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "fv3.zarr"
    return build_atmosphere(path, count=80, step_hours=24, variables=VARIABLES, nan={"pressfc": ["1994-01-20T18"]})


def packed(store: Path, **data: Any) -> Experiment:
    return daily_experiment(store, storage="int16", **data)


def opened(experiment: Experiment, root: Path) -> PreparedData:
    return PreparedData.open(Paths(experiment, root).data)


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("frames/c/**/0") if path.is_file())


def test_frames_take_half_the_room_and_are_within_the_stores_own_rounding(store: Path, tmp_path: Path) -> None:
    plain, small = daily_experiment(store), packed(store)
    for one in (plain, small):
        run_step("prepare", one, tmp_path)
    exact, found = opened(plain, tmp_path), opened(small, tmp_path)
    assert Paths(plain, tmp_path).data != Paths(small, tmp_path).data
    values, close = exact.read(exact.stamps), found.read(found.stamps)
    spread = np.ptp(np.nan_to_num(values, nan=np.nanmean(values)), (2, 3), keepdims=True)
    # 14 bits of the field's range, as the attribute nbits has it, leave twice that
    assert (np.abs(close - values) <= spread / 65000)[np.isfinite(values)].all()
    assert np.array_equal(np.isnan(close), np.isnan(values)) and np.isnan(values).any()
    assert found.invalid == exact.invalid and found.invalid
    sizes = [size(Paths(one, tmp_path).data / SEGMENTS) for one in (plain, small)]
    assert sizes[1] < 0.6 * sizes[0]
    out = np.empty_like(close[:3])
    assert np.array_equal(found.read(found.stamps[[40, 2, 41]], out), close[[40, 2, 41]])


def test_they_grow_and_are_merged_without_a_change(store: Path, tmp_path: Path) -> None:
    short = packed(
        store,
        training=("1993-12-31T18", "1994-02-10T18"),
        validation=("1994-02-11T18", "1994-02-18T18"),
        evaluation=("1994-02-19T18", "1994-02-24T18"),
    )
    run_step("prepare", short, tmp_path)
    before = opened(short, tmp_path)
    frames = before.read(before.stamps)
    longer = packed(store)
    run_step("prepare", longer, tmp_path)  # the source is compared with what is there
    folder = Paths(longer, tmp_path).data
    assert folder == Paths(short, tmp_path).data
    assert merge.merge(folder, should_stop=lambda: False) == (2, 1), "February came in two"
    assert np.array_equal(opened(longer, tmp_path).read(before.stamps), frames, equal_nan=True)


def test_what_the_codes_mean_is_compared_when_they_are_opened(store: Path, tmp_path: Path) -> None:
    small = packed(store)
    run_step("prepare", small, tmp_path)
    folder = Paths(small, tmp_path).data
    scales = next((folder / SEGMENTS).glob("*/scales"))
    zarr.open_array(scales, mode="r+")[0, 0, 1] += 1
    with pytest.raises(UserError, match="prepared data are damaged"):
        PreparedData.open(folder)
    run_step("prepare", small, tmp_path)
    assert PreparedData.open(folder).stamps.size


def test_what_is_known_to_more_bits_is_refused(store: Path, tmp_path: Path) -> None:
    path = build_atmosphere(tmp_path / "fine.zarr", count=80, step_hours=24, variables=VARIABLES)
    group = zarr.open_group(str(path), mode="r+")
    group["tmp"].attrs["nbits"] = 20
    zarr.consolidate_metadata(str(path), zarr_format=2)
    with pytest.raises(UserError, match=r"as good as 14 bits of a field's range, and tmp of .* has 20 \(nbits\)"):
        run_step("prepare", packed(path), tmp_path)
    logarithm = {"pressfc": {"function": "log"}}
    with pytest.raises(UserError, match=r"takes the log of pressfc, and .* does not say .* \(nbits\)"):
        run_step("prepare", packed(store, transforms=logarithm), tmp_path)


@pytest.mark.parametrize("storage", ["float32", "int16"])
@pytest.mark.parametrize("count", [1, 6, 7])
def test_shards_are_byte_for_byte_what_zarr_writes(
    storage: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channels = (PreparedChannel("pressfc"), PreparedChannel("tmp", 500.0, 505.65))
    monkeypatch.setattr(zarr_segment, "SHARD_BYTES", 3 * 4 * 2 * 4 * 8)
    stamps = np.datetime64("1994-01-01", "ns") + np.arange(count) * np.timedelta64(6, "h")
    values = np.random.default_rng(0).standard_normal((count, 2, 4, 8), np.float32)
    values[-1, 0, 0, 0] = np.nan
    into, _ = zarr_segment.create(tmp_path, stamps, channels, np.arange(4.0), np.arange(8.0), storage)
    into[:] = values
    files = {path: path.read_bytes() for path in (tmp_path / "frames" / "c").rglob("0") if path.is_file()}
    for path in files:
        path.unlink()
    zarr.open_array(tmp_path / "frames")[:] = values if storage == "float32" else packing.pack(values)[0]
    assert len(files) == -(-count // 3) and files == {path: path.read_bytes() for path in files}
    with pytest.raises(ValueError, match="no whole shards"):
        into[1:2] = values[:1]
