"""Ensembles through the whole chain: trained by CRPS from tiny's checkpoint, forecast member by member, scored."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.emulator import checkpoint, draws
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.errors import UserError
from graphufs.registry import registry
from graphufs.registry.decisions import promote
from graphufs.replay.synthetic.store import ensure_world
from graphufs.steps import Part, run_step
from graphufs.storage.checksums import read_checked
from graphufs.storage.paths import Paths
from graphufs.train import metrics_file, train_step
from graphufs.weatherbench.results.scores import Scores
from tests.conftest import TINY
from tests.support.emulators import emulator, save
from tests.support.training import assert_equal_arrays, final_arrays

# One program to compile: with a rollout.
STAGES = "training.stages=[{name: rollout, updates: 10, rollout: 2, loss: {kind: crps}, learning_rate: {peak: 1.0e-3}}]"


def ensemble(root: Path, *overrides: str) -> Experiment:
    start = Paths(loading.load(TINY), root).checkpoints / "00000016"
    below = start.relative_to(root)
    common = ("model.noise=32", STAGES, f"training.init_from={below}", "forecast.members=3", "training.batch_size=2")
    return loading.load(TINY, [*common, *overrides])


@pytest.fixture(scope="module")
def made(finished_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root in which the ensemble is trained and scored."""
    root = Path(shutil.copytree(finished_root, tmp_path_factory.mktemp("ensemble") / "root"))
    for step in ("train", "forecast", "evaluate"):
        assert run_step(step, ensemble(root), root)["status"] in ("completed", "unchanged")
    return root


@pytest.fixture
def copied(made: Path, copy_of_root: Callable[[Path], Path]) -> Path:
    return copy_of_root(made)


def test_it_starts_as_the_deterministic_model_and_its_members_come_apart(made: Path) -> None:
    paths = Paths(ensemble(made), made)
    report = json.loads((paths.run / "initial.json").read_text())
    new = [one["tensor"] for one in report["tensors"] if one["how"] == "new"]
    assert len(new) == 6 + 2 * 2 and all(name.endswith("_layer_norm_noise:w") for name in new)
    lines = [line for line in metrics_file.read(paths.metrics) if line["event"] == "update"]
    assert [line["update"] for line in lines] == [6, 8, 10]
    for line in lines:
        assert set(line["ensemble"]) == {"skill", "distance", "variance", "mean_error", "spread_skill"}
        assert len(line["ensemble"]["variance"]["tmp"]) == 2
    assert 0 < min(lines[-1]["ensemble"]["variance"]["tmp"]) < 1
    network = ReplayEmulator.from_checkpoint(checkpoint.last(paths.checkpoints) or Path()).network
    norm = network.encoder.edges.norm
    assert norm is not None and norm.noise is not None and np.abs(norm.noise).max() > 1e-4


def test_forecasts_have_members_in_the_layout_of_weatherbench2_and_are_scored(made: Path) -> None:
    paths = Paths(ensemble(made), made)
    forecasts = xr.open_zarr(paths.forecasts)
    assert forecasts.temperature.dims[:3] == ("time", "number", "prediction_timedelta")
    assert forecasts.number.values.tolist() == [0, 1, 2] and np.isfinite(forecasts.temperature).all()
    assert (forecasts.temperature.std("number") > 0).mean() > 0.9
    crps = xr.open_zarr(paths.scores).temperature.sel(metric="crps")
    assert (crps > 0).all()


def test_a_member_is_the_same_in_an_ensemble_of_any_size_and_made_in_parts(copied: Path) -> None:
    expected = xr.open_zarr(Paths(ensemble(copied), copied).forecasts).load()
    more = ensemble(copied, "forecast.members=4")
    for index in (2, 0, 1):
        run_step("forecast", more, copied, part=Part(index, 3))
    run_step("forecast", more, copied)
    found = xr.open_zarr(Paths(more, copied).forecasts).load()
    for name in expected.data_vars:
        np.testing.assert_array_equal(found[name].isel(number=slice(3)), expected[name])
    alone = ensemble(copied, "forecast.members=1")
    run_step("forecast", alone, copied)
    single = xr.open_zarr(Paths(alone, copied).forecasts)
    assert "number" not in single.dims
    np.testing.assert_array_equal(single.temperature, expected.temperature.isel(number=0))


