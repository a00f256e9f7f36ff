"""Two forecasts compared: paired differences of a score over common initial times, and which are significant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from graphufs.errors import UserError
from graphufs.vocabulary.labels import json_number
from graphufs.weatherbench.compare.significance import Inference, Method, score_difference
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.metrics.ensemble_metrics import AT_THRESHOLD, split_quantile
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.scoring.one_member import OF_ONE_MEMBER, as_one_member
from graphufs.weatherbench.scoring.score import FORECAST
from graphufs.weatherbench.scoring.score_state import ScoreState

BETTER = {
    "rmse": -1,
    "mse": -1,
    "mae": -1,
    "rmse_sqrt_before_time_avg": -1,
    "seeps": -1,
    "acc": 1,
    **dict.fromkeys(("crps", "crps_biased", "crps_mean_pooled", "crps_max_pooled", "gaussian_crps", "rps"), -1),
    **dict.fromkeys(("ensemble_mean_rmse", "debiased_ensemble_mean_rmse", "energy_score"), -1),
    **dict.fromkeys(("brier_score", "debiased_brier_score", "ignorance_score"), -1),
}
"""The metrics that say which forecast is better, without thresholds: -1 where less is, 1 where more is."""

Control = Literal["none", "fdr"]
"""What is done about many tests at once: nothing, or the false discovery rate is held (Benjamini & Hochberg 1995)."""

SAME = ("grid", "vertical", "skipna", "convention")
"""What two scores must share; numbers mean something else where these differ."""
TRUTH = ("truth_name", "truth")
CLIMATOLOGY = ("climatology_period", "climatology_window_days")
"""What ACC depends on besides."""


def direction(metric: str) -> int:
    """-1 where less of a metric is better, 1 where more is.

    Raises
    ------
    UserError
        If it does not say which forecast is better.
    """
    name = split_quantile(metric)[0]
    if name not in BETTER or (name == metric and name in AT_THRESHOLD):
        names = [f"{known}_QUANTILE" if known in AT_THRESHOLD else known for known in BETTER]
        raise UserError(f"{metric} does not say which forecast is better; choose {', '.join(names)}")
    return BETTER[name]


@dataclass(frozen=True)
class Side:
    """One of the two: a forecast among scores, `emulator` or a baseline, and a name for people."""

    name: str
    scores: Scores
    forecast: str = FORECAST

    def state(self, metric: str | None = None) -> ScoreState:
        """The state behind its scores; for a `metric` perhaps with no more than what that is made of.

        Raises
        ------
        UserError
            If the scores have no such forecast.
        """
        states = self.scores.states(metric)
        if self.forecast not in states:
            raise UserError(f"{self.name} has no forecast {self.forecast}, only {', '.join(states)}")
        return states[self.forecast]


@dataclass(frozen=True)
class Comparison:
    """What came of comparing A with B in one metric; arrays are [lead, channel, region].

    The scores of A and B are over the common initial times, the inference is of A minus B, which is `significant` at
    `level`, many tests considered as `control` says. Initial times of one alone do not count; `left_out` says in words
    what else only one of the two has.
    """

    a: str
    b: str
    metric: str
    method: Method
    level: float
    control: Control
    leads: np.ndarray
    channels: tuple[Channel, ...]
    regions: tuple[str, ...]
    of_a: np.ndarray
    of_b: np.ndarray
    inference: Inference
    significant: np.ndarray
    initial_times: np.ndarray
    only_a: np.ndarray
    only_b: np.ndarray
    left_out: tuple[str, ...] = ()

    @property
    def percent(self) -> np.ndarray:
        """A's score over B's, less 1, in percent; NaN where B's is 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.of_b == 0, np.nan, 100 * (self.of_a - self.of_b) / np.abs(self.of_b))

    @property
    def better(self) -> np.ndarray:
        """1 where A is better, -1 where it is worse, 0 where they are equal or not defined."""
        return np.nan_to_num(np.sign(self.inference.estimate) * direction(self.metric)).astype(int)

    @property
    def tests(self) -> int:
        """How many differences were tested."""
        return int(np.isfinite(self.inference.p_value).sum())

    def to_json(self) -> dict[str, Any]:
        """Everything, with null for what is not finite."""
        hours = (self.leads / np.timedelta64(1, "h")).tolist()
        found = [
            {
                "variable": channel.variable,
                "level": channel.level,
                "region": region,
                "lead_hours": lead,
                "a": json_number(self.of_a[at]),
                "b": json_number(self.of_b[at]),
                "difference": json_number(self.inference.estimate[at]),
                "low": json_number(self.inference.low[at]),
                "high": json_number(self.inference.high[at]),
                "p_value": json_number(self.inference.p_value[at]),
                "percent": json_number(self.percent[at]),
                "significant": bool(self.significant[at]),
                "better": {1: "a", -1: "b", 0: None}[int(self.better[at])],
            }
            for i, lead in enumerate(hours)
            for j, channel in enumerate(self.channels)
            for k, region in enumerate(self.regions)
            for at in [(i, j, k)]
        ]
        return {
            "a": self.a,
            "b": self.b,
            "metric": self.metric,
            "method": self.method,
            "level": self.level,
            "control": self.control,
            "tests": self.tests,
            "initial_times": len(self.initial_times),
            "evenly_spaced": self.inference.evenly_spaced,
            "only_a": [str(time.astype("datetime64[h]")) for time in self.only_a],
            "only_b": [str(time.astype("datetime64[h]")) for time in self.only_b],
            "left_out": list(self.left_out),
            "differences": found,
        }


