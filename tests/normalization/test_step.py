from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from graphufs import parallel
from graphufs.config.experiment import Experiment
from graphufs.data.dataset import PreparedData
from graphufs.data.prepare import run as prepare
from graphufs.errors import UserError
from graphufs.grid.areas import gaussian_latitudes, row_areas
from graphufs.normalization import step
from graphufs.normalization.blocks import Block, Task, compute_block, derived_moments, plan_blocks
from graphufs.normalization.moments import FieldMoments, merge_states
from graphufs.normalization.statistics import STORES, Statistics
from graphufs.replay.times import stamps_in
from graphufs.steps import Event, never_stop, no_progress, run_step
from graphufs.storage.paths import Paths
from tests.normalization.conftest import ABSENT, INVALID, USED
from tests.normalization.test_statistics import published
from tests.support.experiments import daily_experiment, ocean_experiment
from tests.support.killing import Halted
from tests.support.lookalike import build_atmosphere, hybrid_levels

PROGRESS = ("year_progress_sin", "year_progress_cos", "day_progress_sin", "day_progress_cos")


def normalize(chosen: Experiment, root: Path) -> dict[str, Any]:
    prepare(chosen, root, progress=no_progress, should_stop=never_stop)
    return step.run(chosen, root, progress=no_progress, should_stop=never_stop)


def made(chosen: Experiment, root: Path) -> tuple[Statistics, PreparedData]:
    normalize(chosen, root)
    data = PreparedData.open(Paths(chosen, root).data)
    names = (*data.variables, *data.static)
    return Statistics.open(Paths(chosen, root).statistics(), names, sorted(chosen.data.levels)), data


def close(one: Statistics, other: Statistics, rtol: float = 1e-12) -> bool:
    return all(
        getattr(one, kind).keys() == getattr(other, kind).keys()
        and all(
            np.allclose(getattr(one, kind)[n], getattr(other, kind)[n], rtol=rtol, atol=0) for n in getattr(one, kind)
        )
        for kind in STORES
    )


def by_hand(
    data: PreparedData, stamps: np.ndarray, weight: Callable[[np.ndarray, int], np.ndarray]
) -> dict[str, np.ndarray]:
    """Mean, deviation and deviation of differences of each channel in two plain passes."""
    frames = data.read(stamps).astype(np.float64)
    pairs = np.flatnonzero(np.diff(stamps) == np.timedelta64(24, "h"))
    result: dict[str, list[float]] = {kind: [] for kind in STORES}
    for channel in range(frames.shape[1]):
        weights = weight(frames, channel)
        values = frames[:, channel]
        differences, between = values[pairs + 1] - values[pairs], (weights[pairs + 1] + weights[pairs]) / 2
        mean = np.average(values, weights=weights)
        shift = np.average(differences, weights=between)
        result["mean"].append(float(mean))
        result["std"].append(float(np.sqrt(np.average((values - mean) ** 2, weights=weights))))
        result["diffs_std"].append(float(np.sqrt(np.average((differences - shift) ** 2, weights=between))))
    return {kind: np.array(values) for kind, values in result.items()}


@pytest.mark.parametrize("weights", ["none", "area", "volume"])
def test_statistics_equal_two_plain_passes_over_the_usable_stamps(daily: Path, tmp_path: Path, weights: str) -> None:
    chosen = daily_experiment(daily, normalization={"weights": weights})
    statistics, data = made(chosen, tmp_path)
    stamps = stamps_in(chosen.data.training, 24)
    lost = np.array([ABSENT, INVALID], "datetime64[ns]")
    area = np.ones(8) if weights == "none" else row_areas(data.latitude, data.parent_latitude)

    def weight(frames: np.ndarray, channel: int) -> np.ndarray:
        level = data.channels[channel].level
        thickness = np.ones_like(frames[:, 0])
        if weights == "volume" and level is not None:
            layers = data.variable_slice("delz")
            offset = [layer.level for layer in data.channels[layers]].index(level)
            thickness = np.abs(frames[:, layers.start + offset])
        return area[:, None] * thickness

    expected = by_hand(data, stamps[~np.isin(stamps, lost)], weight)
    for name in data.variables:
        for kind in STORES:
            found = getattr(statistics, kind)[name]
            assert np.allclose(found, expected[kind][data.variable_slice(name)], rtol=1e-12, atol=0), (name, kind)
    for name, field in data.static.items():
        exact = np.average(field.astype(np.float64).mean(axis=1), weights=area)
        assert statistics.mean[name][0] == pytest.approx(exact, rel=1e-13)
        assert name not in statistics.diffs_std