def test_members_that_are_not_stored_are_scored_all_the_same(copied: Path) -> None:
    # one truth, and maps and spectra at a lead; in two parts, one of which is stopped on its way
    common = ("evaluation.map_leads=[12h]",)
    kept, left = ensemble(copied, *common), ensemble(copied, *common, "forecast.keep_members=false")
    with pytest.raises(UserError, match="the members that they are of are not kept: `graphufs forecast`"):
        run_step("evaluate", left, copied)
    count = iter(range(1000))
    assert run_step("forecast", left, copied, should_stop=lambda: next(count) >= 4)["status"] == "stopped"
    run_step("forecast", left, copied, part=Part(1, 2))
    assert not Paths(left, copied).scores.exists()
    assert run_step("forecast", left, copied)["status"] == "completed"
    assert [run_step(step, left, copied)["status"] for step in ("forecast", "evaluate")] == ["unchanged"] * 2
    for step in ("forecast", "evaluate"):
        run_step(step, kept, copied)
    found, expected = (Scores.open(Paths(one, copied).scores) for one in (left, kept))
    assert found.checksums == expected.checksums and found.dataset.attrs["members"] == 3
    for one, other in ((found.diagnostics, expected.diagnostics), (found.histograms, expected.histograms)):
        assert one is not None and other is not None
        xr.testing.assert_allclose(one, other, rtol=1e-12)
    mean, members = (xr.open_zarr(Paths(one, copied).forecasts) for one in (left, kept))
    assert "number" not in mean.dims and mean.attrs["mean_of_members"] == 3
    np.testing.assert_allclose(mean.temperature, members.temperature.mean("number"), rtol=1e-6)
    # without its scores the mean is worth nothing
    shutil.rmtree(Paths(left, copied).scores)
    assert run_step("forecast", left, copied)["status"] == "completed"
    assert Scores.open(Paths(left, copied).scores).checksums == expected.checksums


def test_a_training_that_was_stopped_sees_the_same_noise(made: Path, copied: Path) -> None:
    wanted = ensemble(copied)
    shutil.rmtree(Paths(wanted, copied).run)
    count = iter(range(100))
    assert run_step("train", wanted, copied, should_stop=lambda: next(count) >= 4)["status"] == "stopped"
    assert run_step("train", wanted, copied)["status"] == "completed"
    assert_equal_arrays(final_arrays(Paths(wanted, copied)), final_arrays(Paths(wanted, made)))


def test_checkpoints_of_several_runs_make_members_in_turn(made: Path, copied: Path) -> None:
    # the deterministic run's and the ensemble's: not of one seed, but they have the same fields
    other = Paths(loading.load(TINY), copied).checkpoints / "00000016"
    both = ensemble(copied, "forecast.members=4", f"forecast.checkpoints=[{other.relative_to(copied)}]")
    run_step("forecast", both, copied)
    found = xr.open_zarr(Paths(both, copied).forecasts).temperature
    own = xr.open_zarr(Paths(ensemble(made), made).forecasts).temperature
    single = xr.open_zarr(Paths(loading.load(TINY), made).forecasts).temperature
    for member, expected in ((0, own[:, 0]), (1, single), (2, own[:, 2]), (3, single)):
        np.testing.assert_array_equal(found[:, member], expected)
    (copied / "runs" / "coarse").mkdir()
    place = copied / "runs" / "coarse" / "0123456789ab" / "checkpoints"
    save(emulator(targets=["tmp"]), place, 16)
    below = f"forecast.checkpoints=[{(place / '00000016').relative_to(copied)}]"
    with pytest.raises(UserError, match="whose grid and variables and levels differ from those of"):
        run_step("forecast", ensemble(copied, "forecast.members=4", below), copied)


