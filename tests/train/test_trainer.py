"""Training: the loss falls, an interrupted run ends where an undisturbed one does, bad data stop it by name."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from graphufs import configuration
from graphufs.emulator import ReplayEmulator
from graphufs.errors import UserError
from graphufs.layout import Layout
from graphufs.replay.frames import PreparedData
from graphufs.steps import run_step
from graphufs.train import checkpoint, metrics
from tests.conftest import TINY


def final_arrays(layout):
    path = layout.checkpoints / f"{checkpoint.updates(layout.checkpoints)[-1]:08d}"
    return {
        name: values
        for file in ("emulator.npz", "training.npz")
        for name, values in checkpoint.read_arrays(path, file).items()
    }


def assert_equal_arrays(one, other):
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)


def stop_after(calls):
    count = iter(range(10**6))
    return lambda: next(count) >= calls


@pytest.mark.parametrize("updates", [7, 12])
def test_a_training_stopped_anywhere_ends_where_an_undisturbed_one_does(
    tiny, normalized_root, finished_root, copy_of_root, updates
):
    root = copy_of_root(normalized_root)
    result = run_step("train", tiny, root, should_stop=stop_after(updates - 1))
    assert result["status"] == "stopped" and f"{updates} of 16 updates" in result["message"]
    assert checkpoint.updates(Layout(tiny, root).checkpoints)[-1] == updates
    assert run_step("train", tiny, root)["status"] == "completed"
    assert_equal_arrays(final_arrays(Layout(tiny, root)), final_arrays(Layout(tiny, finished_root)))
    lines = metrics.read(Layout(tiny, root).metrics)
    seen = [(line["event"], line["update"]) for line in lines]
    assert len(seen) == len(set(seen)) and seen[-1][1] == 16


def test_metrics_tell_the_training(tiny, finished_root):
    lines = metrics.read(Layout(tiny, finished_root).metrics)
    updates = [line for line in lines if line["event"] == "update"]
    assert updates[0]["stage"] == "one-step" and updates[-1]["stage"] == "rollout"
    assert updates[-1]["learning_rate"] == pytest.approx(1e-4)
    assert set(updates[0]["loss_by_variable"]) == {"pressfc", "tmp"}
    validations = [line for line in lines if line["event"] == "validation"]
    assert [line["update"] for line in validations] == [8, 12, 16]
    assert all(line["samples"] == 6 for line in validations)


def test_the_loss_falls(normalized_root, copy_of_root):
    root = copy_of_root(normalized_root)
    one_stage = "training.stages=[{name: one, updates: 150, learning_rate: {peak: 3.0e-3}}]"
    experiment = configuration.load(TINY, [one_stage, "training.validate_every=150"])
    run_step("train", experiment, root)
    losses = [line["loss"] for line in metrics.read(Layout(experiment, root).metrics) if line["event"] == "update"]
    assert losses[-1] < 0.75 * losses[0]


def test_a_finished_training_is_not_repeated(tiny, finished_root):
    assert run_step("train", tiny, finished_root)["status"] == "unchanged"


def test_a_checkpoint_holds_all_that_a_forecast_needs(tiny, finished_root, tmp_path):
    layout = Layout(tiny, finished_root)
    copy = shutil.copytree(layout.checkpoints / "00000016", tmp_path / "elsewhere")
    emulator = ReplayEmulator.from_checkpoint(copy)
    assert emulator.experiment == tiny
    data = PreparedData.open(layout.data)
    times = [np.datetime64("1994-01-13T06"), np.datetime64("1994-01-14T00")]
    forecast = emulator.forecast(data, times, steps=3)
    assert forecast.temperature.dims == ("time", "prediction_timedelta", "level", "latitude", "longitude")
    assert np.isfinite(forecast.temperature).all() and np.isfinite(forecast.surface_pressure).all()
    before = data.to_dataset(np.array([times[0]], "datetime64[ns]"))
    change = np.abs(forecast.surface_pressure[0, 0].values - before.surface_pressure[0].values)
    assert 0 < change.max() < 5000


def test_only_the_last_checkpoints_are_kept(tiny, finished_root):
    assert checkpoint.updates(Layout(tiny, finished_root).checkpoints) == [12, 16]


def test_a_loss_that_is_not_finite_stops_the_training_and_names_the_samples(normalized_root, copy_of_root):
    root = copy_of_root(normalized_root)
    hot = "training.stages=[{name: one, updates: 90, learning_rate: {peak: 1.0e+30}}]"
    experiment = configuration.load(TINY, ["training.optimizer.clip=null", hot])
    with pytest.raises(UserError, match=r"not finite .* samples start at 1994-01-\d\dT\d\d, 1994-01"):
        run_step("train", experiment, root)


def test_training_without_data_or_statistics_says_what_to_run(tiny, tmp_path, normalized_root, copy_of_root):
    with pytest.raises(UserError, match="graphufs prepare"):
        run_step("train", tiny, tmp_path)
    root = copy_of_root(normalized_root)
    shutil.rmtree(root / "statistics")
    with pytest.raises(UserError, match="graphufs normalize"):
        run_step("train", tiny, root)


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
