"""The rule by which a challenger becomes the champion: better beyond chance, nowhere worse beyond a bound, stable.

Each named score's difference is tested for itself, paired by initial time (graphufs.weatherbench.compare.significance,
`hac`), at the rule's level divided by the number of scores (Bonferroni). So whatever the scores have to do with each
other, a challenger that is no better is promoted in at most that share of comparisons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from graphufs.config.retraining import Retraining

Decision = Literal["promote", "ask", "hold", "refuse"]


@dataclass(frozen=True)
class ComparedScore:
    """A named score of both models, and the difference challenger minus champion with its interval."""

    variable: str
    level: float | None
    lead: str
    units: str
    champion: float
    challenger: float
    low: float
    high: float
    p_value: float

    @property
    def change(self) -> float:
        """The difference as a share of the champion's score."""
        return (self.challenger - self.champion) / self.champion if self.champion else float("nan")

    @property
    def name(self) -> str:
        """For people."""
        level = "" if self.level is None else f" {self.level:g}"
        return f"{self.variable}{level} at {self.lead}"

    def to_json(self) -> dict[str, Any]:
        """For the evidence."""
        return {**asdict(self), "change": self.change}


def judge(findings: Sequence[ComparedScore], unstable: Sequence[str], rule: Retraining) -> tuple[Decision, str]:
    """The decision, and why."""
    if unstable:
        return "refuse", f"the long rollout is not stable: {'; '.join(unstable)}"
    bad = [one for one in findings if not one.change <= rule.worse_by_at_most]  # NaN is bad
    if bad:
        worst = max(bad, key=lambda one: one.change if one.change == one.change else float("inf"))
        return "refuse", (
            f"{worst.name} is {100 * worst.change:.1f} % worse, more than the {100 * rule.worse_by_at_most:g} % allowed"
        )
    threshold = rule.level / len(findings)
    better = [one for one in findings if one.challenger < one.champion and one.p_value < threshold]
    if not better:
        nearest = min(findings, key=lambda one: one.p_value)
        return "hold", (
            f"no named score is better beyond chance (the clearest difference is {nearest.name}: "
            f"{100 * nearest.change:+.1f} %, p = {nearest.p_value:.2g}; below {threshold:.2g} it would count)"
        )
    best = min(better, key=lambda one: one.change)
    return rule.then, (
        f"{len(better)} of {len(findings)} named scores are better beyond chance, most {best.name}: "
        f"{100 * best.change:+.1f} %, p = {best.p_value:.2g}; none is worse beyond {100 * rule.worse_by_at_most:g} %"
    )
