"""Line charts: scores by lead time, and the loss through training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from graphufs.report.svg import GRID, LINES, MUTED, TEXT, colour, drawing, to_svg
from graphufs.report.training_log import TrainingLog
from graphufs.vocabulary.labels import forecast_name
from graphufs.weatherbench.compare.comparison import Comparison
from graphufs.weatherbench.compare.significance import Inference
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.scoring.score import FORECAST

BAND = 0.2
"""How opaque intervals are."""

SIZE = (3.9, 2.6)
"""Inches: of one chart, three to a row on a wide page and one on a phone."""


def rmse_chart(scores: Scores, channel: Channel, bands: Mapping[str, Inference] | None = None) -> str:
    """RMSE by lead of the emulator and the baselines, with the intervals of some of them, as SVG."""
    return score_chart(scores, channel, "rmse", bands)


def score_chart(scores: Scores, channel: Channel, metric: str, bands: Mapping[str, Inference] | None = None) -> str:
    """A score in the variable's unit by lead, of all forecasts, with the intervals of some of them, as SVG."""
    unit, name_of_score = scores.unit(channel), metric.upper()
    with drawing(f"{metric} {channel}"):
        figure, axes = small_axes()
        for name in scores.forecasts:
            values = scores.values(metric, name, channel) * unit.scale
            _line(axes, name, scores.lead_hours, values)
            if bands and name in bands:
                at = slice(None), scores.channels.index(channel), 0
                low, high = bands[name].low[at] * unit.scale, bands[name].high[at] * unit.scale
                fill = colour(LINES[name].colour)
                axes.fill_between(scores.lead_hours / 24, low, high, color=fill, alpha=BAND, linewidth=0)
        axes.set_ylim(bottom=0)
        lead_axis(axes, float(scores.lead_hours.max()))
        axes.set_ylabel(f"{name_of_score} ({unit.name})" if unit.name else name_of_score)
        axes.set_title(scores.channel_name(channel))
        what = f"{name_of_score} of {scores.channel_name(channel)} by lead time, emulator and baselines"
        return to_svg(figure, what)


def acc_chart(scores: Scores, channel: Channel) -> str:
    """Anomaly correlation by lead, as SVG; climatology has none, and damped persistence that of persistence."""
    with drawing(f"acc {channel}"):
        figure, axes = small_axes()
        lowest = 0.0
        for name in scores.forecasts:
            values = scores.values("acc", name, channel)
            if name in (FORECAST, "persistence") and np.isfinite(values).any():
                _line(axes, name, scores.lead_hours, values)
                lowest = min(lowest, float(np.nanmin(values)))
        axes.axhline(0.6, color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)))
        inside = axes.get_yaxis_transform()
        axes.text(0.995, 0.61, "0.6", color=MUTED, size=8, ha="right", va="bottom", transform=inside)
        axes.set_ylim(min(0.0, lowest * 1.05), 1.02)
        lead_axis(axes, float(scores.lead_hours.max()))
        axes.set_ylabel("anomaly correlation (1)")
        axes.set_title(scores.channel_name(channel))
        return to_svg(figure, f"Anomaly correlation of {scores.channel_name(channel)} by lead time")


def difference_chart(comparison: Comparison, scores: Scores, channel: Channel, region: str) -> str:
    """The difference of two scores by lead with its interval, as SVG."""
    unit = scores.unit(channel)
    scale = 1.0 if comparison.metric in ("acc", "seeps") else unit.scale
    at = slice(None), comparison.channels.index(channel), comparison.regions.index(region)
    inference, days = comparison.inference, comparison.leads / np.timedelta64(24, "h")
    with drawing(f"difference {channel} {region}"):
        figure, axes = small_axes()
        axes.axhline(0.0, color=TEXT, linewidth=0.9)
        low, high = inference.low[at] * scale, inference.high[at] * scale
        axes.fill_between(days, low, high, color=colour("emulator"), alpha=BAND, linewidth=0)
        axes.plot(days, inference.estimate[at] * scale, color=colour("emulator"), linewidth=2.0)
        lead_axis(axes, float(scores.lead_hours.max()))
        name = comparison.metric.upper()
        axes.set_ylabel(
            f"{name} difference ({unit.name})" if unit.name and scale == unit.scale else f"{name} difference"
        )
        axes.set_title(scores.channel_name(channel))
        what = f"Difference in {name} of {scores.channel_name(channel)}, {region}, by lead time, with its interval"
        return to_svg(figure, what)


