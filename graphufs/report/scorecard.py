"""The scorecard: how much better or worse a forecast is than a reference, a box for each target and lead."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from graphufs.report.svg import MUTED, TEXT, drawing, to_svg
from graphufs.vocabulary.labels import number
from graphufs.weatherbench.compare.comparison import Comparison, direction
from graphufs.weatherbench.results.display import lead_name
from graphufs.weatherbench.results.scores import Scores

STEPS = (-50, -20, -10, -5, -2, -1, 1, 2, 5, 10, 20, 50)
"""Percent at which the colour changes, as on WeatherBench2's own scorecards."""

COLOURS = matplotlib.colormaps["RdBu_r"].resampled(len(STEPS) + 1)
"""Blue is better, red is worse: told apart by colour-blind readers."""

WIDTH, HEIGHT, LABELS, TOP, BOTTOM = 0.78, 0.40, 2.5, 0.34, 0.62
"""Inches: of a box, and of the room around the boxes."""


def scorecard(comparison: Comparison, scores: Scores, leads: list[np.timedelta64], region: str = "global") -> str:
    """The scorecard of A against B as SVG, a column for each of `leads`.

    Each box has A's score, and the percent that it is above or below B's; boxes with a frame differ significantly.
    `scores` gives names and units.
    """
    columns = [int(np.flatnonzero(comparison.leads == lead)[0]) for lead in leads if lead in comparison.leads]
    rows, at = len(comparison.channels), comparison.regions.index(region)
    size = (LABELS + len(columns) * WIDTH + 0.06, TOP + rows * HEIGHT + BOTTOM)
    with drawing(f"scorecard {comparison.a} {comparison.b} {comparison.metric} {region}"):
        figure = Figure(figsize=size)
        axes = figure.add_axes((0, BOTTOM / size[1], 1, rows * HEIGHT / size[1]))
        axes.set_xlim(-LABELS / WIDTH, len(columns) + 0.06 / WIDTH)
        axes.set_ylim(rows, 0)
        axes.axis("off")
        for column, position in enumerate(columns):
            axes.text(column + 0.5, -0.25, lead_name(comparison.leads[position]), ha="center", color=MUTED, size=8.5)
        for row, channel in enumerate(comparison.channels):
            unit = scores.unit(channel)
            label = scores.channel_name(channel) + (f" ({unit.name})" if unit.name else "")
            axes.text(-0.1, row + 0.5, label, ha="right", va="center", color=TEXT, size=8.5)
            scale = unit.scale if comparison.metric != "acc" else 1.0
            for column, position in enumerate(columns):
                cell = position, row, at
                _box(axes, column, row, comparison, cell, scale)
        _key(figure, size)
        what = f"{comparison.metric.upper()} of {comparison.a} against {comparison.b}, {region}"
        return to_svg(figure, f"Scorecard: {what}, by target and lead")


def _box(axes: Axes, column: int, row: int, comparison: Comparison, cell: tuple[int, int, int], scale: float) -> None:
    percent, value = float(comparison.percent[cell]), float(comparison.of_a[cell])
    if not np.isfinite(percent):
        axes.text(column + 0.5, row + 0.5, "–", ha="center", va="center", color=MUTED, size=8.5)
        return
    sign = -direction(comparison.metric)
    norm = BoundaryNorm(STEPS, COLOURS.N, extend="both")
    colour = COLOURS(norm(sign * percent))
    ink = "white" if np.dot(colour[:3], (0.299, 0.587, 0.114)) < 0.55 else "#15191e"
    sure = bool(comparison.significant[cell])
    axes.add_patch(Rectangle((column + 0.03, row + 0.05), 0.94, 0.9, facecolor=colour, edgecolor="none"))
    if sure:
        axes.add_patch(Rectangle((column + 0.05, row + 0.09), 0.9, 0.82, fill=False, edgecolor=ink, linewidth=1.1))
    weight = "bold" if sure else "normal"
    axes.text(
        column + 0.5, row + 0.35, number(value * scale), ha="center", va="center", color=ink, size=8.5, weight=weight
    )
    shown = f"{percent:+.0f} %" if abs(percent) >= 9.95 else f"{percent:+.1f} %"
    axes.text(column + 0.5, row + 0.71, shown.replace("-", "−"), ha="center", va="center", color=ink, size=7)


def _key(figure: Figure, size: tuple[float, float]) -> None:
    """The colours' meaning, below the boxes."""
    wide = min(3.6, size[0] - LABELS - 0.1)
    axes = figure.add_axes((LABELS / size[0], 0.30 / size[1], wide / size[0], 0.13 / size[1]))
    for position in range(COLOURS.N):
        axes.add_patch(Rectangle((position, 0), 1, 1, facecolor=COLOURS(position), edgecolor="none"))
    axes.set_xlim(0, COLOURS.N)
    axes.set_ylim(0, 1)
    axes.grid(False)
    axes.set_yticks([])
    axes.set_xticks(range(1, COLOURS.N), [f"{step:+d}".replace("-", "−") for step in STEPS], size=7)
    axes.tick_params(length=0, pad=1)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.text(
        (LABELS - 0.1) / size[0], 0.365 / size[1], "percent; blue: better", ha="right", va="center", color=MUTED, size=8
    )
