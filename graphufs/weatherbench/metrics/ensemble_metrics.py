"""Metrics of ensembles: names of the statistics that are kept of members, and what is made of these.

A is the mean distance of members from the truth, P that of pairs of members, s^2 the variance of the members with M - 1
in the denominator, m their mean; <x> is the spatial mean and bar(x) the mean over initial times. Scores at a threshold
carry its quantile in their name, such as `brier_score_0.9`. Formulas: weatherbench2/metrics.py and
weatherbenchX/metrics/probabilistic.py; names are WeatherBench2's where it has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from graphufs.vocabulary.conventions import DEFAULT, Convention
from graphufs.weatherbench.metrics import metrics
from graphufs.weatherbench.metrics.ensemble import (
    SKILL,
    SPREAD,
    SPREAD_BIASED,
    SQUARED,
    UNBIASED,
    VARIANCE,
    MemberRules,
)
from graphufs.weatherbench.metrics.metrics import Averages, Metric, TimeMean, mean_of

FIELD_OF = {
    "crps_skill": SKILL,
    "crps_spread": SPREAD,
    "crps_spread_biased": SPREAD_BIASED,
    "ensemble_mean_squared_error": SQUARED,
    "debiased_ensemble_mean_squared_error": UNBIASED,
    "ensemble_variance": VARIANCE,
}
"""The statistics that are the spatial mean of a field of `graphufs.weatherbench.metrics.ensemble`."""

OF_MEMBER_VECTORS = frozenset(
    {
        "ensemble_mean_squared_error",
        "debiased_ensemble_mean_squared_error",
        "ensemble_variance",
        "energy_score_skill",
        "energy_score_spread",
    }
)
"""The statistics that a vector has too; all but the energy score's are the sum over its components."""

Pooling = Literal["mean", "max"]

POOLINGS: tuple[Pooling, ...] = ("mean", "max")
"""How boxes of points are pooled for the CRPS of pooled fields."""

AT_THRESHOLD = ("brier_score", "debiased_brier_score", "ignorance_score")
"""The statistics there is one of for each threshold."""


def member_rules(convention: Convention, *, skipna: bool) -> MemberRules:
    """What a convention has done with members."""
    official = convention == "WeatherBench2"
    return MemberRules(skipna, nominal_size=official, all_pairs=not official)


def ensemble_statistics(quantiles: Sequence[float] = ()) -> tuple[str, ...]:
    """The names of all statistics that are kept of ensembles, with thresholds at some quantiles of the climatology."""
    pooled = [f"crps_{kind}_pooled_{part}" for kind in POOLINGS for part in ("skill", "spread")]
    at_thresholds = [at_quantile(name, quantile) for name in AT_THRESHOLD for quantile in quantiles]
    rps = ["rps"] if quantiles else []
    return (*FIELD_OF, "energy_score_skill", "energy_score_spread", *pooled, *rps, *at_thresholds)


def gaussian_statistics(quantiles: Sequence[float] = ()) -> tuple[str, ...]:
    """The names of all statistics that are kept of Gaussian forecasts."""
    at_thresholds = [at_quantile(name, q) for name in ("brier_score", "ignorance_score") for q in quantiles]
    return ("gaussian_crps", "gaussian_variance", *(["rps"] if quantiles else []), *at_thresholds)


def at_quantile(name: str, quantile: float) -> str:
    """A statistic's or metric's name at a threshold."""
    return f"{name}_{quantile:g}"


def split_quantile(name: str) -> tuple[str, float | None]:
    """The name without the quantile it ends with, and the quantile; None where it has none."""
    for start in AT_THRESHOLD:
        if name.startswith(f"{start}_"):
            return start, float(name.removeprefix(f"{start}_"))
    return name, None


def _root(statistic: str, description: str) -> Metric:
    def combine(averages: Averages, mean: TimeMean) -> np.ndarray:
        with np.errstate(invalid="ignore"):  # a debiased mean square may be below zero: it has no root
            return np.sqrt(mean(averages[statistic]))

    return Metric(description, (statistic,), combine)


def _root_by_time(statistic: str, description: str) -> Metric:
    return Metric(description, (statistic,), lambda a, mean: mean(np.sqrt(a[statistic])))


def _score(name: str, spread: str, description: str) -> Metric:
    parts = (f"{name}_skill", spread)
    return Metric(description, parts, lambda a, mean: mean(a[parts[0]] - a[parts[1]] / 2))


def _spread_skill(averages: Averages, mean: TimeMean) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(mean(averages["ensemble_variance"]) / mean(averages["debiased_ensemble_mean_squared_error"]))


def _spread_skill_inflated(averages: Averages, mean: TimeMean) -> np.ndarray:
    variance, biased = (mean(averages[name]) for name in ("ensemble_variance", "ensemble_mean_squared_error"))
    of_mean = biased - mean(averages["debiased_ensemble_mean_squared_error"])  # s^2 / M
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt((variance + of_mean) / biased)


def _spread_skill_plain(averages: Averages, mean: TimeMean) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(mean(averages["ensemble_variance"]) / mean(averages["ensemble_mean_squared_error"]))


_MSE, _DEBIASED, _VARIANCE = (
    "ensemble_mean_squared_error", "debiased_ensemble_mean_squared_error", "ensemble_variance",
)  # fmt: skip