def activity_chart(scores: Scores, channels: Sequence[Channel]) -> str:
    """The emulator's variability over the truth's by lead, a line a target, as SVG."""
    with drawing("activity"):
        figure, axes = _axes((8.2, 2.9), right=2.6)
        axes.axhline(1.0, color=TEXT, linewidth=0.9)
        shades = np.linspace(1.0, 0.35, len(channels))
        dashes: list[tuple[float, ...]] = [(), (5, 2), (1.5, 1.5), (5, 1.5, 1, 1.5)]
        ends = []
        for position, channel in enumerate(channels):
            ratio = scores.values("forecast_activity", "emulator", channel) / scores.values(
                "truth_activity", "emulator", channel
            )
            style = (0, dashes[position % len(dashes)]) if position % len(dashes) else "-"
            axes.plot(
                scores.lead_hours / 24, ratio, color=colour("emulator"), alpha=shades[position], linestyle=style,
                label=scores.channel_name(channel), linewidth=1.6,
            )  # fmt: skip
            ends.append(ratio)
        values = np.concatenate(ends)
        values = values[np.isfinite(values)]
        if values.size:
            axes.set_ylim(min(0.75, values.min() - 0.05), min(max(1.25, values.max() + 0.05), 4))
        lead_axis(axes, float(scores.lead_hours.max()))
        axes.set_ylabel("standard deviation / truth's (1)")
        axes.set_title("Variability of the forecasts")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), handlelength=2.6, borderaxespad=0)
        return to_svg(figure, "Variability of the emulator's forecasts relative to the truth by lead time")


def loss_chart(log: TrainingLog) -> str:
    """Training and validation loss by update, stages marked, and the validation forecasts' scores, as SVG."""
    with drawing("loss"):
        figure, axes = _axes((8.6, 2.9), right=0.62 if log.forecast_updates.size else 0.1)
        axes.plot(log.updates, log.losses, color=colour("emulator"), linewidth=0.6, alpha=0.3)
        axes.plot(log.updates, log.smoothed, color=colour("emulator"), linewidth=2.0, label="training (running mean)")
        if log.validation_updates.size:
            axes.plot(
                log.validation_updates, log.validation_losses, color=colour("persistence"), linewidth=1.2, marker="o",
                markersize=4.5, label="validation",
            )  # fmt: skip
        both = np.concatenate([log.losses, log.validation_losses])
        if (both[np.isfinite(both)] > 0).all():
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(FuncFormatter(_minor_label))
            axes.tick_params(axis="y", which="minor", labelsize=8, labelcolor=MUTED, length=2)
        for start, name in log.stages:
            axes.axvline(start, color=GRID, linewidth=1)
            axes.text(start, 1.0, f" {name}", transform=axes.get_xaxis_transform(), color=MUTED, size=8.5, va="bottom")
        axes.set_xlim(log.updates[0], max(log.updates[-1], log.updates[0] + 1))
        axes.set_xlabel("update")
        axes.set_ylabel("loss (normalised mean square)")
        lines = axes.get_lines()[1:]
        if log.forecast_updates.size:
            scores = axes.twinx()
            lines += scores.plot(
                log.forecast_updates, log.forecast_scores, color=colour("climatology"), linewidth=1.2, marker="s",
                markersize=4.5, label="validation forecasts (right)",
            )  # fmt: skip
            scores.set_ylim(0, max(1.0, 1.05 * float(np.nanmax(log.forecast_scores, initial=0))))
            scores.set_ylabel("RMSE / persistence's (1)")
        axes.legend(handles=[line for line in lines if not str(line.get_label()).startswith("_")], loc="upper right")
        return to_svg(figure, "Training and validation loss by update")


def legend(scores: Scores, names: Mapping[str, str] | None = None) -> list[tuple[str, str, str]]:
    """For each forecast its name, colour on the page and SVG dash pattern: one legend for all charts.

    `names` has other names for some of them.
    """
    entries = []
    for name in scores.forecasts:
        line = LINES[name]
        shown = (names or {}).get(name, forecast_name(name))
        entries.append((shown, line.colour, " ".join(f"{dash * line.width:g}" for dash in line.dashes)))
    return entries


def small_axes() -> tuple[Figure, Axes]:
    """A figure for one of three charts in a row, with one pair of axes."""
    return _axes()


def wide_axes() -> tuple[Figure, Axes]:
    """A figure as wide as the page with one pair of axes and room for a legend beside it."""
    return _axes((8.2, 2.9), right=1.9)


def _axes(size: tuple[float, float] = SIZE, right: float = 0.1) -> tuple[Figure, Axes]:
    """A figure with one pair of axes; margins in inches, as matplotlib's own layout takes as long as the drawing."""
    left, bottom, top = 0.6, 0.46, 0.27
    box = (left / size[0], bottom / size[1], 1 - (left + right) / size[0], 1 - (bottom + top) / size[1])
    figure = Figure(figsize=size)
    return figure, figure.add_axes(box)


def _line(axes: Axes, name: str, hours: np.ndarray, values: np.ndarray) -> None:
    line = LINES[name]
    style = (0, line.dashes) if line.dashes else "-"
    order = 3 if name == "emulator" else 2
    axes.plot(hours / 24, values, color=colour(line.colour), linestyle=style, linewidth=line.width, zorder=order)


def lead_axis(axes: Axes, hours: float) -> None:
    """Label the axis of lead times that go up to `hours`."""
    days = hours / 24
    axes.set_xlim(0, days)
    if days < 3:
        axes.set_xticks(np.arange(0, days * 24 + 1, 6 if days <= 1.5 else 12) / 24)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 24:g}"))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    axes.set_xlabel("lead time (hours)" if days < 3 else "lead time (days)")


def _minor_label(value: float, position: int | None) -> str:
    """The label between powers of ten: 2 and 5 only, or labels would touch."""
    return f"{value:g}" if value > 0 and f"{value:e}"[0] in "25" else ""
