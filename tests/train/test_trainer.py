"""Training: the loss falls, an interrupted run ends where an undisturbed one does, bad data stop it by name."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from graphufs.config import loading
from graphufs.data.dataset import PreparedData
from graphufs.emulator import checkpoint
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.errors import Diverged, UserError
from graphufs.steps import run_step
from graphufs.storage.paths import Paths
from graphufs.train import metrics_file
from graphufs.train.compiling.compiled_steps import Programs
from graphufs.train.devices import Devices
from graphufs.train.stages import Plan
from graphufs.train.train_step import Objective, Program
from graphufs.train.trainer import _Training
from tests.conftest import TINY
from tests.support.rounding import rounding
from tests.support.training import assert_equal_arrays, final_arrays


def stop_after(calls):
    count = iter(range(10**6))
    return lambda: next(count) >= calls


@pytest.mark.parametrize("updates", [pytest.param(7, marks=pytest.mark.long), 12])
def test_a_training_stopped_anywhere_ends_where_an_undisturbed_one_does(
    tiny, normalized_root, finished_root, copy_of_root, updates
):
    root = copy_of_root(normalized_root)
    result = run_step("train", tiny, root, should_stop=stop_after(updates - 1))
    assert result["status"] == "stopped" and f"{updates} of 16 updates" in result["message"]
    assert checkpoint.updates(Paths(tiny, root).checkpoints)[-1] == updates
    assert run_step("train", tiny, root)["status"] == "completed"
    assert_equal_arrays(final_arrays(Paths(tiny, root)), final_arrays(Paths(tiny, finished_root)))
    lines = metrics_file.read(Paths(tiny, root).metrics)
    seen = [(line["event"], line["update"]) for line in lines]
    assert len(seen) == len(set(seen)) and seen[-1][1] == 16


def test_metrics_tell_the_training(tiny, finished_root):
    lines = metrics_file.read(Paths(tiny, finished_root).metrics)
    updates = [line for line in lines if line["event"] == "update"]
    assert updates[0]["stage"] == "one-step" and updates[-1]["stage"] == "rollout"
    assert updates[-1]["learning_rate"] == pytest.approx(1e-4)
    assert set(updates[0]["loss_by_variable"]) == {"pressfc", "tmp"}
    validations = [line for line in lines if line["event"] == "validation"]
    assert [line["update"] for line in validations] == [8, 12, 16]
    assert all(line["samples"] == 6 for line in validations)


@pytest.mark.long
def test_what_the_metrics_tell_goes_to_mlflow_too(tiny, finished_root, copy_of_root):
    root = copy_of_root(finished_root)
    tracked = loading.load(TINY, ["training.tracking.mlflow=true"])
    paths = Paths(tracked, root)
    shutil.rmtree(paths.checkpoints / "00000016")
    result = run_step("train", tracked, root)  # goes on from update 12
    assert result["status"] == "completed" and "warnings" not in result
    with contextlib.closing(sqlite3.connect(root / "mlflow" / "mlflow.db")) as database:
        rows = set(database.execute("select step, value from metrics where key = 'validation/loss'"))
    told = [line for line in metrics_file.read(paths.metrics) if line["event"] == "validation"]
    assert rows == {(line["update"], line["loss"]) for line in told} and len(rows) == 3


def test_the_loss_falls(normalized_root, copy_of_root):
    root = copy_of_root(normalized_root)
    one_stage = "training.stages=[{name: one, updates: 150, learning_rate: {peak: 3.0e-3}}]"
    experiment = loading.load(TINY, [one_stage, "training.validate_every=150"])
    run_step("train", experiment, root)
    losses = [line["loss"] for line in metrics_file.read(Paths(experiment, root).metrics) if line["event"] == "update"]
    assert losses[-1] < 0.75 * losses[0]


def test_a_finished_training_is_not_repeated(tiny, finished_root):
    assert run_step("train", tiny, finished_root)["status"] == "unchanged"


def test_a_checkpoint_holds_all_that_a_forecast_needs(tiny, finished_root, tmp_path):
    paths = Paths(tiny, finished_root)
    copy = shutil.copytree(paths.checkpoints / "00000016", tmp_path / "elsewhere")
    emulator = ReplayEmulator.from_checkpoint(copy)
    assert emulator.experiment == tiny
    data = PreparedData.open(paths.data)
    times = [np.datetime64("1994-01-13T06"), np.datetime64("1994-01-14T00")]
    forecast = emulator.forecast(data, times, steps=3)
    assert forecast.temperature.dims == ("time", "prediction_timedelta", "level", "latitude", "longitude")
    assert np.isfinite(forecast.temperature).all() and np.isfinite(forecast.surface_pressure).all()
    (before,) = data.read(np.array([times[0]], "datetime64[ns]"))
    change = np.abs(forecast.surface_pressure[0, 0].values - before[data.variable_slice("pressfc")][0])
    assert 0 < change.max() < 5000


def test_only_the_last_checkpoints_are_kept(tiny, finished_root):
    assert checkpoint.updates(Paths(tiny, finished_root).checkpoints) == [12, 16]


HOT = ["training.optimizer.clip=null", "training.stages=[{name: one, updates: 30, learning_rate: {peak: 1.0e+30}}]"]


def test_a_loss_that_is_not_finite_stops_the_training_and_names_the_samples(normalized_root, copy_of_root):
    root = copy_of_root(normalized_root)
    with pytest.raises(Diverged, match=r"not finite .* start at 1994-01-\d\dT\d\d, 1994-01.*checkpoint is none"):
        run_step("train", loading.load(TINY, HOT), root)


def test_the_last_good_checkpoint_outlives_a_divergence(normalized_root, copy_of_root):
    root = copy_of_root(normalized_root)
    jump = "{schedule: constant, peak: 1.0e+30, warmup_updates: 6, start: 0.0}"
    late = ["training.stages=[{name: calm, updates: 8}, {name: hot, updates: 8, learning_rate: " + jump + "}]"]
    experiment = loading.load(TINY, HOT[:1] + late)
    with pytest.raises(Diverged, match=r"The last good checkpoint is of update 8; lower the learning rate"):
        run_step("train", experiment, root)
    paths = Paths(experiment, root)
    assert checkpoint.updates(paths.checkpoints)[-1] == 8
    learnt = {name: values for name, values in final_arrays(paths).items() if name.startswith(("network", "optimizer"))}
    assert learnt and all(np.isfinite(values).all() for values in learnt.values())


def test_a_training_goes_back_and_lowers_its_rate_as_often_as_allowed(normalized_root, copy_of_root):
    root = copy_of_root(normalized_root)
    policy = "training.divergence={rollbacks: 2, rate_factor: 3.0e-17}"
    experiment = loading.load(TINY, [*HOT, policy])  # 1e30, 3e13, 9e-4
    result = run_step("train", experiment, root)
    assert result["status"] == "completed" and len(result["warnings"]) == 2
    paths = Paths(experiment, root)
    lines = metrics_file.read(paths.metrics)
    assert [line["rollbacks"] for line in lines if line["event"] == "rollback"] == [1, 2]
    rates = [line["learning_rate"] for line in lines if line["event"] == "update"]
    assert rates == pytest.approx([9e-4] * len(rates), rel=1e-3)
    position = checkpoint.read_meta(checkpoint.last(paths.checkpoints))["position"]
    assert position["rollbacks"] == 2 and position["rate_factor"] == pytest.approx(9e-34)


def test_rollbacks_are_bounded(normalized_root, copy_of_root):
    root = copy_of_root(normalized_root)
    experiment = loading.load(TINY, [*HOT, "training.divergence={rollbacks: 2, rate_factor: 0.5}"])
    with pytest.raises(Diverged, match="after 2 rollbacks"):
        run_step("train", experiment, root)


def test_checkpoints_come_at_least_so_often(tiny, normalized_root, copy_of_root, finished_root):
    root = copy_of_root(normalized_root)
    often = loading.load(TINY, ["training.checkpoint_minutes=1.0e-6", "training.keep_checkpoints=30"])
    run_step("train", often, root)
    paths = Paths(often, root)
    assert paths.run.name == Paths(tiny, root).run.name  # the same run: nothing else is learnt
    assert checkpoint.updates(paths.checkpoints) == list(range(1, 17))
    assert_equal_arrays(final_arrays(paths), final_arrays(Paths(tiny, finished_root)))


@pytest.mark.long  # test_loss has the same of gradients alone
def test_samples_computed_together_give_the_same_gradient_to_rounding(normalized_root, copy_of_root):
    finals, root = [], copy_of_root(normalized_root)
    for size in (1, 4):
        settings = ["training.batch_size=4", f"training.compute.device_batch_size={size}"]
        settings += ["training.stages=[{name: one, updates: 1, learning_rate: {peak: 1.0e-3}}]"]
        experiment = loading.load(TINY, settings)
        shutil.rmtree(root / "runs", ignore_errors=True)
        run_step("train", experiment, root)
        finals.append(final_arrays(Paths(experiment, root)))
    moments = [name for name in finals[0] if ".mu" in name]
    assert moments
    largest = max(np.abs(finals[0][name]).max() for name in moments)
    bound = rounding(4 * 32 * 64)  # a gradient is a sum over samples and points
    for name in moments:  # the first moment after one update is the gradient times 1 - b1
        np.testing.assert_allclose(finals[0][name], finals[1][name], rtol=0, atol=bound * largest, err_msg=name)


def test_a_rollout_too_large_for_the_memory_is_refused_before_training(
    tiny, normalized_root, copy_of_root, monkeypatch
):
    root = copy_of_root(normalized_root)
    monkeypatch.setattr("graphufs.train.compiling.compiled_steps.available_bytes", lambda device: 2**20)
    with pytest.raises(UserError, match=r"stage 'rollout' with its rollout of 2 steps needs .* GiB .*, and 0\.0"):
        run_step("train", tiny, root)
    lines = metrics_file.read(Paths(tiny, root).metrics) if Paths(tiny, root).metrics.exists() else []
    assert all(line["stage"] == "one-step" for line in lines)  # which need not wait for it
    one_stage = loading.load(TINY, ["training.stages=[{name: rollout, updates: 1, rollout: 2}]"])
    with pytest.raises(UserError, match="stage 'rollout'"):
        run_step("train", one_stage, root)
    assert not Paths(one_stage, root).checkpoints.exists()


def test_the_first_stage_does_not_wait_for_the_longest_to_be_compiled(tiny, normalized_root, monkeypatch):
    data = PreparedData.open(Paths(tiny, normalized_root).data)
    plan = Plan.of(tiny, data)
    emulator = ReplayEmulator.from_experiment(tiny, normalized_root).load_normalization()
    programs = Programs(Objective(emulator, plan, Devices.choose(2)))
    compile_one, go_on, compiled = Objective.program, threading.Event(), []

    def slowly(self, stage, device_batch_size):
        if stage.name == "rollout":
            assert go_on.wait(60)
        compiled.append(stage.name)
        return compile_one(self, stage, device_batch_size)

    monkeypatch.setattr(Objective, "program", slowly)
    monkeypatch.setattr("graphufs.train.compiling.compiled_steps.available_bytes", lambda device: 2**20)
    programs.prepare(plan.stages, lambda event: None)
    programs.prepare_others(plan.stages)
    assert compiled == ["one-step"] and programs[plan.stages[0]]
    programs.require_fit()  # nothing is known yet
    go_on.set()
    with pytest.raises(UserError, match="needs .* GiB of memory"):
        programs[plan.stages[1]]
    with pytest.raises(UserError, match="needs .* GiB of memory"):
        programs.require_fit()


def test_the_stages_between_are_compiled_beside_the_training_too_and_none_after_its_end():
    experiment = loading.load(TINY)
    same = {"optimizer": experiment.training.optimizer, "loss": experiment.training.loss}
    stages = [SimpleNamespace(name=f"s{n}", rollout=n, steps_at_once=n, **same) for n in (1, 2, 3, 4)]
    go_on, begun, compiled = threading.Event(), threading.Semaphore(0), []

    def program(stage, device_batch_size):
        begun.release()
        assert stage.name == "s1" or go_on.wait(60)
        compiled.append(stage.name)
        return SimpleNamespace(needed_bytes=1)

    emulator = SimpleNamespace(experiment=experiment)
    programs = Programs(SimpleNamespace(emulator=emulator, devices=Devices.choose(2), constants={}, program=program))
    programs.prepare(stages, lambda event: None)
    programs.prepare_others(stages)
    assert all(begun.acquire(timeout=60) for _ in range(3))
    programs.close()
    go_on.set()
    assert programs[stages[3]] and programs[stages[1]]
    assert sorted(compiled) == ["s1", "s2", "s4"], "two at a time"


def test_the_device_batch_size_falls_where_more_does_not_fit(tiny, normalized_root, monkeypatch):
    data = PreparedData.open(Paths(tiny, normalized_root).data)
    plan = Plan.of(tiny, data)
    emulator = ReplayEmulator.from_experiment(tiny, normalized_root).load_normalization()
    stage, objective = plan.stages[0], Objective(emulator, plan, Devices.choose(2))
    needed = {size: objective.program(stage, size).needed_bytes for size in (1, 2)}
    assert needed[1] < needed[2]
    monkeypatch.setattr(
        "graphufs.train.compiling.compiled_steps.available_bytes", lambda device: sum(needed.values()) // 2
    )
    programs = Programs(objective)
    programs.prefer(2)
    programs.prepare([stage], lambda event: None)
    assert programs.device_batch_size == 1


def test_training_without_data_or_statistics_says_what_to_run(tiny, tmp_path, normalized_root, copy_of_root):
    with pytest.raises(UserError, match="graphufs prepare"):
        run_step("train", tiny, tmp_path)
    root = copy_of_root(normalized_root)
    shutil.rmtree(root / "statistics")
    with pytest.raises(UserError, match="graphufs normalize"):
        run_step("train", tiny, root)


@pytest.mark.long
def test_batches_of_the_python_interface_are_those_of_the_training(tiny, normalized_root):
    emulator = ReplayEmulator.from_experiment(tiny, normalized_root).load_normalization()
    batches = list(emulator.get_training_batches())
    assert len(batches) == 19  # 40 stamps hold 38 windows of 3 frames
    inputs, targets, forcings = emulator.fields(batches[0])
    assert inputs["tmp"].shape == (2, 2, 2, 32, 64) and targets["tmp"].shape == (2, 1, 2, 32, 64)
    assert inputs["land_static"].shape == (1, 1, 1, 32, 64)
    assert sorted(forcings) == sorted(tiny.data.forcings)
    predictions = emulator.predict(batches[0])
    assert predictions["pressfc"].shape == (2, 1, 1, 32, 64)


def test_the_next_batch_is_on_its_way_before_anything_waits_for_an_update(normalized_root, tmp_path, monkeypatch):
    seen = []
    root = shutil.copytree(normalized_root, tmp_path / "root")
    stages = "training.stages=[{name: one, updates: 3, learning_rate: {peak: 1.0e-3}}]"
    experiment = loading.load(TINY, [stages, "training.validate_every=10"])

    def watch(owner, name, word):
        real = getattr(owner, name)

        def told(*given):
            seen.append(word)
            return real(*given)

        monkeypatch.setattr(owner, name, told)

    watch(Program, "__call__", "update")
    watch(_Training, "_next", "next")
    watch(Devices, "agree", "wait")
    assert run_step("train", experiment, root)["status"] == "completed"
    assert [word for word in seen if word != "wait"] == ["next", *["update", "next"] * 3]
    assert [seen[at + 1 : at + 3] for at, word in enumerate(seen) if word == "update"] == [["next", "wait"]] * 3
