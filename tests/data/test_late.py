"""Stamps whose chunks come late are read again for a set time, and the hole closes."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from graphufs.config.experiment import Experiment
from graphufs.data import late
from graphufs.data.dataset import PreparedData
from graphufs.data.manifest import SEGMENTS, Manifest
from graphufs.nightly.initial_times import SourceTimes
from graphufs.storage.paths import Paths
from tests.data.test_prepare import content, prepare, stamps_read, truth
from tests.support.experiments import experiment
from tests.support.lookalike import build_atmosphere

LATE = "1994-01-10T06"
POSITION = 76
"""Of LATE among the stamps, 3-hourly from 1993-12-31T18."""
VARIABLES = ("tmp", "pressfc", "ugrd10m", "dswrf_avetoa", "land_static", "hgtsfc_static")


class GrowingStore:
    """A copy of a store in which the chunks of one stamp have not come yet."""

    def __init__(self, whole: Path, path: Path) -> None:
        shutil.copytree(whole, path)
        self.path, self.aside = path, path.with_suffix(".chunks")
        self.names = [f"tmp/{POSITION}.0.0.0", f"pressfc/{POSITION}.0.0"]
        for name in self.names:
            (self.aside / name).parent.mkdir(parents=True)
            os.rename(path / name, self.aside / name)

    def come(self, *names: str) -> None:
        for name in names or self.names:
            os.rename(self.aside / name, self.path / name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_atmosphere(tmp_path_factory.mktemp("whole") / "fv3.zarr", count=8 * 12, variables=VARIABLES)


@pytest.fixture
def growing(whole: Path, tmp_path: Path) -> GrowingStore:
    return GrowingStore(whole, tmp_path / "fv3.zarr")


def data_of(chosen: Experiment, root: Path) -> PreparedData:
    return PreparedData.open(Paths(chosen, root).data)


def make_older(chosen: Experiment, root: Path, days: float) -> None:
    then = time.time() - days * 86400
    for folder in (Paths(chosen, root).data / SEGMENTS).iterdir():
        os.utime(folder, (then, then))


def test_a_stamp_that_comes_late_is_whole_after_the_next_prepare(
    growing: GrowingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = experiment(growing.path)
    first = prepare(chosen, tmp_path)
    assert first["invalid"] == {"count": 1, "by_variable": {"pressfc": 1, "tmp": 1}, "stamps": [LATE]}
    before = content(Paths(chosen, tmp_path).data)
    growing.come("pressfc/76.0.0")
    assert prepare(chosen, tmp_path)["status"] == "unchanged"  # tmp is not there yet
    growing.come("tmp/76.0.0.0")
    result = prepare(chosen, tmp_path)
    assert (result["status"], result["new"], result["read_again"]) == ("completed", 0, 1)
    assert result["invalid"]["count"] == 0 and not result["warnings"]
    data = data_of(chosen, tmp_path)
    assert data.valid.all() and not data.invalid and np.unique(data.stamps).size == data.stamps.size
    assert np.array_equal(data.read(data.stamps), truth(data, data.stamps))
    # what somebody reads meanwhile stays
    assert before.items() <= content(data.folder).items()
    with stamps_read(monkeypatch) as seen:
        assert prepare(chosen, tmp_path)["status"] == "unchanged"
    assert not seen


def test_only_flawed_stamps_are_looked_at_and_only_for_the_set_time(
    growing: GrowingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = experiment(growing.path)
    prepare(chosen, tmp_path)
    make_older(chosen, tmp_path, 13.9)
    with stamps_read(monkeypatch) as seen:
        prepare(chosen, tmp_path)
    assert seen == {LATE}
    make_older(chosen, tmp_path, 14.1)
    growing.come()
    with stamps_read(monkeypatch) as seen:
        assert prepare(chosen, tmp_path)["status"] == "unchanged"
    assert not seen


def test_new_stamps_and_late_ones_come_in_one_prepare(growing: GrowingStore, tmp_path: Path) -> None:
    prepare(experiment(growing.path, evaluation=("1994-01-09T00", "1994-01-10T18")), tmp_path)
    growing.come()
    chosen = experiment(growing.path)
    result = prepare(chosen, tmp_path)
    assert (result["new"], result["read_again"], result["invalid"]["count"]) == (4, 1, 0)
    data = data_of(chosen, tmp_path)
    assert np.array_equal(data.read(data.stamps), truth(data, data.stamps))


def test_a_source_that_is_away_is_a_warning_where_all_is_prepared(growing: GrowingStore, tmp_path: Path) -> None:
    chosen = experiment(growing.path)
    prepare(chosen, tmp_path)
    os.rename(growing.path, tmp_path / "away")
    result = prepare(chosen, tmp_path)
    assert result["status"] == "unchanged"
    assert any(f"{LATE} had missing values and could not be looked at again" in words for words in result["warnings"])


def test_a_late_stamp_whose_segment_is_damaged_is_read_again_at_any_time(growing: GrowingStore, tmp_path: Path) -> None:
    chosen = experiment(growing.path)
    prepare(chosen, tmp_path)
    growing.come()
    prepare(chosen, tmp_path)
    make_older(chosen, tmp_path, 400)
    folder = Paths(chosen, tmp_path).data
    own = folder / SEGMENTS / f"{LATE}_{LATE}.zarr"
    shutil.rmtree(own)
    assert prepare(chosen, tmp_path)["read_again"] == 1
    data = data_of(chosen, tmp_path)
    assert own.is_dir() and np.array_equal(data.read(data.stamps), truth(data, data.stamps))


def test_a_segment_of_the_same_stamp_keeps_its_name(growing: GrowingStore, tmp_path: Path) -> None:
    def until(end: str) -> Experiment:
        return experiment(growing.path, evaluation=("1994-01-09T00", end), lead_time="12h")

    prepare(until("1994-01-10T00"), tmp_path)
    prepare(until(LATE), tmp_path)  # one new stamp
    growing.come()
    chosen = until(LATE)
    assert prepare(chosen, tmp_path)["read_again"] == 1
    manifest = Manifest.read(Paths(chosen, tmp_path).data)
    assert manifest is not None and not manifest.invalid
    assert {f"{LATE}_{LATE}.zarr", f"{LATE}_{LATE}.2.zarr"} <= {segment.name for segment in manifest.segments}
    assert data_of(chosen, tmp_path).valid.all()


def test_of_many_flawed_stamps_the_newest_are_looked_at(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late, "AT_MOST", 2)
    path = tmp_path / "fv3.zarr"
    shutil.copytree(whole, path)
    for position in (60, 62, 64):
        (path / "pressfc" / f"{position}.0.0").unlink()
    chosen = experiment(path)
    assert prepare(chosen, tmp_path)["invalid"]["count"] == 3
    with stamps_read(monkeypatch) as seen:
        prepare(chosen, tmp_path)
    assert seen == {"1994-01-08T12", "1994-01-08T18"}


def test_a_night_plans_with_what_has_come(growing: GrowingStore, tmp_path: Path) -> None:
    chosen = experiment(growing.path)
    prepare(chosen, tmp_path)
    assert any(LATE in why for why in SourceTimes.look(chosen, tmp_path).lacks(chosen, chosen.initial_times).values())
    growing.come()
    assert not SourceTimes.look(chosen, tmp_path).lacks(chosen, chosen.initial_times)
