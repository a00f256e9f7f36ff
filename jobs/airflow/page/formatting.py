"""Numbers, times and names as people read them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from graphufs.vocabulary import labels
from jobs.job import records


def number(value: Any, digits: int = 3) -> str:
    """A number with so many significant digits; a dash where there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if isinstance(value, int) or value == 0 else labels.number(value, digits)


def duration(seconds: Any) -> str:
    """A length of time; a dash where there is none."""
    return records.duration(seconds) if isinstance(seconds, int | float) and math.isfinite(seconds) else "–"


def ago(when: str, now: datetime) -> str:
    """How long ago something was; the text itself where it is not a time."""
    try:
        then = datetime.fromisoformat(when)
    except ValueError:
        return when
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    seconds = (now - then).total_seconds()
    return "just now" if seconds < 60 else f"{duration(seconds)} ago"


def period(text: str) -> str:
    """A period by its days."""
    return " to ".join(end.partition("T")[0] for end in text.split("..")) or "–"


def size(count: int) -> str:
    """Bytes: 12 kB, 3.4 MB."""
    return f"{count / 1e3:.0f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"


def pretty(content: Any) -> str:
    """Content of any shape, for reading."""
    return json.dumps(content, indent=2, ensure_ascii=False)


def target(variable: str, level: float | None, vertical: str = "pressure levels") -> str:
    """A variable and its level."""
    name = variable.replace("_", " ")
    if level is None:
        return name
    return f"{name}, {level:g} hPa" if vertical == "pressure levels" else f"{name}, layer ~{level:g}"


def costs(cost: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a model has cost, as names and values; what is not known is left out."""
    known = [(label, show(cost[name])) for name, label, show in COSTS if cost.get(name) is not None]
    return [(label, value) for label, value in known if value != "–"]


COSTS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("gpu_hours", "GPU-hours", number),
    ("segments", "segments", number),
    ("queue_wait", "in the queue", duration),
    ("energy", "kWh", number),
    ("gain_per_gpu_hour", "% lower error than its parent’s per GPU-hour", number),
)
