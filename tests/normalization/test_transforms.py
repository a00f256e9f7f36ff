"""Transforms: exact and undone on both kinds of arrays, and from statistics to forecasts in physical units."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from graphufs.config import loading
from graphufs.config.data import Transform
from graphufs.config.experiment import Experiment
from graphufs.data.dataset import PreparedData
from graphufs.data.loader import WindowReader
from graphufs.emulator import checkpoint
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.errors import UserError
from graphufs.model.compile import jit
from graphufs.normalization.transforms import apply, forward, inverse, statistics_names
from graphufs.steps import run_step
from graphufs.storage.paths import Paths
from graphufs.train import metrics_file
from tests.conftest import TINY

LOG = Transform(floor=1e-6)
HUMIDITY = np.array([[0.0, -1e-8, 1e-7], [1e-6, 0.015, np.nan]], np.float32)
TRANSFORMS = "data.transforms={pressfc: {function: log}, tmp: {floor: 100.0}, dswrf_avetoa: {floor: 1.0}}"
FEW_UPDATES = [
    "training.stages=[{name: rollout, updates: 4, rollout: 2, learning_rate: {peak: 1.0e-3}}]",
    "training.validate_every=4",
]


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_the_logarithm_takes_small_values_as_the_floor_and_keeps_nan_and_precision(kind: Callable) -> None:
    seen = forward(LOG, kind(HUMIDITY))
    assert isinstance(seen, type(kind(HUMIDITY))) and seen.dtype == np.float32
    floor = np.log(1e-6)
    expected = [[floor, floor, floor], [floor, np.log(0.015), np.nan]]
    np.testing.assert_allclose(seen, expected, rtol=3e-7)
    back = inverse(LOG, seen)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, [[1e-6, 1e-6, 1e-6], [1e-6, 0.015, np.nan]], rtol=2e-6)


def test_inside_jit_they_do_the_same() -> None:
    np.testing.assert_array_equal(jit(lambda x: forward(LOG, x))(HUMIDITY), forward(LOG, jnp.asarray(HUMIDITY)))
    seen = forward(LOG, HUMIDITY)
    np.testing.assert_allclose(jit(lambda x: inverse(LOG, x))(seen), inverse(LOG, seen), rtol=2e-6)


def test_double_precision_stays_double() -> None:
    values = np.array([1e5, 3e-9])
    assert forward(LOG, values).dtype == np.float64
    np.testing.assert_allclose(inverse(LOG, forward(LOG, values)), [1e5, 1e-6], rtol=1e-14)


def test_only_named_fields_are_transformed() -> None:
    fields = {"spfh": HUMIDITY, "tmp": HUMIDITY + 280}
    seen = apply({"spfh": LOG}, fields)
    assert seen["tmp"] is fields["tmp"]
    np.testing.assert_array_equal(seen["spfh"], forward(LOG, HUMIDITY))
    assert apply({"spfh": LOG}, seen, inverse)["tmp"] is fields["tmp"]
    assert statistics_names({"spfh": LOG}, ["spfh", "tmp"]) == {"spfh": "log_spfh", "tmp": "tmp"}


@pytest.fixture(scope="module")
def transformed() -> Experiment:
    return loading.load(TINY, [TRANSFORMS, *FEW_UPDATES])


@pytest.fixture(scope="module")
def trained(transformed: Experiment, normalized_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with tiny's data, in which a tiny experiment with transforms was trained and has made its forecasts."""
    root = Path(shutil.copytree(normalized_root, tmp_path_factory.mktemp("transformed") / "root"))
    assert run_step("prepare", transformed, root)["status"] == "unchanged"  # data stay in physical units
    for step in ("normalize", "train", "forecast"):
        assert run_step(step, transformed, root)["status"] == "completed"
    return root


def trained_emulator(experiment: Experiment, root: Path) -> ReplayEmulator:
    checkpoints = Paths(experiment, root).checkpoints
    return ReplayEmulator.from_checkpoint(checkpoints / f"{checkpoint.updates(checkpoints)[-1]:08d}")