@pytest.mark.long  # nights and the registry are shown without members too
def test_it_is_registered_and_nights_join_with_their_histograms(copied: Path) -> None:
    wanted = ensemble(copied, "nightly.at_most=2")
    registered = run_step("register", wanted, copied)
    assert registered["scores"]["members"] == 3
    told = registered["scores"]["crps"][0]
    assert told["emulator"]["24h"] > 0 and told["persistence"]["24h"] > 0
    for number in (1, 2):
        plan = run_step("plan_nightly", wanted, copied)
        tonight = loading.parse(plan["experiment"])
        assert tonight.forecast.members == 3 and len(plan["initial_times"]) == 2
        for step in ("forecast", "evaluate"):
            run_step(step, tonight, copied)
        recorded = run_step("record_nightly", tonight, copied)
        assert recorded["initial_times"] == 2 * number and recorded["latest"]["members"] == 3
    merged = Scores.open(copied / recorded["store"])
    times = merged.initial_times
    assert merged.histograms is not None and list(merged.histograms["init_time"].values) == list(times)
    whole = Scores.open(Paths(wanted, copied).scores).states()["emulator"].select(times)
    of_nights = merged.states()["emulator"].finalize(("crps", "spread_skill"))
    for name, values in whole.finalize(("crps", "spread_skill")).items():
        np.testing.assert_allclose(of_nights[name], values, rtol=1e-4)  # others are forecast beside


@pytest.mark.long
def test_a_challenger_of_members_is_judged_by_crps(copied: Path) -> None:
    rule = ("training_days=10", "validation_days=2", "comparison_times=8", "new_days=3", "metric=crps", "then=promote")
    loose = ("stability.margin=100", "stability.spectrum=1e9", "worse_by_at_most=9", "level=0.49")
    longer = STAGES.replace("updates: 10", "updates: 60")
    wanted = ensemble(copied, *(f"retraining.{one}" for one in (*rule, *loose)))
    first = run_step("register", wanted, copied)["model"]
    promote(copied, first, "somebody", "the first one")
    world = Paths(wanted, copied).world
    ensure_world(world, wanted.data.source.world, np.datetime64("1994-02-12T18", "h"), exact=True)
    plan = run_step(
        "plan_retraining", ensemble(copied, *(f"retraining.{one}" for one in (*rule, *loose)), longer), copied
    )
    planned, request = loading.parse(plan["experiment"]), loading.request(plan["request"])
    assert (planned.training.init_from or "").endswith("checkpoints/00000010")  # of the champion, with its maps
    for step in ("prepare", "normalize", "train"):
        run_step(step, planned, copied)
    found = run_step("compare_models", planned, copied, request=request)
    evidence = read_checked(copied / found["evidence"])
    assert evidence["metric"] == "crps" and found["decision"] in ("promote", "hold"), found["why"]
    scores = Scores.open(Paths(planned, copied).scores)
    (own, *_) = [one for one in evidence["findings"] if one["variable"] == "temperature"]
    channel = next(one for one in scores.channels if (one.variable, one.level) == ("temperature", own["level"]))
    assert own["challenger"] == scores.at("crps", "emulator", channel, np.timedelta64(24, "h"))
    decided = run_step("decide", planned, copied, request=request)
    assert (
        registry.get(copied, found["model"]).role == {"promote": "champion", "hold": "candidate"}[decided["decision"]]
    )


@pytest.mark.long
def test_replicated_members_are_noticed(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replicated(*arguments: Any) -> Any:
        noise = draws.batch_noise(*arguments)
        return noise.at[:, 1:].set(noise[:, :1])

    monkeypatch.setattr(train_step, "batch_noise", replicated)
    wanted = ensemble(copied, "training.seed=3", "training.compute.rematerialize=nothing")  # compiled anew
    with pytest.raises(UserError, match="the 2 members of stage 'rollout' are all the same after 10 of its updates"):
        run_step("train", wanted, copied)


@pytest.mark.long
def test_validation_forecasts_choose_by_the_score_of_members(copied: Path) -> None:
    wanted = ensemble(copied, "training.validation_forecasts={every: 6, initial_times: 2, lead_time: 12h}")
    run_step("train", wanted, copied)
    lines = [line for line in metrics_file.read(Paths(wanted, copied).metrics) if line["event"] == "forecasts"]
    assert len(lines) == 2 and all(np.isfinite(line["score"]) and line["score"] > 0 for line in lines)


@pytest.mark.long
def test_members_in_turn_learn_the_same_to_rounding(made: Path, copied: Path) -> None:
    wanted = ensemble(copied, "training.compute.members_in_turn=true")
    paths = Paths(wanted, copied)
    shutil.rmtree(paths.run)  # it has the same name
    run_step("train", wanted, copied)
    one, other = (
        [line["loss"] for line in metrics_file.read(place.metrics) if line["event"] == "update"]
        for place in (paths, Paths(ensemble(made), made))
    )
    np.testing.assert_allclose(one, other, rtol=1e-3)