def test_the_weights_make_a_difference_a_person_would_see(daily: Path, tmp_path: Path) -> None:
    means = [
        made(daily_experiment(daily, normalization={"weights": weights}), tmp_path / weights)[0].mean["tmp"]
        for weights in ("none", "area", "volume")
    ]
    assert means[1][2] - means[0][2] > 3  # the poles are over-counted without weights
    assert not np.allclose(means[1], means[2], rtol=1e-5)


def test_differences_stop_at_gaps_and_at_the_periods_start() -> None:
    stamps = np.datetime64("1994-01-30", "ns") + np.array([0, 1, 2, 4, 5]) * np.timedelta64(24, "h")
    january, february = plan_blocks(stamps, 24)
    assert january.paired.tolist() == [False, True]
    assert february.paired.tolist() == [True, False, True]
    assert january.name.endswith("_first") and february.name.endswith("_joined")


def test_the_stores_carry_attributes_dates_and_provenance(daily: Path, tmp_path: Path) -> None:
    chosen = daily_experiment(daily, normalization={"weights": "area"})
    normalize(chosen, tmp_path)
    folder = Paths(chosen, tmp_path).statistics()
    stores = {kind: xr.open_zarr(folder / store, chunks=None) for kind, store in STORES.items()}
    mean, differences = stores["mean"].tmp, stores["diffs_std"].tmp
    assert mean.dims == ("pfull",) and mean.dtype == np.float64
    assert mean.pfull.values.tolist() == [97.8232650756836, 505.6520690917969, 998.7807006835938]
    assert mean.attrs["units"] == "K" and mean.attrs["long_name"] == "temperature"
    assert mean.attrs["description"] == "average over ['time', 'grid_yt', 'grid_xt'], weighted by area"
    assert differences.attrs["description"].startswith("standard deviation of temporal 24 hour difference over ['time'")
    assert (mean.attrs["stats_start_date"], mean.attrs["stats_end_date"]) == ("1993-12-31T18", "1994-02-20T18")
    assert "time" not in stores["mean"].land_static.attrs["description"]
    assert stores["mean"].attrs["source"] == str(daily) and stores["mean"].attrs["time_step"] == "24h"
    assert stores["mean"].pressfc.ndim == 0


