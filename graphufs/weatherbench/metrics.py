"""Metrics: a pointwise statistic of forecast and truth, and a combination of averaged statistics.

A statistic is evaluated at every grid point and averaged in space for each initial time; that is all that is ever
kept (`graphufs.weatherbench.state`). A metric turns these averages into a score and says where the mean over initial
times enters. Formulas: weatherbench2/metrics.py. f is the forecast, o the truth, c the climatology at the valid time,
<x> the spatial mean and bar(x) the mean over initial times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

CONVENTION = "WeatherBench2"
"""Whose conventions the metrics follow where WeatherBench2 and WeatherBench-X differ (as in the ACC)."""


@dataclass(frozen=True)
class Fields:
    """Forecast, truth and climatology of the same valid times, [..., lat, lon], in the variable's unit."""

    forecast: np.ndarray
    truth: np.ndarray
    climatology: np.ndarray

    @cached_property
    def error(self) -> np.ndarray:
        """Forecast minus truth."""
        return self.forecast - self.truth

    @cached_property
    def forecast_anomaly(self) -> np.ndarray:
        """Forecast minus climatology."""
        return self.forecast - self.climatology

    @cached_property
    def truth_anomaly(self) -> np.ndarray:
        """Truth minus climatology."""
        return self.truth - self.climatology


STATISTICS: dict[str, Callable[[Fields], np.ndarray]] = {
    "error": lambda x: x.error,
    "absolute_error": lambda x: np.abs(x.error),
    "squared_error": lambda x: x.error**2,
    "forecast_anomaly": lambda x: x.forecast_anomaly,
    "truth_anomaly": lambda x: x.truth_anomaly,
    "squared_forecast_anomaly": lambda x: x.forecast_anomaly**2,
    "squared_truth_anomaly": lambda x: x.truth_anomaly**2,
    "anomaly_product": lambda x: x.forecast_anomaly * x.truth_anomaly,
}
"""The statistics by name: functions of `Fields` that give [..., lat, lon]."""


Averages = Mapping[str, np.ndarray]
"""Spatial means of statistics by name, [init, ...]."""

TimeMean = Callable[[np.ndarray], np.ndarray]
"""The mean over initial times, [init, ...] to [...]. Given the identity, a metric yields scores by initial time."""


@dataclass(frozen=True)
class Metric:
    """A score made of averaged statistics."""

    description: str
    combine: Callable[[Averages, TimeMean], np.ndarray]
    has_unit: bool = True
    """Whether the score has the variable's unit (squared for the MSE) or none."""


def _acc(averages: Averages, mean: TimeMean) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        norm = np.sqrt(averages["squared_forecast_anomaly"] * averages["squared_truth_anomaly"])
        return mean(averages["anomaly_product"] / norm)


def _activity(averages: Averages, mean: TimeMean, of: str) -> np.ndarray:
    variance = averages[f"squared_{of}_anomaly"] - averages[f"{of}_anomaly"] ** 2
    return np.sqrt(mean(np.maximum(variance, 0.0)))  # rounding may leave a constant field slightly below zero


METRICS: dict[str, Metric] = {
    "rmse": Metric("sqrt(bar(<(f-o)^2>))", lambda a, mean: np.sqrt(mean(a["squared_error"]))),
    "mse": Metric("bar(<(f-o)^2>)", lambda a, mean: mean(a["squared_error"])),
    "mae": Metric("bar(<|f-o|>)", lambda a, mean: mean(a["absolute_error"])),
    "bias": Metric("bar(<f-o>)", lambda a, mean: mean(a["error"])),
    "acc": Metric("bar(<(f-c)(o-c)> / sqrt(<(f-c)^2><(o-c)^2>)), not centred", _acc, has_unit=False),
    "forecast_activity": Metric(
        "sqrt(bar(<(f-c)^2> - <f-c>^2)), the forecast's variability in space",
        lambda a, mean: _activity(a, mean, "forecast"),
    ),
    "truth_activity": Metric(
        "sqrt(bar(<(o-c)^2> - <o-c>^2)), the truth's variability in space",
        lambda a, mean: _activity(a, mean, "truth"),
    ),
}
"""The metrics by name."""


def time_mean(skipna: bool = False) -> TimeMean:
    """The mean over initial times, each counting the same; with `skipna`, over those that are not NaN."""

    def mean(values: np.ndarray) -> np.ndarray:
        if not skipna:
            return np.asarray(values.mean(axis=0))
        there = ~np.isnan(values)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(there, values, 0.0).sum(axis=0) / there.sum(axis=0))

    return mean
