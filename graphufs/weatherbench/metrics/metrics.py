"""Metrics: a pointwise statistic of forecast and truth, and a combination of averaged statistics.

A statistic is evaluated at every grid point and averaged in space for each initial time; that is all that is ever kept
(`graphufs.weatherbench.scoring.score_state`). A metric turns these averages into a score and says where the mean over
initial times enters. Formulas: weatherbench2/metrics.py. f is the forecast, o the truth, c the climatology at the valid
time, <x> the spatial mean and bar(x) the mean over initial times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from graphufs.vocabulary.conventions import DEFAULT, Convention
from graphufs.weatherbench.metrics.seeps import SeepsThresholds, seeps


@dataclass(frozen=True)
class Fields:
    """Forecast, truth and climatology of the same valid times, [..., lat, lon], in the variable's unit."""

    forecast: np.ndarray
    truth: np.ndarray
    climatology: np.ndarray
    seeps: SeepsThresholds | None = None
    """For precipitation."""

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


Statistic = Callable[[Fields], np.ndarray | None]
"""From fields to [..., lat, lon]; None where the statistic is not defined for this variable."""

STATISTICS: dict[str, Statistic] = {
    "error": lambda x: x.error,
    "absolute_error": lambda x: np.abs(x.error),
    "squared_error": lambda x: x.error**2,
    "forecast_anomaly": lambda x: x.forecast_anomaly,
    "truth_anomaly": lambda x: x.truth_anomaly,
    "squared_forecast_anomaly": lambda x: x.forecast_anomaly**2,
    "squared_truth_anomaly": lambda x: x.truth_anomaly**2,
    "anomaly_product": lambda x: x.forecast_anomaly * x.truth_anomaly,
    "seeps": lambda x: None if x.seeps is None else seeps(x.forecast, x.truth, x.seeps),
}
"""The statistics by name."""

DEFAULT_STATISTICS = tuple(name for name in STATISTICS if name != "seeps")
"""Those that are defined for all variables."""

OF_VECTORS = frozenset({"squared_error"})
"""The statistics that a vector has too: the sum over its components."""

SKIPS_NAN = frozenset({"seeps"})
"""The statistics whose spatial mean always has skipna=True: NaN belongs to their definition."""


def pointwise(name: str, components: Sequence[Fields]) -> np.ndarray | None:
    """A statistic of a variable (one component) or a vector, [..., lat, lon]; None where it is not defined."""
    if len(components) > 1 and name not in OF_VECTORS:
        return None
    first, *others = (STATISTICS[name](fields) for fields in components)
    return first if first is None else sum((other for other in others if other is not None), start=first)


Averages = Mapping[str, np.ndarray]
"""Spatial means of statistics by name, [init, ...]."""

TimeMean = Callable[[np.ndarray], np.ndarray]
"""The mean over initial times, [init, ...] to [...]. Given the identity, a metric yields scores by initial time."""


@dataclass(frozen=True)
class Metric:
    """A score made of averaged statistics."""

    description: str
    statistics: tuple[str, ...]
    """What it is made of."""
    combine: Callable[[Averages, TimeMean], np.ndarray]
    has_unit: bool = True
    """Whether the score has the variable's unit or none."""
    squared: bool = False
    """Whether the unit is squared."""


def mean_of(statistic: str, description: str, *, has_unit: bool = True, squared: bool = False) -> Metric:
    """A score that is the mean of a statistic."""
    return Metric(description, (statistic,), lambda a, mean: mean(a[statistic]), has_unit, squared)


def _acc_by_time(averages: Averages, mean: TimeMean) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        norm = np.sqrt(averages["squared_forecast_anomaly"] * averages["squared_truth_anomaly"])
        return mean(averages["anomaly_product"] / norm)


def _acc_of_means(averages: Averages, mean: TimeMean) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        norm = np.sqrt(mean(averages["squared_forecast_anomaly"]) * mean(averages["squared_truth_anomaly"]))
        return mean(averages["anomaly_product"]) / norm


_ACC_STATISTICS = ("anomaly_product", "squared_forecast_anomaly", "squared_truth_anomaly")


def _activity(of: str) -> Metric:
    squared, plain = f"squared_{of}_anomaly", f"{of}_anomaly"
    x = {"forecast": "f", "truth": "o"}[of]

    def combine(averages: Averages, mean: TimeMean) -> np.ndarray:
        variance = averages[squared] - averages[plain] ** 2
        return np.sqrt(mean(np.maximum(variance, 0.0)))  # rounding may leave a constant field slightly below zero

    description = f"sqrt(bar(<({x}-c)^2> - <{x}-c>^2)), the {of}'s variability in space"
    return Metric(description, (squared, plain), combine)


def _whole_activity(of: str) -> Metric:
    statistic, x = f"squared_{of}_anomaly", {"forecast": "f", "truth": "o"}[of]
    return Metric(f"sqrt(bar(<({x}-c)^2>)), not centred", (statistic,), lambda a, mean: np.sqrt(mean(a[statistic])))


METRICS: dict[str, Metric] = {
    "rmse": Metric("sqrt(bar(<(f-o)^2>))", ("squared_error",), lambda a, mean: np.sqrt(mean(a["squared_error"]))),
    "mse": mean_of("squared_error", "bar(<(f-o)^2>)", squared=True),
    "mae": mean_of("absolute_error", "bar(<|f-o|>)"),
    "bias": mean_of("error", "bar(<f-o>)"),
    "acc": Metric(
        "bar(<(f-c)(o-c)> / sqrt(<(f-c)^2><(o-c)^2>)), not centred", _ACC_STATISTICS, _acc_by_time, has_unit=False
    ),
    "forecast_activity": _activity("forecast"),
    "truth_activity": _activity("truth"),
    "rmse_sqrt_before_time_avg": Metric(
        "bar(sqrt(<(f-o)^2>))", ("squared_error",), lambda a, mean: mean(np.sqrt(a["squared_error"]))
    ),
    "seeps": mean_of("seeps", "bar(<SEEPS>), over the points where it is defined", has_unit=False),
}
"""The metrics by name, in WeatherBench2's convention."""

_BY_CONVENTION: dict[Convention, dict[str, Metric]] = {
    "WeatherBench2": METRICS,
    "WeatherBench-X": METRICS
    | {
        "acc": Metric(
            "bar(<(f-c)(o-c)>) / sqrt(bar(<(f-c)^2>) bar(<(o-c)^2>)), not centred",
            _ACC_STATISTICS,
            _acc_of_means,
            has_unit=False,
        ),
        "forecast_activity": _whole_activity("forecast"),
        "truth_activity": _whole_activity("truth"),
    },
}


def metrics_of(statistics: Iterable[str], convention: Convention = DEFAULT) -> dict[str, Metric]:
    """The metrics that can be made of these statistics, by name."""
    there = set(statistics)
    return {name: metric for name, metric in _BY_CONVENTION[convention].items() if set(metric.statistics) <= there}


def time_mean(skipna: bool = False) -> TimeMean:
    """The mean over initial times, each counting the same; with `skipna`, over those that are not NaN."""

    def mean(values: np.ndarray) -> np.ndarray:
        if not skipna:
            return np.asarray(values.mean(axis=0))
        there = ~np.isnan(values)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(there, values, 0.0).sum(axis=0) / there.sum(axis=0))

    return mean