def test_doing_it_twice_changes_nothing(daily: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = daily_experiment(daily)
    first = normalize(chosen, tmp_path)
    assert (first["status"], first["stamps"], first["left_out"]) == ("completed", 50, 2)
    monkeypatch.setattr(step, "compute_block", None)
    assert normalize(chosen, tmp_path)["status"] == "unchanged"


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    compute = step.compute_block

    def remember(data: PreparedData | str, block: Block, task: Task) -> dict[str, FieldMoments]:
        names.append(block.name)
        return compute(data, block, task)

    monkeypatch.setattr(step, "compute_block", remember)
    return names


def test_a_longer_period_computes_only_what_it_adds(
    daily: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = daily_experiment(daily, training=("1993-12-31T18", "1994-01-31T18"))
    longer = daily_experiment(daily)
    normalize(short, tmp_path)
    names = counted(monkeypatch)
    found, _ = made(longer, tmp_path)
    assert names == ["1994-02-01T18_1994-02-20T18_joined"]
    fresh, _ = made(longer, tmp_path / "fresh")
    assert close(found, fresh, rtol=1e-15)


def test_another_start_does_not_take_over_a_difference_it_must_not_have(daily: Path, tmp_path: Path) -> None:
    normalize(daily_experiment(daily), tmp_path)
    later = daily_experiment(daily, training=("1994-01-01T18", "1994-02-20T18"))
    found, _ = made(later, tmp_path)
    fresh, _ = made(later, tmp_path / "fresh")
    assert close(found, fresh, rtol=1e-15)


def test_a_stamp_that_has_come_makes_its_month_anew(
    daily: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "fv3.zarr"
    shutil.copytree(daily, path)
    chosen = daily_experiment(path)
    assert normalize(chosen, tmp_path / "root")["left_out"] == 2
    shutil.rmtree(path)
    build_atmosphere(path, count=80, step_hours=24, variables=USED, nan={"ugrd10m": [INVALID]})
    names = counted(monkeypatch)
    result = normalize(chosen, tmp_path / "root")
    assert (result["status"], result["left_out"]) == ("completed", 1)
    assert names == ["1994-01-01T18_1994-01-31T18_joined"]
    found, _ = made(chosen, tmp_path / "root")
    fresh, _ = made(chosen, tmp_path / "fresh")
    assert close(found, fresh, rtol=1e-15)


def test_killed_it_goes_on_to_what_an_undisturbed_run_gives(daily: Path, tmp_path: Path) -> None:
    chosen = daily_experiment(
        daily, inputs=["pressfc", "tmp", "year_progress_sin"], targets=["pressfc", "tmp"], forcings=[]
    )
    expected, _ = made(chosen, tmp_path / "undisturbed")
    killed = tmp_path / "killed"
    prepare(chosen, killed, progress=no_progress, should_stop=never_stop)
    paths = Paths(chosen, killed)
    Halted("normalize", chosen, killed, "graphufs.normalization.step", "save_block", 2).kill()
    assert len(list(paths.moments.glob("*.npz"))) == 1
    Halted("normalize", chosen, killed, "graphufs.normalization.statistics", "Statistics.save", 1, "after").kill()
    assert not paths.statistics().exists()
    found, _ = made(chosen, killed)
    assert close(found, expected, rtol=0)
    entries = sorted(path.name for path in paths.statistics().parent.iterdir())
    assert entries == [paths.statistics().name, "moments"]
    assert not list(paths.moments.glob("*.tmp"))


def test_a_polite_stop_keeps_the_months_done(daily: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = daily_experiment(daily)
    prepare(chosen, tmp_path, progress=no_progress, should_stop=never_stop)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    events: list[Event] = []
    result = run_step("normalize", chosen, tmp_path, progress=events.append, should_stop=lambda: events[-1].done >= 1)
    assert result["status"] == "stopped"
    kept = len(list(Paths(chosen, tmp_path).moments.glob("*.npz")))
    assert 1 <= kept < 3
    names = counted(monkeypatch)
    assert normalize(chosen, tmp_path)["status"] == "completed"
    assert len(names) == 3 - kept


def test_a_dask_cluster_gives_what_threads_give(daily: Path, tmp_path: Path) -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None, host="127.0.0.1") as cluster:
        by_dask = daily_experiment(daily, normalization={"dask": cluster.scheduler_address})
        found, _ = made(by_dask, tmp_path / "dask")
    by_threads = daily_experiment(daily)
    expected, _ = made(by_threads, tmp_path / "threads")
    assert close(found, expected, rtol=0)
    assert Paths(by_dask, tmp_path).hashes == Paths(by_threads, tmp_path).hashes


def test_a_dask_scheduler_that_is_not_there_is_named(
    daily: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "TIMEOUT", "1s")
    with pytest.raises(UserError, match=r"no dask scheduler answers at tcp://127\.0\.0\.1:1 "):
        normalize(daily_experiment(daily, normalization={"dask": "tcp://127.0.0.1:1"}), tmp_path)


def test_unprepared_stamps_are_named(daily: Path, tmp_path: Path) -> None:
    short = daily_experiment(daily, training=("1993-12-31T18", "1994-01-31T18"))
    prepare(short, tmp_path, progress=no_progress, should_stop=never_stop)
    with pytest.raises(UserError, match=r"20 stamps of the normalization period .* run `graphufs prepare`"):
        step.run(daily_experiment(daily), tmp_path, progress=no_progress, should_stop=never_stop)


def test_a_variable_that_does_not_vary_is_named(daily: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = PreparedData.read

    def constant(self: PreparedData, stamps: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        frames = read(self, stamps, out)
        frames[:, self.variable_slice("tmp").start + 1] = 250
        return frames

    chosen = daily_experiment(daily)
    prepare(chosen, tmp_path, progress=no_progress, should_stop=never_stop)
    monkeypatch.setattr(PreparedData, "read", constant)
    with pytest.raises(UserError, match=r"the standard deviation of tmp at 505\.6521 over the period .* is 0"):
        step.run(chosen, tmp_path, progress=no_progress, should_stop=never_stop)
    assert not Paths(chosen, tmp_path).statistics().exists()


def test_the_ocean_is_weighted_by_its_volume_and_land_counts_nothing(ocean: Path, tmp_path: Path) -> None:
    chosen = ocean_experiment(ocean, normalization={"weights": "volume"})
    statistics, data = made(chosen, tmp_path)
    frames = data.read(stamps_in(chosen.data.training, 6)).astype(np.float64)
    area = row_areas(data.latitude, data.parent_latitude)[:, None]
    temp, ho = data.variable_slice("temp"), data.variable_slice("ho")
    for level in range(3):
        values, weight = frames[:, temp.start + level], area * frames[:, ho.start + level]
        mean = np.nansum(values * weight) / np.nansum(weight)
        variance = np.nansum((values - mean) ** 2 * weight) / np.nansum(weight)
        assert statistics.mean["temp"][level] == pytest.approx(mean, rel=1e-13)
        assert statistics.std["temp"][level] == pytest.approx(np.sqrt(variance), rel=1e-12)
    assert statistics.vertical == {"temp": "z_l", "ho": "zl"}


@pytest.fixture(scope="module")
def years() -> tuple[PreparedData, dict[str, FieldMoments]]:
    """Moments of the progress forcings over the published period, 6-hourly; no frame is needed for them."""
    blank = np.zeros(0)
    data = PreparedData(
        folder=Path(),
        channels=(),
        latitude=gaussian_latitudes(4),
        longitude=np.arange(384) * 0.9375,
        parent_latitude=gaussian_latitudes(4),
        time_step=6,
        component="fv3",
        facts={},
        provenance={},
        mask=blank,
        static={},
        stamps=blank,
        valid=blank,
        missing=blank,
        invalid={},
        _where=blank,
        _segments=(),
        _committed=(),
    )
    stamps = np.arange(np.datetime64("1993-12-31T18", "ns"), np.datetime64("1997-12-31T19"), np.timedelta64(6, "h"))
    task = Task("none", (), PROGRESS, 1)
    total: dict[str, FieldMoments] = {}
    for block in plan_blocks(stamps, 6):
        total = merge_states(total, {name: derived_moments(data, name, block, task) for name in PROGRESS})
    return data, total


@pytest.mark.parametrize(
    ("name", "mean", "std", "diffs_std"),
    [  # the constants in the statistics that are published with GraphCast
        ("year_progress_sin", -0.0019232822626236157, 0.7085840482846367, 0.0030342521761048467),
        ("year_progress_cos", 0.01172127404282719, 0.7055264413169846, 0.0030474038590028816),
        ("day_progress_sin", -1.0231613285011715e-08, 0.7071067811865475, 0.9999999974440369),
        ("day_progress_cos", 2.679492657383283e-08, 0.7071067888988349, 1.0),
    ],
)
def test_progress_forcings_have_the_published_statistics_to_a_percent(
    years: tuple[PreparedData, dict[str, FieldMoments]], name: str, mean: float, std: float, diffs_std: float
) -> None:
    moments = years[1][name]
    found_mean, found_std = moments.values.finalize()
    assert found_mean[0] == pytest.approx(mean, abs=0.015)  # of a deviation of 0.7; the demo's years differ from ours
    assert found_std[0] == pytest.approx(std, rel=0.01)
    assert moments.differences.finalize()[1][0] == pytest.approx(diffs_std, rel=0.01)


def test_the_solar_forcing_gets_statistics_over_the_same_stamps(daily: Path, tmp_path: Path) -> None:
    from graphufs.forcings import derived_forcing

    names = ["toa_incident_solar_radiation", "day_progress_cos"]
    chosen = daily_experiment(
        daily,
        inputs=["pressfc", *names],
        targets=["pressfc"],
        forcings=names,
        levels=[],
        normalization={"weights": "area"},
    )
    _, data = made(chosen, tmp_path)
    statistics = Statistics.open(Paths(chosen, tmp_path).statistics(), names)
    stamps = stamps_in(chosen.data.training, 24)
    stamps = stamps[data.usable(stamps)]
    values = derived_forcing(names[0], stamps, data.latitude, data.longitude, 1)[:, 0].astype(np.float64)
    area = row_areas(data.latitude, data.parent_latitude)
    mean = np.average(values.mean(axis=(0, 2)), weights=area)
    assert statistics.mean[names[0]][0] == pytest.approx(mean, rel=1e-12)
    pairs = np.flatnonzero(np.diff(stamps) == np.timedelta64(24, "h"))
    differences = values[pairs + 1] - values[pairs]
    weight = np.broadcast_to(area[:, None], differences.shape)
    shift = np.average(differences, weights=weight)
    expected = np.sqrt(np.average((differences - shift) ** 2, weights=weight))
    assert statistics.diffs_std[names[0]][0] == pytest.approx(expected, rel=1e-10)


def test_published_statistics_are_read_by_url_and_kept_in_our_form(daily: Path, tmp_path: Path) -> None:
    url = published(tmp_path / "published", hybrid_levels()[2].astype(np.float32))
    settings: dict[str, Any] = {"inputs": ["pressfc", "tmp", "land_static", "year_progress_sin"],
                                "targets": ["pressfc", "tmp"], "forcings": []}  # fmt: skip
    chosen = daily_experiment(daily, normalization={"url": f"file://{url}"}, **settings)
    assert normalize(chosen, tmp_path)["status"] == "completed"
    found = Statistics.open(
        Paths(chosen, tmp_path).statistics(), ["tmp", "pressfc", "land_static", "year_progress_sin"], [100, 500, 1000]
    )
    assert found.mean["tmp"].tolist() == [43, 75, 126] and found.diffs_std["tmp"].tolist() == [2043, 2075, 2126]
    assert "land_static" not in found.diffs_std
    assert 0 < found.std["year_progress_sin"][0] < 1  # computed here, since it depends on the experiment
    assert normalize(chosen, tmp_path)["status"] == "unchanged"


def test_published_statistics_of_another_vertical_grid_are_refused(daily: Path, tmp_path: Path) -> None:
    url = published(tmp_path / "published", hybrid_levels()[2] * 1.02)
    chosen = daily_experiment(daily, inputs=["tmp"], targets=["tmp"], forcings=[], normalization={"url": str(url)})
    with pytest.raises(UserError, match=r"are for the level .*, but the data have 97\.82"):
        normalize(chosen, tmp_path)


def test_published_statistics_without_a_target_are_refused(daily: Path, tmp_path: Path) -> None:
    url = published(tmp_path / "published", hybrid_levels()[2], diffs=False)
    settings: dict[str, Any] = {"inputs": ["pressfc"], "targets": ["pressfc"], "forcings": [], "levels": []}
    chosen = daily_experiment(daily, normalization={"url": str(url)}, **settings)
    with pytest.raises(UserError, match="no standard deviation of differences of pressfc"):
        normalize(chosen, tmp_path)


def test_blocks_are_the_same_computed_from_the_folder(daily: Path, tmp_path: Path) -> None:
    chosen = daily_experiment(daily)
    prepare(chosen, tmp_path, progress=no_progress, should_stop=never_stop)
    data = PreparedData.open(Paths(chosen, tmp_path).data)
    block = plan_blocks(data.stamps[data.valid], 24)[1]
    task = Task("none", data.variables, (), 1)
    here, there = compute_block(data, block, task), compute_block(str(data.folder), block, task)
    assert all(np.array_equal(here[name].values.squares, there[name].values.squares) for name in data.variables)