def compare(
    a: Side,
    b: Side,
    metric: str = "rmse",
    *,
    method: Method = "hac",
    level: float = 0.05,
    control: Control = "none",
    allow: Sequence[str] = (),
    seed: int = 0,
    replicates: int = 1000,
) -> Comparison:
    """Compare two forecasts in a metric of `BETTER`, paired by initial time.

    For `method`, `level`, `seed` and `replicates` see `graphufs.weatherbench.compare.significance`; `control` says what
    is done about many tests at once; `allow` names differences to accept: `truth` (each forecast against its own, as of
    analyses), `climatology`.

    Raises
    ------
    UserError
        If the two cannot be compared, share fewer than eight initial times, or nothing that was scored.
    """
    direction(metric)
    require_comparable(a, b, metric, allow)
    first, second, left_out = _common(a, b, metric)
    inference = score_difference(first, second, metric, method=method, level=level, seed=seed, replicates=replicates)
    common = np.intersect1d(first.initial_times, second.initial_times)
    of_a, of_b = (state.select(common).finalize([metric], skipna=False)[metric] for state in (first, second))
    return Comparison(
        a.name,
        b.name,
        metric,
        method,
        level,
        control,
        np.array(first.axes.leads),
        first.axes.channels,
        first.axes.regions,
        of_a,
        of_b,
        inference,
        _significant(inference.p_value, level, control),
        common,
        np.setdiff1d(first.initial_times, common),
        np.setdiff1d(second.initial_times, common),
        left_out,
    )


def require_comparable(a: Side, b: Side, metric: str, allow: Sequence[str] = ()) -> None:
    """Check that numbers of the two mean the same.

    Raises
    ------
    UserError
        Naming everything that differs.
    """
    names = [*SAME]
    if "truth" not in allow:
        names += TRUTH
    if metric == "acc" and "climatology" not in allow:
        names += CLIMATOLOGY
    of_a, of_b = ({"truth_name": side.scores.truth_name, **side.scores.dataset.attrs} for side in (a, b))
    differing = [
        f"{name.replace('_', ' ')} ({of_a.get(name)!r} and {of_b.get(name)!r})"
        for name in names
        if of_a.get(name) != of_b.get(name)
    ]
    if differing:
        flags = [flag for flag in ("truth", "climatology") if any(part.startswith(flag) for part in differing)]
        may = f" Where that is meant, allow it: {', '.join(flags)}." if flags else ""
        raise UserError(
            f"{a.name} and {b.name} cannot be compared: they differ in {'; '.join(differing)}. Score both alike.{may}"
        )


def _common(a: Side, b: Side, metric: str) -> tuple[ScoreState, ScoreState, tuple[str, ...]]:
    """The states of both on what both were scored on, and what was left out."""
    alike = a.scores.axes.statistics == b.scores.axes.statistics
    first, second = (side.state(metric if alike else None) for side in (a, b))
    if OF_ONE_MEMBER & {*first.axes.statistics} ^ OF_ONE_MEMBER & {*second.axes.statistics}:
        first, second = as_one_member(first), as_one_member(second)  # one of the two is an ensemble
    left_out, wanted = [], {}
    for what in ("statistics", "leads", "channels", "regions"):
        mine, other = getattr(first.axes, what), getattr(second.axes, what)
        both = tuple(one for one in mine if one in other)
        if not both:
            raise UserError(f"{a.name} and {b.name} have no {what} in common: {_list(mine)} and {_list(other)}")
        wanted[what] = both
        for side, own in ((a, mine), (b, other)):
            if (alone := [one for one in own if one not in both]) and what != "statistics":
                left_out.append(f"{what} of {side.name} alone: {_list(alone)}")
    return first.restricted(wanted), second.restricted(wanted), tuple(left_out)


def _list(values: Sequence[Any]) -> str:
    return ", ".join(f"{v / np.timedelta64(1, 'h'):g} h" if isinstance(v, np.timedelta64) else str(v) for v in values)


def _significant(p_values: np.ndarray, level: float, control: Control) -> np.ndarray:
    if control == "none":
        return p_values < level
    finite = np.isfinite(p_values)
    found = np.zeros(p_values.shape, bool)
    if finite.any():
        from scipy import stats  # takes seconds, and plotting scores does not need it

        found[finite] = stats.false_discovery_control(p_values[finite]) < level
    return found
