"""Predictions that were compared with a card: the files that benchmarks/gpu.py writes where there is one."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
"""In a checkout; a wheel has none."""


def factors(target: str, folder: Path | None = None) -> list[dict[str, Any]]:
    """For each measured row on a kind of card: its case, and measured seconds by predicted ones."""
    found = []
    for file in sorted((folder or RESULTS).glob("gpu-*.json")):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            rows = [row for row in content["rows"] if row["device"] == target and row.get("measured")]
            found += [
                {"case": row["case"], "factor": row["measured"] / row["seconds"], "file": file.name} for row in rows
            ]
        except (ValueError, KeyError, TypeError):
            continue  # another's file; what the benchmark writes is read by its own test
    return found


def words(target: str, folder: Path | None = None) -> str:
    """How far predictions for a kind of card were off, in one sentence."""
    there = factors(target, folder)
    if not there:
        return f"No prediction was compared with a measurement on {target} yet: they may be off by a factor."
    logs = [math.log(one["factor"]) for one in there]
    spread = ", ".join(f"{one['case']} {one['factor']:.2f}" for one in there)
    mean = math.exp(sum(logs) / len(logs))
    return f"Measured times on {target} were {mean:.2f} times the predicted ones ({spread})."