ENSEMBLE_METRICS: dict[str, Metric] = {
    "crps": _score("crps", "crps_spread", "bar(<A - P/2>), fair"),
    "crps_biased": _score("crps", "crps_spread_biased", "bar(<A - (1 - 1/M) P/2>), of the members' step function"),
    "crps_skill": mean_of("crps_skill", "bar(<A>)"),
    "crps_spread": mean_of("crps_spread", "bar(<P>)"),
    "ensemble_mean_mse": mean_of(_MSE, "bar(<(m-o)^2>)", squared=True),
    "ensemble_mean_rmse": _root(_MSE, "sqrt(bar(<(m-o)^2>))"),
    "ensemble_mean_rmse_sqrt_before_time_avg": _root_by_time(_MSE, "bar(sqrt(<(m-o)^2>))"),
    "debiased_ensemble_mean_mse": mean_of(_DEBIASED, "bar(<(m-o)^2 - s^2/M>)", squared=True),
    "debiased_ensemble_mean_rmse": _root(_DEBIASED, "sqrt(bar(<(m-o)^2 - s^2/M>))"),
    "ensemble_variance": mean_of(_VARIANCE, "bar(<s^2>)", squared=True),
    "ensemble_stddev": _root(_VARIANCE, "sqrt(bar(<s^2>))"),
    "ensemble_stddev_sqrt_before_time_avg": _root_by_time(_VARIANCE, "bar(sqrt(<s^2>))"),
    "spread_skill": Metric(
        "sqrt(bar(<s^2>) / bar(<(m-o)^2 - s^2/M>)), as WeatherBench-X's UnbiasedSpreadSkillRatio: 1 if calibrated",
        (_VARIANCE, _DEBIASED),
        _spread_skill,
        has_unit=False,
    ),
    "spread_skill_inflated": Metric(
        "sqrt((1 + 1/M) bar(<s^2>) / bar(<(m-o)^2>)), as GenCast's: 1 if calibrated",
        (_VARIANCE, _MSE, _DEBIASED),
        _spread_skill_inflated,
        has_unit=False,
    ),
    "spread_skill_uncorrected": Metric(
        "sqrt(bar(<s^2>) / bar(<(m-o)^2>)), as in WeatherBench2's plots: sqrt(M/(M+1)) if calibrated",
        (_VARIANCE, _MSE),
        _spread_skill_plain,
        has_unit=False,
    ),
    "energy_score": _score(
        "energy_score", "energy_score_spread", "skill - spread/2 with the norm |x| = sqrt(<x^2>), neighbouring pairs"
    ),
    "energy_score_skill": mean_of("energy_score_skill", "bar(mean_i |x_i - o|)"),
    "energy_score_spread": mean_of("energy_score_spread", "bar(mean |x_i - x_(i+1)|), of members next to each other"),
    **{
        f"crps_{kind}_pooled": _score(
            f"crps_{kind}_pooled", f"crps_{kind}_pooled_spread", f"the fair CRPS of the {kind} over boxes of points"
        )
        for kind in POOLINGS
    },
    "gaussian_crps": mean_of("gaussian_crps", "bar(<s (z (2 Phi(z) - 1) + 2 phi(z) - 1/sqrt(pi))>), z = (f-o)/s"),
    "gaussian_variance": mean_of("gaussian_variance", "bar(<s^2>), of the forecast distribution", squared=True),
    "rps": mean_of(
        "rps", "bar(<sum over thresholds of (share of members below - whether the truth is)^2>)", has_unit=False
    ),
}
"""The metrics by name, in WeatherBench2's convention; those at a threshold are in `threshold_metrics`."""

_WEATHERBENCH_X = {
    "energy_score": _score(
        "energy_score",
        "energy_score_spread",
        "skill - spread/2 with the norm |x| = sqrt(<x^2>), all pairs, fair (WeatherBench-X's norm has no area weights)",
    ),
    "energy_score_spread": mean_of("energy_score_spread", "bar(mean |x_i - x_j|) of all pairs"),
}

_AT_THRESHOLD = {
    "brier_score": "bar(<(p - e)^2>), p the share of members above the threshold, e whether the truth is",
    "debiased_brier_score": "bar(<(p - e)^2 - p (1-p)/(M-1)>)",
    "ignorance_score": "bar(<-ln of the share of members on the truth's side of the threshold>)",
}


def threshold_metrics(statistics: Iterable[str]) -> dict[str, Metric]:
    """The metrics at thresholds that can be made of these statistics, by name."""
    found = {}
    for name in sorted(statistics):
        start, quantile = split_quantile(name)
        if quantile is not None:
            where = f"; the threshold is the climatology's quantile {quantile:g}"
            found[name] = mean_of(name, _AT_THRESHOLD[start] + where, has_unit=False)
    return found


def metrics_of(statistics: Iterable[str], convention: Convention = DEFAULT) -> dict[str, Metric]:
    """The metrics of single forecasts and of ensembles that can be made of these statistics, by name."""
    there = set(statistics)
    known = ENSEMBLE_METRICS | (_WEATHERBENCH_X if convention == "WeatherBench-X" else {})
    of_members = {name: metric for name, metric in known.items() if set(metric.statistics) <= there}
    return metrics.metrics_of(there, convention) | of_members | threshold_metrics(there)
