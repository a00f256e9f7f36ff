"""Significance of scores and of their differences, on series whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from graphufs.errors import UserError
from graphufs.weatherbench.compare.bootstrap import block_indices, block_length, percentile_interval, resampled
from graphufs.weatherbench.compare.significance import Method, influences, score_difference, score_uncertainty
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.metrics.metrics import metrics_of
from graphufs.weatherbench.scoring.score_state import Axes, ScoreState

STATISTICS = ("squared_error", "anomaly_product", "squared_forecast_anomaly", "squared_truth_anomaly")
CELLS = 40
"""Independent series at once: channels of a state."""


def red_noise(times: int, memory: float, seed: int = 0, cells: int = CELLS) -> np.ndarray:
    """First-order autoregressions of unit variance, [time, cell]."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(times, cells))
    for index in range(1, times):
        noise[index] = memory * noise[index - 1] + np.sqrt(1 - memory**2) * noise[index]
    return noise


def state(squared_errors: np.ndarray, hours: int = 12) -> ScoreState:
    """A state whose MSE is the mean of the series [time, cell]."""
    channels = tuple(Channel(f"x{cell}") for cell in range(squared_errors.shape[1]))
    made = ScoreState(Axes(("squared_error",), (np.timedelta64(6, "h"),), channels, ("global",)))
    for index, values in enumerate(squared_errors):
        time = np.datetime64("2020-01-01", "ns") + index * np.timedelta64(hours, "h")
        made.update(time, values[None, None, :, None])
    return made


@pytest.mark.parametrize(
    ("method", "memory"), [("hac", 0.0), ("hac", 0.7), ("ar2", 0.7), ("bootstrap", 0.7), ("iid", 0.0)]
)
def test_intervals_hold_the_truth_about_as_often_as_they_say(method: Method, memory: float) -> None:
    hits = [
        (found.low < 5) & (5 < found.high)
        for seed in range(5)
        for found in [score_uncertainty(state(5 + red_noise(240, memory, seed)), "mse", method=method, replicates=300)]
    ]
    assert 0.87 < np.mean(hits) < 0.99


def test_assuming_independence_is_far_too_sure_where_there_is_memory() -> None:
    noise = state(5 + red_noise(240, 0.7))
    iid, hac = (score_uncertainty(noise, "mse", method=method).standard_error.mean() for method in ("iid", "hac"))
    assert hac / iid == pytest.approx(np.sqrt(1.7 / 0.3), rel=0.25)


@pytest.mark.parametrize("method", ["hac", "ar2", "bootstrap"])
def test_a_small_paired_difference_is_found_under_large_common_noise(method: Method) -> None:
    common, own = 5 + red_noise(120, 0.5, 1), 0.1 * red_noise(120, 0.2, 2)
    better, other = state(common + own - 0.1), state(common)
    found = score_difference(better, other, "mse", method=method, replicates=400)
    assert (found.p_value < 0.05).mean() > 0.9 and (found.estimate[found.p_value < 0.05] < 0).all()
    np.testing.assert_allclose(found.estimate.ravel(), own.mean(axis=0) - 0.1, rtol=1e-9)
    opposite = score_difference(other, better, "mse", method=method, replicates=400)
    np.testing.assert_allclose(opposite.high, -found.low, rtol=1e-6)
    np.testing.assert_allclose(opposite.p_value, found.p_value, atol=1e-9)


def test_forecasts_of_equal_skill_are_rarely_called_different() -> None:
    found = score_difference(state(5 + red_noise(160, 0.5, 3)), state(5 + red_noise(160, 0.5, 4)), "mse")
    assert (found.p_value < 0.05).mean() < 0.2


def test_a_forecast_does_not_differ_from_itself() -> None:
    one = state(5 + red_noise(20, 0.0))
    for method in ("hac", "bootstrap"):
        found = score_difference(one, one, "rmse", method=method, replicates=50)  # type: ignore[arg-type]
        assert (found.estimate == 0).all() and not (found.p_value < 0.05).any()
    assert (score_difference(one, one, "rmse").p_value == 1).all()


