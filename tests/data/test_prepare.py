from __future__ import annotations

import json
import resource
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from graphufs.config.experiment import Experiment
from graphufs.data import segments
from graphufs.data.dataset import PreparedData
from graphufs.data.manifest import SEGMENTS, Manifest
from graphufs.data.prepare import check, run
from graphufs.data.sample import LOOKS
from graphufs.errors import UserError
from graphufs.replay.source import ReplayStore, open_store
from graphufs.replay.times import text, wanted_stamps
from graphufs.steps import Event, never_stop, no_progress, run_step
from graphufs.storage.paths import Paths
from tests.replay.conftest import ABSENT, INVALID
from tests.support.experiments import daily_experiment, experiment, ocean_experiment
from tests.support.killing import Halted
from tests.support.lookalike import Weather, build_atmosphere, build_ocean


def prepare(chosen: Experiment, root: Path) -> dict[str, Any]:
    return run(chosen, root, progress=no_progress, should_stop=never_stop)


def prepared(chosen: Experiment, root: Path) -> PreparedData:
    prepare(chosen, root)
    return PreparedData.open(Paths(chosen, root).data)


def truth(data: PreparedData, stamps: np.ndarray) -> np.ndarray:
    """The frames at `stamps`, made without any store."""
    weather = Weather(data.latitude, data.longitude)
    levels = [43, 75, 126]
    frames = [
        np.concatenate(
            [
                np.atleast_3d(weather.field(name, stamp, levels)).reshape(-1, *data.frame_shape[1:])
                for name in data.variables
            ]
        )
        for stamp in stamps
    ]
    return np.stack(frames)


@contextmanager
def stamps_read(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The stamps read from the source meanwhile."""
    seen: set[str] = set()
    read = ReplayStore.read

    def remember(self: ReplayStore, name: str, stamps: Any = None, levels: Any = None) -> np.ndarray:
        if stamps is not None:
            seen.update(text(stamp) for stamp in stamps)
        return read(self, name, stamps, levels)

    with monkeypatch.context() as patch:
        patch.setattr(ReplayStore, "read", remember)
        yield seen


def content(folder: Path) -> dict[str, bytes]:
    """Every file of the prepared data but the lock and what tells the time of its making."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (".lock", "manifest.json", ".manifest.copy.json")
    }


def test_every_frame_is_what_the_source_holds(store: Path, tmp_path: Path) -> None:
    chosen = experiment(store)
    data = prepared(chosen, tmp_path)
    assert np.array_equal(data.stamps, wanted_stamps(chosen))
    assert data.valid.all() and data.mask.all() and not data.missing.size
    assert np.array_equal(data.read(data.stamps), truth(data, data.stamps))
    weather = Weather(data.latitude, data.longitude)
    for name in ("land_static", "hgtsfc_static"):
        assert np.array_equal(data.static[name], weather.field(name, data.stamps[0]))
        assert data.static[name].dtype == np.float32


def test_segments_are_calendar_months_packed_a_frame_a_chunk_without_compression(daily: Path, tmp_path: Path) -> None:
    chosen = daily_experiment(daily)
    result = prepare(chosen, tmp_path)
    folder = Paths(chosen, tmp_path).data
    names = sorted(path.name for path in (folder / SEGMENTS).iterdir())
    assert names == [
        "1993-12-31T18_1993-12-31T18.zarr",
        "1994-01-01T18_1994-01-31T18.zarr",
        "1994-02-01T18_1994-02-28T18.zarr",
        "1994-03-01T18_1994-03-20T18.zarr",
    ]
    assert result["segments"] == 4 and result["new"] == result["stamps"] == 80
    metadata = json.loads((folder / SEGMENTS / names[1] / "frames" / "zarr.json").read_text())
    assert metadata["shape"] == [31, 6, 8, 16]
    assert metadata["chunk_grid"]["configuration"]["chunk_shape"] == [31, 6, 8, 16]
    sharding = metadata["codecs"][0]
    assert sharding["configuration"]["chunk_shape"] == [1, 6, 8, 16]
    assert [codec["name"] for codec in sharding["configuration"]["codecs"]] == ["bytes", "crc32c"]