def test_statistics_are_those_of_the_logarithm_and_belong_to_this_transform_alone(
    tiny: Experiment, transformed: Experiment, trained: Path
) -> None:
    seen = ReplayEmulator.from_experiment(transformed, trained).load_normalization().statistics
    plain = ReplayEmulator.from_experiment(tiny, trained).load_normalization().statistics
    assert seen is not None and plain is not None
    # small relative variations of x are those of log(x)
    np.testing.assert_allclose(seen.mean["tmp"], np.log(plain.mean["tmp"]), atol=0.01)
    np.testing.assert_allclose(seen.std["tmp"], plain.std["tmp"] / plain.mean["tmp"], rtol=0.2)
    np.testing.assert_allclose(seen.diffs_std["tmp"], plain.diffs_std["tmp"] / plain.mean["tmp"], rtol=0.2)
    other = loading.load(TINY, ["data.transforms={pressfc: {function: log}, tmp: {floor: 200.0}}"])
    with pytest.raises(UserError, match="no statistics .* run `graphufs normalize`"):
        ReplayEmulator.from_experiment(other, trained).load_normalization()
    with pytest.raises(UserError, match="graphufs normalize"):
        run_step("train", other, trained)


def test_training_and_forecasts_work_and_forecasts_are_in_physical_units(
    transformed: Experiment, trained: Path
) -> None:
    paths = Paths(transformed, trained)
    lines = metrics_file.read(paths.metrics)
    losses = [line["loss"] for line in lines if line["event"] == "update"]
    assert losses and all(0 < loss < 100 for loss in losses)
    with xr.open_zarr(paths.forecasts, chunks=None) as forecast:
        times = forecast.time.values.astype("datetime64[ns]")
        first = forecast.isel(prediction_timedelta=0).load()
    data = PreparedData.open(paths.data)
    truth = data.read(times + np.timedelta64(6, "h"))
    temperature, pressure = (truth[:, data.variable_slice(name)] for name in ("tmp", "pressfc"))
    assert 0.1 < np.abs(first.temperature.values - temperature).mean() < 10  # K
    assert 1 < np.abs(first.surface_pressure.values - pressure[:, 0]).mean() < 2000  # Pa


def test_the_rollout_carries_the_logarithm_and_predict_gives_it_back_in_physical_units(
    transformed: Experiment, trained: Path
) -> None:
    emulator = trained_emulator(transformed, trained)
    assert emulator.experiment.data.transforms == transformed.data.transforms
    data = PreparedData.open(Paths(transformed, trained).data)
    times = np.array(["1994-01-13T06"], "datetime64[ns]")
    batch = WindowReader.of(transformed, data, times, 2).read(times)
    inputs, targets, forcings = emulator.fields(batch)
    pressure = batch.frames[:, :, data.variable_slice("pressfc")]
    np.testing.assert_array_equal(inputs["pressfc"], np.log(pressure[:, :2]))
    np.testing.assert_array_equal(targets["pressfc"], np.log(pressure[:, 2:]))
    assert forcings["dswrf_avetoa"].min() == 0.0  # the logarithm of the floor, at night
    step = jit(lambda network, stepper, *arrays: stepper(network, *arrays))
    expected = []
    for lead in range(2):
        now = {name: jnp.asarray(values[:, lead : lead + 1]) for name, values in forcings.items()}
        prediction = step(emulator.network, emulator.stepper, inputs, now)
        expected.append({name: np.exp(np.asarray(values[:, 0], np.float64)) for name, values in prediction.items()})
        following = {**now, **prediction}
        inputs = {
            name: jnp.concatenate([jnp.asarray(values[:, 1:]), following[name]], axis=1)
            if name in following
            else values
            for name, values in inputs.items()
        }
    predictions = emulator.predict(batch)
    for name, values in predictions.items():
        assert values.dtype == np.float32
        for lead in range(2):
            np.testing.assert_allclose(values[:, lead], expected[lead][name], rtol=5e-6)