@pytest.mark.parametrize("convention", ["WeatherBench2", "WeatherBench-X"])
def test_influences_are_those_of_leaving_an_initial_time_out(convention: str) -> None:
    rng = np.random.default_rng(0)
    averages = {name: rng.uniform(1, 2, size=(400, 3)) for name in STATISTICS}
    for metric in metrics_of(STATISTICS, convention).values():  # type: ignore[arg-type]
        found = influences(metric, averages)
        whole = metric.combine(averages, lambda x: x.mean(axis=0))
        without = metric.combine(averages, lambda x: (x.sum(axis=0) - x) / (len(x) - 1))
        if without.shape == found.shape:
            np.testing.assert_allclose(found, (whole - without) * 399, rtol=0.02, atol=0.01)
        np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-5)


def test_the_same_seed_gives_the_same_interval_and_another_one_a_similar() -> None:
    noise = state(5 + red_noise(60, 0.3))
    first, again, other = (
        score_uncertainty(noise, "mse", method="bootstrap", seed=seed, replicates=300) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.low, again.low)
    assert (first.low != other.low).all()
    np.testing.assert_allclose(first.standard_error, other.standard_error, rtol=0.3)


def test_blocks_run_on_and_have_the_length_asked_for() -> None:
    indices = block_indices(100, 8.0, 200, np.random.default_rng(0))
    follows = (np.diff(indices, axis=1) % 100) == 1
    assert follows.mean() == pytest.approx(1 - 1 / 8 + 1 / 800, abs=0.01)
    assert np.bincount(indices.ravel(), minlength=100).min() > 100  # all are drawn about equally often


def test_the_block_length_grows_with_the_memory_of_a_series() -> None:
    lengths = [np.mean([block_length(series) for series in red_noise(400, memory).T]) for memory in (0.0, 0.5, 0.9)]
    assert lengths[0] < 3 < lengths[1] < lengths[2] < 61
    # the asymptotic optimum of a first-order autoregression
    optimum = (2 * (2 * 0.5 / (1 - 0.5**2)) ** 2 / 2 * 400) ** (1 / 3)
    assert lengths[1] == pytest.approx(optimum, rel=0.3)
    assert block_length(np.ones(50)) == 1 and block_length(np.full(20, np.nan)) == 1


def test_resampled_scores_are_scores_of_resampled_times() -> None:
    series = np.arange(30.0)[:, None]
    values = resampled(lambda mean: np.sqrt(mean(series)), np.array([4.0]), 30, 5, seed=3)
    rounded = 10 ** (round(np.log10(4.0) * 30) / 30)
    indices = block_indices(30, rounded, 5, np.random.default_rng(3))
    np.testing.assert_allclose(values, np.sqrt(series[indices].mean(axis=1)))


def test_a_bootstraps_p_value_is_the_level_at_which_its_interval_reaches_zero() -> None:
    values = np.random.default_rng(0).normal(1.5, 1, size=(2001, 1))
    p_value = percentile_interval(values, 0.05)[2].item()
    low = percentile_interval(values, p_value)[0].item()
    assert 0.05 < p_value < 0.3 and low == pytest.approx(0, abs=0.01)


def test_only_common_initial_times_are_compared_and_gaps_are_told() -> None:
    series = 5 + red_noise(40, 0.0)
    whole, part = state(series), state(series[:, :])
    found = score_difference(whole, part.select(np.delete(part.initial_times, [3, 7])), "mse")
    assert found.initial_times == 38 and not found.evenly_spaced
    assert score_uncertainty(whole, "mse").evenly_spaced


def test_comparisons_that_make_no_sense_are_refused() -> None:
    noise = state(5 + red_noise(20, 0.0))
    for wrong, message in (
        ({"metric": "acc"}, "cannot tell acc"),
        ({"metric": "mse", "method": "z"}, "no method z; there are hac, ar2, iid, bootstrap"),
        ({"metric": "mse", "level": 5}, "between 0 and 1"),
    ):
        with pytest.raises(UserError, match=message):
            score_uncertainty(noise, **wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="7 initial times are too few"):
        score_uncertainty(noise.select(noise.initial_times[:7]), "mse")
    with pytest.raises(UserError, match="same statistics"):
        score_difference(noise, state(5 + red_noise(20, 0.0, cells=3)), "mse")
