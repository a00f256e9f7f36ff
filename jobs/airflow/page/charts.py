"""Small line charts as SVG that takes its colours from the page."""

from __future__ import annotations

import math

from markupsafe import Markup, escape

from graphufs.vocabulary.labels import forecast_name, hours_name
from jobs.airflow.page.contents import Target
from jobs.airflow.page.formatting import number

WIDTH, HEIGHT = 320, 170
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 10, 26
"""Margins, in the chart's own units as the size is."""


def chart(target: Target, title: str) -> Markup:
    """A score over lead time, a line for each forecast."""
    points = {name: [(lead, value) for lead, value in line.items() if math.isfinite(value)]
              for name, line in target.lines.items()}  # fmt: skip
    values = [value for line in points.values() for _, value in line]
    leads = sorted({lead for line in points.values() for lead, _ in line})
    if not values:
        return Markup('<p class="muted small">No finite values.</p>')
    top, longest = _round_up(max(values)), max(leads) or 1.0

    def x(lead: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * lead / longest

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top

    parts = []
    for share in (0.0, 0.5, 1.0):
        level = y(share * top)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{level:.1f}" y2="{level:.1f}"/>')
        parts.append(f'<text class="tick end" x="{LEFT - 6}" y="{level + 3.5:.1f}">{number(share * top, 2)}</text>')
    for lead in leads:
        if lead == longest or (lead in _days(leads) and x(longest) - x(lead) > 30):
            where = "end" if lead == longest else "middle"
            parts.append(f'<text class="tick {where}" x="{x(lead):.1f}" y="{HEIGHT - 8}">{hours_name(lead)}</text>')
    for name, line in reversed(points.items()):  # the emulator comes first, and is drawn over the others
        kind = name if name in KNOWN else "other"
        drawn = " ".join(f"{x(lead):.1f},{y(value):.1f}" for lead, value in line)
        parts.append(f'<polyline class="line {kind}" points="{drawn}"/>')
        for lead, value in line:
            said = escape(f"{forecast_name(name)}, {hours_name(lead)}: {number(value, 4)} {target.units}")
            place = f'cx="{x(lead):.1f}" cy="{y(value):.1f}" r="2.6"'
            parts.append(f'<circle class="dot {kind}" {place}><title>{said}</title></circle>')
    head = f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
    return Markup(head + "".join(parts) + "</svg>")


KNOWN = ("emulator", "persistence", "damped_persistence", "climatology")


def _days(leads: list[float]) -> list[float]:
    """Leads that get a mark: whole days where there are some."""
    days = [lead for lead in leads if lead % 24 == 0]
    chosen = days or leads
    return chosen[:: max(len(chosen) // 4, 1)]


def _round_up(value: float) -> float:
    """The next number with one or two digits."""
    if value <= 0:
        return 1.0
    scale = 10.0 ** math.floor(math.log10(value))
    return next(step * scale for step in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if step * scale >= value * 0.999999)
