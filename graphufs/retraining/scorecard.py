"""A comparison for people: a table in Markdown, as Airflow shows it to who is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


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
