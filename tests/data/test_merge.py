"""Nightly segments of past months become one a month: the same bytes, no reader disturbed, any kill healed."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphufs.config.experiment import Experiment
from graphufs.data import late, merge, segments
from graphufs.data.dataset import PreparedData
from graphufs.data.manifest import SEGMENTS, Manifest, Segment
from graphufs.errors import Stopped, UserError
from graphufs.replay.times import text
from graphufs.steps import never_stop
from graphufs.storage.lock import locked
from graphufs.storage.paths import Paths
from tests.data.test_prepare import prepare, stamps_read
from tests.support.experiments import daily_experiment


@pytest.fixture
def nights(daily: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Experiment, Path]:
    """Eighty stamps of four months, in segments of five as nights of five stamps would leave them."""
    with monkeypatch.context() as patch:
        patch.setattr(segments.Costs, "stamps_per_segment", 5)
        chosen = daily_experiment(daily)
        prepare(chosen, tmp_path)
    return chosen, Paths(chosen, tmp_path).data


def manifest_of(folder: Path) -> Manifest:
    found = Manifest.read(folder)
    assert found is not None
    return found


def merged(folder: Path) -> tuple[int, int]:
    return merge.merge(folder, should_stop=never_stop)


def frames(folder: Path) -> bytes:
    data = PreparedData.open(folder)
    return data.read(data.stamps).tobytes()


def test_past_months_become_one_segment_each_with_the_same_bytes(nights, monkeypatch):
    chosen, folder = nights
    before, held = frames(folder), PreparedData.open(folder)
    months = [str(one.stamps[0])[:7] for one in manifest_of(folder).segments]
    assert merged(folder) == (months.count("1994-01") + months.count("1994-02"), 2)
    after = manifest_of(folder)
    names = [str(one.stamps[0])[:7] for one in after.segments]
    assert names == sorted(set(months)) + ["1994-03"] * (months.count("1994-03") - 1), "the newest month still grows"
    assert frames(folder) == before
    assert all(one.damage(folder, thorough=True) is None for one in after.segments), "checksums are those of the files"
    with stamps_read(monkeypatch) as read:
        assert prepare(chosen, folder.parents[1])["status"] == "unchanged"
        os.remove(folder / SEGMENTS / after.segments[-1].name / "zarr.json")
        assert prepare(chosen, folder.parents[1])["status"] == "completed", "retired segments outlive a repair"
    assert read >= {text(stamp) for stamp in after.segments[-1].stamps} and len(read) < 10
    assert held.read(held.stamps).tobytes() == before, "who opened the data before goes on"
    assert merged(folder) == (0, 0)


def test_merged_segments_are_removed_after_their_time(nights):
    _, folder = nights
    before = frames(folder)
    replaced, _ = merged(folder)
    merge.remove_expired(folder, time.time() - 3600)
    assert len(manifest_of(folder).retired) == replaced
    merge.remove_expired(folder, time.time() + 3600)
    after = manifest_of(folder)
    assert after.retired == {}
    assert {path.name for path in (folder / SEGMENTS).iterdir()} == {one.name for one in after.segments}
    assert frames(folder) == before


@pytest.mark.parametrize(
    "point",
    ["Manifest.write", *(pytest.param(one, marks=pytest.mark.long) for one in ("create", "files_of", "remove_folder"))],
)
def test_a_kill_anywhere_is_healed_by_repeating(nights, point, monkeypatch):
    chosen, folder = nights
    before = frames(folder)

    class Killed(BaseException):
        pass

    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    def both() -> None:
        merged(folder)
        merge.remove_expired(folder, time.time() + 3600)

    with monkeypatch.context() as patch:
        if point == "Manifest.write":
            patch.setattr(Manifest, "write", killed)
        else:
            patch.setattr(merge, point, killed)
        # what a killed process would have left, as nothing after the kill may run
        patch.setattr("graphufs.storage.atomic.shutil.rmtree", lambda *_, **__: None)
        with pytest.raises(Killed):
            both()
    assert frames(folder) == before
    both()
    prepare(chosen, folder.parents[1])
    assert frames(folder) == before
    listed = {one.name for one in manifest_of(folder).segments}
    if point == "remove_folder":  # listed nowhere any more: removed by the next `prepare` that writes
        from graphufs.data.prepare import _cleaned

        _cleaned(folder)
    assert {path.name for path in (folder / SEGMENTS).iterdir()} == listed


def test_data_that_another_process_prepares_are_left_alone(nights):
    _, folder = nights
    with locked(folder, should_stop=never_stop, waiting=lambda: None), pytest.raises(Stopped):
        merged(folder)
    assert manifest_of(folder).retired == {}


def test_a_damaged_segment_is_not_merged_but_repaired(nights):
    chosen, folder = nights
    before, damaged = frames(folder), manifest_of(folder).segments[3]
    shard = next((folder / SEGMENTS / damaged.name / "frames" / "c").rglob("*"), None)
    while shard is not None and shard.is_dir():
        shard = next(shard.iterdir())
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    with pytest.raises(UserError, match="damaged.*run `graphufs prepare`"):
        merged(folder)
    prepare(chosen, folder.parents[1])
    merged(folder)
    assert frames(folder) == before


def test_a_stamp_that_came_late_is_taken_from_where_it_is_whole(nights):
    """The first of two copies is made out to be flawed: frames from the second, nothing invalid after it."""
    chosen, folder = nights
    manifest = manifest_of(folder)
    one = manifest.segments[2]
    flawed = replace(one, invalid={text(one.stamps[0]): ["tmp"], text(one.stamps[1]): ["tmp"]})
    with_late = manifest.with_segments([*(s for s in manifest.segments if s is not one), flawed])
    again = Segment(segments.free_name(with_late, one.stamps[:1]), one.stamps[:1], {}, {})
    data = PreparedData.open(folder)
    values = data.read(one.stamps[:1]) + 1
    from graphufs.data.zarr_segment import create
    from graphufs.storage.checksums import files_of

    array, _ = create(folder / SEGMENTS / again.name, again.stamps, data.channels, data.latitude, data.longitude)
    array[:] = values
    with_late = with_late.with_segments(
        [*with_late.segments, replace(again, files=files_of(folder / SEGMENTS / again.name))]
    )
    with_late.write(folder)
    old = time.time() - 20 * 86400
    for path in (folder / SEGMENTS).iterdir():
        os.utime(path, (old, old))
    before, invalid = frames(folder), manifest_of(folder).invalid
    merged(folder)
    assert frames(folder) == before and np.array_equal(PreparedData.open(folder).read(one.stamps[:1]), values)
    assert manifest_of(folder).invalid == invalid == {text(one.stamps[1]): ["tmp"]}
    assert late.due(chosen, folder, manifest_of(folder)).size == 0, "a merged segment is as old as its parts"


def test_large_months_are_merged_into_several(nights, monkeypatch):
    _, folder = nights
    before = frames(folder)
    size = manifest_of(folder).segments[1]
    frame = next(iter(PreparedData.open(folder).read(size.stamps[:1])))
    monkeypatch.setattr(merge, "MERGED_BYTES", 12 * frame.nbytes)
    merged(folder)
    january = [one.stamps.size for one in manifest_of(folder).segments if str(one.stamps[0]).startswith("1994-01")]
    assert january == [10, 10, 11] and frames(folder) == before
    assert merged(folder) == (0, 0)


def test_a_polite_stop_keeps_what_is_merged(nights):
    _, folder = nights
    before, asked = frames(folder), iter([False, True])
    with pytest.raises(Stopped):
        merge.merge(folder, should_stop=lambda: next(asked))
    assert frames(folder) == before and len(manifest_of(folder).retired) > 1
    merged(folder)
    assert frames(folder) == before


def test_a_manifest_without_retired_segments_is_as_before(nights):
    _, folder = nights
    assert "retired" not in (folder / "manifest.json").read_text()
