"""The demo's bar: what a trained emulator of the embedded world must reach, and an untrained one cannot.

The embedded world is more predictable than the atmosphere: passing says that the machinery learns, not that the
weather is forecast well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from graphufs.vocabulary.labels import hours_name
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.results.table import score_table
from graphufs.weatherbench.scoring.score import FORECAST

Aggregate = Literal["worst", "mean"]


class Criterion(NamedTuple):
    """One requirement and what was found."""

    name: str
    value: float
    limit: str
    passed: bool


@dataclass(frozen=True)
class RatioLimit:
    """What the RMSE over a baseline's may be at a lead for the worst target, or is below in the mean over targets."""

    baseline: str
    hours: int
    aggregate: Aggregate
    limit: float


RATIOS = (
    RatioLimit("persistence", 6, "worst", 0.45),
    RatioLimit("persistence", 24, "worst", 0.55),
    RatioLimit("persistence", 48, "worst", 0.70),
    RatioLimit("persistence", 72, "worst", 0.85),
    RatioLimit("persistence", 120, "mean", 1.0),
    RatioLimit("climatology", 24, "worst", 0.5),
    RatioLimit("climatology", 48, "worst", 0.85),
    RatioLimit("climatology", 72, "mean", 1.0),
    RatioLimit("damped_persistence", 48, "worst", 0.90),
)
LAST_LEAD = np.timedelta64(240, "h")
VARIABILITY = (0.8, 1.5)
"""Standard deviation in space of the forecast's anomaly over the truth's, at the last lead."""
INITIAL_TIMES = 50
"""How many initial times at least, with all their valid times outside training and validation."""


def check(scores: Scores) -> list[Criterion]:
    """A criterion for each requirement; one whose lead was not scored is not passed and has the value NaN."""
    criteria = [_ratio(scores, limit) for limit in RATIOS]

    values = [scores.values("rmse", FORECAST, channel)[scores.leads <= LAST_LEAD] for channel in scores.channels]
    share = float(np.isfinite(values).mean()) if LAST_LEAD in scores.leads else math.nan
    criteria.append(Criterion("share of finite scores up to 10 d", share, "= 1", share == 1))

    variability = [
        scores.at("forecast_activity", FORECAST, channel, LAST_LEAD)
        / scores.at("truth_activity", FORECAST, channel, LAST_LEAD)
        for channel in scores.channels
    ]
    low, high = VARIABILITY
    least, most = _extreme(variability, min), _extreme(variability, max)
    name = "variability over the truth's at 10 d"
    criteria.append(Criterion(f"{name}, lowest target", least, f">= {low:g}", least >= low))
    criteria.append(Criterion(f"{name}, highest target", most, f"<= {high:g}", most <= high))

    count = scores.dataset.attrs.get("independent_initial_times", 0)
    name = "initial times outside training and validation"
    criteria.append(Criterion(name, float(count), f">= {INITIAL_TIMES}", count >= INITIAL_TIMES))
    return criteria


def _ratio(scores: Scores, limit: RatioLimit) -> Criterion:
    lead = np.timedelta64(limit.hours, "h")
    ratios = [scores.ratio(FORECAST, limit.baseline, channel, lead) for channel in scores.channels]
    if limit.aggregate == "worst":
        value, of, relation = _extreme(ratios, max), "worst target", "<="
    else:
        value, of, relation = float(np.mean(ratios)), "mean over targets", "<"
    passed = value < limit.limit or (relation == "<=" and value == limit.limit)
    name = f"RMSE over {limit.baseline.replace('_', ' ')} at {hours_name(limit.hours)}, {of}"
    return Criterion(name, value, f"{relation} {limit.limit:.2f}", passed)


def _extreme(values: list[float], of: Callable[[list[float]], float]) -> float:
    """The smallest or largest value; NaN if any is NaN, which min and max would hide."""
    return math.nan if any(math.isnan(value) for value in values) else float(of(values))


def bar_table(criteria: Sequence[Criterion]) -> RenderableType:
    """The demo's bar for a terminal: what was found, what is wanted, and the verdict."""
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("the demo's bar", width=56)
    table.add_column("found", justify="right", width=6)
    table.add_column("wanted", justify="right", width=7)
    table.add_column("", width=6)
    for name, value, limit, passed in criteria:
        found = "–" if math.isnan(value) else f"{value:.0f}" if value >= 10 else f"{value:.3f}"
        table.add_row(name, found, limit, Text("pass", "green") if passed else Text("FAIL", "bold red"))
    failed = sum(not criterion.passed for criterion in criteria)
    verdict = "passed" if not failed else f"FAILED: {failed} of {len(criteria)} requirements are not met"
    return Group(table, Text(f"The demo's bar is {verdict}.", "bold green" if not failed else "bold red"))


def show_with_bar(console: Console, scores: Scores, name: str) -> bool:
    """Print the scores of the demo's emulator, called `name`, beside the demo's bar; whether it is met."""
    criteria = check(scores)
    console.print(score_table(scores))
    console.print(bar_table(criteria))
    passed = all(criterion.passed for criterion in criteria)
    verdict = (f"{name} passes the demo's bar.", "green") if passed else (f"{name} misses the demo's bar.", "red")
    idealised = " The embedded world is idealised: this is not weather skill." if passed else ""
    console.print(Text.assemble(verdict, idealised))
    return passed
