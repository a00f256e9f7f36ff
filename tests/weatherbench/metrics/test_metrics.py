"""Metrics from averaged statistics, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from graphufs.vocabulary.conventions import CONVENTIONS
from graphufs.weatherbench.metrics.metrics import METRICS, STATISTICS, Fields, metrics_of, time_mean
from graphufs.weatherbench.metrics.seeps import SeepsThresholds, penalties

# two initial times of two equally large grid points
TRUTH = np.array([[[1.0, 3.0]], [[2.0, 0.0]]])
FORECAST = np.array([[[2.0, 1.0]], [[2.0, 4.0]]])
CLIMATOLOGY = np.array([[[0.0, 1.0]], [[1.0, 1.0]]])


# dry below 1, heavy from 2 on; it is dry with probability 1/2 at the first point, 1/4 at the second
RAIN = SeepsThresholds(1.0, np.full((2, 1, 2), 2.0), penalties(np.array([[0.5, 0.25]])))


def averages(forecast: np.ndarray = FORECAST) -> dict[str, np.ndarray]:
    fields = Fields(forecast, TRUTH, CLIMATOLOGY, RAIN)
    return {name: np.mean(statistic(fields), axis=(-2, -1)) for name, statistic in STATISTICS.items()}


def score(name: str, forecast: np.ndarray = FORECAST) -> float:
    return float(METRICS[name].combine(averages(forecast), time_mean()))


def test_errors_follow_their_definitions() -> None:
    # errors: (1, -2) and (0, 4)
    assert score("mse") == pytest.approx((2.5 + 8) / 2)
    assert score("rmse") == pytest.approx(np.sqrt((2.5 + 8) / 2))
    assert score("mae") == pytest.approx((1.5 + 2) / 2)
    assert score("bias") == pytest.approx((-0.5 + 2) / 2)
    assert score("rmse_sqrt_before_time_avg") == pytest.approx((np.sqrt(2.5) + np.sqrt(8)) / 2)


def test_seeps_adds_up_the_penalties_of_wrong_categories() -> None:
    # forecast (2, 1), (2, 4) against (1, 3), (2, 0); 1 is in no category and costs nothing
    assert score("seeps") == pytest.approx((0 + 0 + 0 + (4 + 3 / 2.25) / 2) / 4)


def test_in_weatherbench_x_the_activity_is_not_about_the_mean() -> None:
    metric = metrics_of(STATISTICS, "WeatherBench-X")["forecast_activity"]
    assert metric.combine(averages(), time_mean()) == pytest.approx(np.sqrt((2 + 5) / 2))


def test_the_acc_is_the_mean_of_the_correlations_of_the_initial_times() -> None:
    # forecast anomalies (2, 0), (1, 3); truth anomalies (1, 2), (1, -1)
    expected = (2 / np.sqrt(4 * 5) + (1 - 3) / np.sqrt(10 * 2)) / 2
    assert score("acc") == pytest.approx(expected)


def test_the_acc_of_the_truth_is_one_and_of_climatology_undefined() -> None:
    assert score("acc", TRUTH) == pytest.approx(1)
    assert np.isnan(score("acc", CLIMATOLOGY))


def test_the_activity_is_the_standard_deviation_in_space_of_the_anomaly() -> None:
    # variances of (2, 0) and (1, 3); of (1, 2) and (1, -1)
    assert score("forecast_activity") == pytest.approx(1)
    assert score("truth_activity") == pytest.approx(np.sqrt((0.25 + 1) / 2))


def test_a_uniform_shift_does_not_change_the_activity() -> None:
    assert score("forecast_activity", FORECAST + 1000) == pytest.approx(score("forecast_activity"), rel=1e-6)


def test_without_the_mean_a_metric_gives_scores_by_initial_time() -> None:
    by_time = METRICS["rmse"].combine(averages(), np.asarray)
    np.testing.assert_allclose(by_time, np.sqrt([2.5, 8]))


def test_a_nan_initial_time_makes_the_mean_nan_unless_skipped() -> None:
    values = np.array([1.0, np.nan, 3.0])
    assert np.isnan(time_mean()(values))
    assert time_mean(skipna=True)(values) == 2
    assert np.isnan(time_mean(skipna=True)(np.array([np.nan])))


def test_every_metric_uses_the_statistics_it_names() -> None:
    used: set[str] = set()

    class Spy(dict[str, np.ndarray]):
        def __getitem__(self, name: str) -> np.ndarray:
            used.add(name)
            return super().__getitem__(name)

    for name in CONVENTIONS:
        for metric in metrics_of(STATISTICS, name).values():
            used.clear()
            metric.combine(Spy(averages()), time_mean())
            assert used == set(metric.statistics) <= set(STATISTICS)
