"""Parity with official WeatherBench-X in statistical inference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphufs.weatherbench.compare.significance import Method, score_difference, score_uncertainty
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.scoring.score_state import Axes, ScoreState
from tests.golden.weatherbench2_sets import present, pytest_generate_tests

__all__ = ["pytest_generate_tests"]

OFFICIAL = {"iid": "ttest_iid", "ar2": "ttest_geer", "hac": "ttest_lazarus"}


@pytest.fixture
def official(golden_folder: Path) -> dict[str, np.ndarray]:
    with np.load(present(golden_folder / "wbx_inference.npz")) as file:
        return {name: file[name] for name in file.files}


def state(errors: np.ndarray) -> ScoreState:
    """The state of forecasts with these errors."""
    made = ScoreState(Axes(("squared_error",), (np.timedelta64(6, "h"),), (Channel("x"),), ("global",)))
    for index, error in enumerate(errors):
        time = np.datetime64("2020-01-01", "ns") + index * np.timedelta64(12, "h")
        made.update(time, np.full(made.axes.shape, error**2))
    return made


@pytest.mark.parametrize("metric", ["mse", "rmse"])
@pytest.mark.parametrize("method", ["iid", "ar2", "hac"])
def test_t_tests_are_the_official_ones(official: dict[str, np.ndarray], method: Method, metric: str) -> None:
    ours = score_uncertainty(state(official["pa"]), metric, method=method)
    pairs = {"point": ours.estimate, "se": ours.standard_error, "lo": ours.low, "hi": ours.high}
    for name, value in pairs.items():
        np.testing.assert_allclose(value.item(), official[f"{OFFICIAL[method]}.{metric}.{name}"], rtol=1e-6)
    difference = score_difference(state(official["pa"]), state(official["pb"]), metric, method=method)
    prefix = f"diff.{OFFICIAL[method]}.{metric}"
    np.testing.assert_allclose(difference.estimate.item(), official[f"{prefix}.point"], rtol=1e-6)
    np.testing.assert_allclose(difference.p_value.item(), official[f"{prefix}.p"], rtol=1e-5, atol=1e-13)


@pytest.mark.parametrize("metric", ["mse", "rmse"])
def test_the_bootstrap_agrees_with_the_official_one_to_chance(official: dict[str, np.ndarray], metric: str) -> None:
    ours = score_uncertainty(state(official["pa"]), metric, method="bootstrap", replicates=2000)
    name = f"boot_stationary.{metric}"
    assert ours.standard_error.item() == pytest.approx(float(official[f"{name}.se"]), rel=0.08)
    for value, which in ((ours.low, "lo"), (ours.high, "hi")):
        assert value.item() == pytest.approx(float(official[f"{name}.{which}"]), abs=0.15 * official[f"{name}.se"])
