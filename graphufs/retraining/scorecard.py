"""A comparison for people: a table in Markdown, as Airflow shows it to who is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphufs.registry.registry import RegistryEvent


def scorecard(evidence: Mapping[str, Any]) -> str:
    """What was compared, the named scores with their intervals, and what the rule says."""
    times = evidence["initial_times"]
    metric = str(evidence["metric"]).upper()
    lines = [
        f"**{evidence['challenger']}** against the champion **{evidence['champion']}** on {len(times)} initial times, "
        f"{times[0]} to {times[-1]}, which neither was trained on.",
        "",
        f"| {metric} of | champion | challenger | change | interval of the difference | p |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for one in evidence["findings"]:
        level = "" if one["level"] is None else f" {one['level']:g}"
        lines.append(
            f"| {one['variable']}{level} at {one['lead']} | {one['champion']:.4g} | {one['challenger']:.4g} "
            f"| {100 * one['change']:+.1f} % | {one['low']:.3g} to {one['high']:.3g} | {one['p_value']:.2g} |"
        )
    stable = "; ".join(evidence["unstable"]) or f"stable over {evidence['rollout_hours']} h"
    lines += ["", f"Long rollout: {stable}.", "", f"The rule says **{evidence['decision']}**: {evidence['why']}."]
    return "\n".join(lines)


def comparisons(history: Sequence[RegistryEvent], model: str) -> list[Mapping[str, Any]]:
    """What the decisions on a model were based on, the oldest first."""
    found = [event.content.get("evidence") for event in history if event.model == model]
    return [one for one in found if isinstance(one, Mapping)]


def gain(history: Sequence[RegistryEvent], model: str) -> float | None:
    """By how much a model's named scores are lower than those of the champion it was last held against, in percent.

    The mean over the scores; None where it was not compared, or a score is no number.
    """
    compared = comparisons(history, model)
    changes = [one["change"] for one in compared[-1].get("findings", ())] if compared else []
    whole = all(isinstance(change, int | float) and change == change for change in changes)
    return -100 * sum(changes) / len(changes) if changes and whole else None