def test_a_segment_opens_in_xarray_with_its_coordinates(store: Path, tmp_path: Path) -> None:
    chosen = experiment(store)
    data = prepared(chosen, tmp_path)
    name = "1994-01-01T00_1994-01-11T18.zarr"
    dataset = xr.open_zarr(data.folder / SEGMENTS / name, chunks=None, consolidated=False)
    assert np.array_equal(dataset.time.values, data.stamps[1:])
    assert dataset.attrs["variables"] == [channel.variable for channel in data.channels]
    assert np.array_equal(dataset.frames.isel(time=3), data.read(data.stamps[4:5])[0])


def test_doing_it_twice_reads_nothing_and_says_so(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = experiment(store)
    assert prepare(chosen, tmp_path)["status"] == "completed"
    before = content(Paths(chosen, tmp_path).data)
    monkeypatch.setattr("graphufs.data.prepare.open_source", None)  # not even opened
    assert prepare(chosen, tmp_path)["status"] == "unchanged"
    assert content(Paths(chosen, tmp_path).data) == before


def test_new_days_are_new_segments_and_old_stamps_are_not_read_again(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = experiment(store, evaluation=("1994-01-09T00", "1994-01-10T18"))
    later = experiment(store)
    prepare(first, tmp_path)
    before = content(Paths(first, tmp_path).data)
    assert Paths(first, tmp_path).data == Paths(later, tmp_path).data
    with stamps_read(monkeypatch) as seen:
        result = prepare(later, tmp_path)
    assert result["new"] == 4
    of_the_same_source = "1994-01-10T18"  # compared with what was prepared from it
    assert seen == {of_the_same_source, "1994-01-11T00", "1994-01-11T06", "1994-01-11T12", "1994-01-11T18"}
    after = content(Paths(later, tmp_path).data)
    assert before.items() <= after.items()
    data = PreparedData.open(Paths(later, tmp_path).data)
    assert np.array_equal(data.read(data.stamps), truth(data, data.stamps))


def test_what_lies_between_disjoint_periods_is_not_read(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = experiment(store, training=("1994-01-01T00", "1994-01-03T00"))
    with stamps_read(monkeypatch) as seen:
        data = prepared(chosen, tmp_path)
    assert seen == {text(stamp) for stamp in wanted_stamps(chosen)}
    assert "1994-01-05T00" not in seen
    assert np.array_equal(data.read(data.stamps), truth(data, data.stamps))


def test_flawed_and_missing_stamps_are_named_counted_and_never_valid(flawed: Path, tmp_path: Path) -> None:
    chosen = experiment(flawed, forcings=["dswrf_avetoa", "weasd"])
    result = prepare(chosen, tmp_path)
    assert result["invalid"] == {"count": 1, "by_variable": {"weasd": 1}, "stamps": [INVALID]}
    assert result["missing"] == {"count": 1, "stamps": [ABSENT]}
    assert any("weasd" in warning and INVALID in warning for warning in result["warnings"])
    assert any(ABSENT in warning for warning in result["warnings"])
    data = PreparedData.open(Paths(chosen, tmp_path).data)
    assert data.stamps[~data.valid].tolist() == [np.datetime64(INVALID, "ns").astype(int)]
    assert data.invalid == {INVALID: ["weasd"]}
    assert [text(stamp) for stamp in data.missing] == [ABSENT]
    assert prepare(chosen, tmp_path)["status"] == "unchanged"


def test_a_missing_stamp_that_has_come_is_prepared_later(flawed: Path, tmp_path: Path) -> None:
    path = tmp_path / "fv3.zarr"
    shutil.copytree(flawed, path)
    chosen = experiment(path)
    prepare(chosen, tmp_path / "root")
    shutil.rmtree(path)
    build_atmosphere(
        path, count=96, variables=("tmp", "pressfc", "ugrd10m", "dswrf_avetoa", "land_static", "hgtsfc_static")
    )
    result = prepare(chosen, tmp_path / "root")
    assert result["new"] == 1 and result["missing"]["count"] == 0
    data = PreparedData.open(Paths(chosen, tmp_path / "root").data)
    assert not data.missing.size
    assert np.array_equal(data.read(data.stamps), truth(data, data.stamps))


@pytest.mark.parametrize("way", ["a byte short", "gone"])
def test_a_damaged_segment_is_refused_by_readers_and_made_anew(store: Path, tmp_path: Path, way: str) -> None:
    chosen = experiment(store)
    data = prepared(chosen, tmp_path)
    before = content(data.folder)
    shard = next((data.folder / SEGMENTS).glob("1994-01*/frames/c/0/0/0/0"))
    if way == "gone":
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"prepared data are damaged: .*run `graphufs prepare` again"):
        PreparedData.open(data.folder)
    assert prepare(chosen, tmp_path)["status"] == "completed"
    assert content(data.folder) == before


def test_a_changed_frame_is_refused_when_it_is_read_and_made_anew(store: Path, tmp_path: Path) -> None:
    chosen = experiment(store)
    data = prepared(chosen, tmp_path)
    manifest = Manifest.read(data.folder)
    assert manifest is not None
    segment = manifest.segments[-1]
    assert segment.damage(data.folder, thorough=True) is None
    shard = data.folder / SEGMENTS / segment.name / "frames" / "c" / "0" / "0" / "0" / "0"
    values = bytearray(shard.read_bytes())
    values[1000] ^= 1
    shard.write_bytes(values)
    assert segment.damage(data.folder) is None
    assert "has changed" in str(segment.damage(data.folder, thorough=True))
    assert prepare(chosen, tmp_path)["status"] == "unchanged", "it does not read all data each time"
    with pytest.raises(UserError, match=rf"frames of .*{segment.name} cannot be read .*`graphufs prepare` again"):
        data.read(data.stamps)
    with pytest.raises(UserError, match="has changed since it was written"):  # it is known from now on
        PreparedData.open(data.folder)
    assert prepare(chosen, tmp_path)["new"] == segment.stamps.size
    data = PreparedData.open(data.folder)
    assert np.array_equal(data.read(data.stamps), truth(data, data.stamps))
    assert not list(data.folder.glob(".*.suspect"))


def test_leftovers_of_dead_runs_are_swept_away(daily: Path, tmp_path: Path) -> None:
    chosen = daily_experiment(daily, evaluation=("1994-03-03T18", "1994-03-15T18"))
    folder = prepared(chosen, tmp_path).folder
    leftovers = [
        folder / SEGMENTS / ".1994-05-01T18_1994-05-31T18.zarr.123.tmp",
        folder / SEGMENTS / "1994-05-01T18_1994-05-31T18.zarr",
        folder / ".static.zarr.99.tmp",
    ]
    for path in leftovers:
        path.mkdir()
        (path / "part").write_text("half")
    (folder / ".manifest.json.7.tmp").write_text("{")
    prepare(daily_experiment(daily), tmp_path)
    assert not any(path.exists() for path in leftovers)
    assert sorted(path.name for path in folder.iterdir()) == [
        ".lock",
        ".manifest.copy.json",
        "manifest.json",
        SEGMENTS,
        "static.zarr",
    ]


def test_killed_anywhere_it_goes_on_to_what_an_undisturbed_run_gives(daily: Path, tmp_path: Path) -> None:
    chosen = daily_experiment(daily)
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    expected = prepared(chosen, undisturbed)
    folder = Paths(chosen, killed).data
    for module, name, call, moment, listed in (
        ("graphufs.data.prepare", "write_static", 1, "after", None),
        ("graphufs.data.segments", "verify", 2, "before", 1),
        ("graphufs.data.prepare", "write_segment", 1, "after", 1),
        ("graphufs.storage.journal", "Journal.append", 2, "before", 2),  # in the journal, but not in its copy
        ("graphufs.data.manifest", "Manifest.write", 1, "before", 2),
        ("graphufs.storage.journal", "Journal.begin", 2, "after", 2),
        ("graphufs.data.manifest", "Manifest.write", 3, "before", 4),  # all is committed, and the journal still there
    ):
        Halted("prepare", chosen, killed, module, name, call, moment).kill()
        manifest = Manifest.read(folder)
        assert (manifest and len(manifest.segments)) == listed
        if manifest:
            assert all(segment.damage(folder, thorough=True) is None for segment in manifest.segments)
    assert prepare(chosen, killed)["new"] == 0
    assert content(folder) == content(expected.folder)
    found = PreparedData.open(folder)
    assert np.array_equal(found.stamps, expected.stamps)
    assert np.array_equal(found.read(found.stamps), truth(found, found.stamps))


def test_of_two_processes_one_writes_and_the_other_waits(daily: Path, tmp_path: Path) -> None:
    chosen = daily_experiment(daily)
    other = Halted("prepare", chosen, tmp_path, "graphufs.data.prepare", "write_segment", 2)
    events: list[Event] = []
    results: list[dict[str, Any]] = []

    def run_here() -> None:
        results.append(run(chosen, tmp_path, progress=events.append, should_stop=never_stop))

    here = threading.Thread(target=run_here)
    here.start()
    here.join(timeout=1.0)
    assert here.is_alive() and "waiting for another process" in events[-1].label
    assert other.go_on()["new"] == 80
    here.join(timeout=60)
    assert results[0]["status"] == "unchanged"
    data = PreparedData.open(Paths(chosen, tmp_path).data)
    assert np.array_equal(data.read(data.stamps), truth(data, data.stamps))


def test_a_polite_stop_keeps_what_is_committed(daily: Path, tmp_path: Path) -> None:
    chosen = daily_experiment(daily)
    events: list[Event] = []
    result = run_step("prepare", chosen, tmp_path, progress=events.append, should_stop=lambda: len(events) > 8)
    assert result["status"] == "stopped"
    manifest = Manifest.read(Paths(chosen, tmp_path).data)
    assert manifest is not None and 1 <= len(manifest.segments) < 4
    assert not list((Paths(chosen, tmp_path).data / SEGMENTS).glob(".*"))
    assert prepare(chosen, tmp_path)["new"] == 80 - manifest.stamps.size


def test_progress_counts_stamps_to_the_end(daily: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    run(daily_experiment(daily), tmp_path, progress=events.append, should_stop=never_stop)
    done = [event.done for event in events]
    assert done == sorted(done)
    assert events[-1].done == pytest.approx(80) and events[-1].total == 80 and events[-1].unit == "stamps"


def test_a_full_disk_is_said_and_leaves_nothing_half_written(daily: Path, tmp_path: Path) -> None:
    chosen = daily_experiment(daily)
    folder = Paths(chosen, tmp_path).data
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A limit on file sizes stands for the disk: December's single frame fits, January's do not.
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"no room left while writing .*1994-01-01T18.*repeat the command"):
            prepare(chosen, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in (folder / SEGMENTS).iterdir()] == ["1993-12-31T18_1993-12-31T18.zarr"]
    assert prepare(chosen, tmp_path)["new"] == 79


def test_too_small_a_disk_is_said_before_more_than_a_sample_is_read(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("graphufs.data.prepare.shutil.disk_usage", lambda _: usage._replace(free=2**20))
    with stamps_read(monkeypatch) as seen, pytest.raises(UserError, match=r"only 0\.00 GiB are free"):
        prepare(experiment(store), tmp_path)
    assert len(seen) == LOOKS


def test_long_months_are_cut_into_several_segments(
    daily: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 9 * 6 * 8 * 16 * 4)  # what frames take, not their columns
    data = prepared(daily_experiment(daily), tmp_path)
    manifest = Manifest.read(data.folder)
    assert manifest is not None and max(segment.stamps.size for segment in manifest.segments) == 9
    assert np.array_equal(data.read(data.stamps), truth(data, data.stamps))


def test_many_shards_and_small_reads_give_the_same_frames(
    daily: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphufs.data.zarr_segment.SHARD_BYTES", 7 * 6 * 8 * 16 * 4)
    monkeypatch.setattr(segments, "READ_BYTES", 3 * 8 * 16 * 4)
    data = prepared(daily_experiment(daily), tmp_path)
    assert len(list((data.folder / SEGMENTS).glob("1994-01*/frames/c/*"))) == 5
    assert np.array_equal(data.read(data.stamps), truth(data, data.stamps))


def test_each_chunk_of_the_source_is_decoded_once_for_a_block(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay = open_store(str(store), "fv3")

    selection = check(replay, experiment(store))
    monkeypatch.setattr(ReplayStore, "stamps_per_chunk", lambda self, name: 10)
    monkeypatch.setattr(segments, "READ_BYTES", 2 * replay.bytes_per_chunk_row("pressfc"))
    stamps = replay.times[3:96:2]
    plan = segments.read_plan(replay, selection, stamps)
    for name in selection.varying:
        rows = [part for other, part in plan if other == name]
        covered = np.concatenate([np.arange(part.start, part.stop) for part in rows])
        assert np.array_equal(covered, np.arange(stamps.size))
        chunks = [set((np.searchsorted(replay.times, stamps[part]) // 10).tolist()) for part in rows]
        assert sum(map(len, chunks)) == len(set.union(*chunks))


def test_a_source_that_changed_its_grid_is_not_mixed_in(tmp_path: Path) -> None:
    some = ("pressfc",)
    path = build_atmosphere(tmp_path / "fv3.zarr", count=90, variables=some)
    settings: dict[str, Any] = {"inputs": some, "targets": some, "forcings": []}
    prepare(experiment(path, evaluation=("1994-01-09T00", "1994-01-10T18"), **settings), tmp_path)
    shutil.rmtree(path)
    build_atmosphere(path, count=90, variables=some, latitudes=10, longitudes=20)
    with pytest.raises(UserError, match=r"has changed since .* was prepared: .* grid_yt"):
        prepare(experiment(path, **settings), tmp_path)


def test_another_choice_of_levels_or_variables_never_finds_old_files(store: Path, tmp_path: Path) -> None:
    choices: list[dict[str, Any]] = [
        {},
        {"levels": [100, 500]},
        {"forcings": ["dswrf_avetoa", "weasd"]},
        {"normalization": {"weights": "volume"}},
        {"level_match": "exact", "levels": [97.8232650756836]},
    ]
    folders = {Paths(experiment(store, **choice), tmp_path).data for choice in choices}
    assert len(folders) == len(choices)


def test_the_manifest_says_what_made_it_and_keeps_no_keys(store: Path, tmp_path: Path) -> None:
    chosen = experiment(store, source={"storage_options": {"token": "a-secret"}})
    data = prepared(chosen, tmp_path)
    content = (data.folder / "manifest.json").read_text()
    assert "a-secret" not in content
    manifest = json.loads(content)
    assert manifest["provenance"]["source"] == str(store)
    assert manifest["provenance"]["configuration"]["data"]["levels"] == [100.0, 500.0, 1000.0]
    assert manifest["provenance"]["versions"]["graphufs"]
    assert manifest["variables"]["tmp"]["attributes"]["units"] == "K"


def test_a_decimated_grid_remembers_its_parent(tmp_path: Path) -> None:
    some = ("pressfc",)
    path = build_atmosphere(tmp_path / "fv3.zarr", count=90, variables=some, subsampled_from=32)
    data = prepared(experiment(path, inputs=some, targets=some, forcings=[]), tmp_path)
    assert data.parent_latitude.size == 32 and np.array_equal(data.parent_latitude[::4], data.latitude)


def test_land_in_the_ocean_is_no_flaw_but_a_hole_in_the_sea_is(tmp_path: Path) -> None:
    path = build_ocean(tmp_path / "mom6.zarr", nan={"temp": ["1993-12-31T18"]}, holes={"temp": ["1994-01-02T06"]})
    chosen = ocean_experiment(path, normalization={"weights": "volume"})
    result = prepare(chosen, tmp_path)
    assert result["invalid"]["stamps"] == ["1993-12-31T18", "1994-01-02T06"]
    assert result["invalid"]["by_variable"] == {"temp": 2}
    data = PreparedData.open(Paths(chosen, tmp_path).data)
    assert data.variables == ("SSH", "ho", "temp")
    frames = data.read(data.stamps[data.valid])
    assert np.array_equal(np.isfinite(frames), np.broadcast_to(data.mask, frames.shape))
    deep, shallow = data.variable_slice("temp").stop - 1, data.variable_slice("temp").start
    assert data.mask[deep].sum() < data.mask[shallow].sum()
    source = open_store(str(path), "mom6")
    assert np.array_equal(
        data.read(data.stamps[3:4])[0, data.variable_slice("ho")],
        source.read("ho", data.stamps[3:4], np.array([0, 7, 9]))[0],
        equal_nan=True,
    )


def test_a_static_field_with_holes_is_refused(tmp_path: Path) -> None:
    import zarr

    some = ("pressfc", "hgtsfc_static")
    path = build_atmosphere(tmp_path / "fv3.zarr", count=90, variables=some)
    zarr.open_group(str(path), mode="a", zarr_format=2)["hgtsfc_static"][0, 0] = np.nan
    chosen = experiment(path, inputs=some, targets=["pressfc"], forcings=[])
    with pytest.raises(UserError, match=r"hgtsfc_static .* has no value at 1 of 128 points"):
        prepare(chosen, tmp_path)
    assert not (Paths(chosen, tmp_path).data / "manifest.json").exists()
