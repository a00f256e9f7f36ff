"""Maps: forecast, truth and error of one case at a few leads, as SVG with the fields as embedded images."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, Colormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from graphufs.grid.grid import Grid
from graphufs.report.svg import TEXT, drawing, to_svg
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.results.display import lead_name
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.scoring.diagnostics import Diagnostics
from graphufs.weatherbench.scoring.score import FORECAST

DEPARTURES = frozenset({"surface_pressure"})
"""Shown as departures from climatology: their fields show the mountains and hide the weather."""

DIVERGING = frozenset(
    {"u_component_of_wind", "v_component_of_wind", "10m_u_component_of_wind", "10m_v_component_of_wind"}
)
"""Shown in colours around zero."""

BANDS = 14
"""About how many colours a map has: bands read like contours, and compress well."""


@dataclass(frozen=True)
class Case:
    """A forecast and its truth at a few leads: [lead, channel, lat, lon] each."""

    channels: tuple[Channel, ...]
    initial_time: np.datetime64
    leads: list[np.timedelta64]
    forecast: np.ndarray
    truth: np.ndarray
    climatology: np.ndarray


def case_map(scores: Scores, case: Case, position: int, grid: Grid, land: np.ndarray | None) -> str:
    """Maps of the channel at a position in the case: a row for each lead, with the forecast, the truth and the error.

    `scores` gives names and units, `grid` is where the fields lie. The outline of the land fraction [lat, lon] is
    drawn.
    """
    channel = case.channels[position]
    unit = scores.unit(channel)
    forecast, truth = (part[:, position].astype(np.float64) * unit.scale for part in (case.forecast, case.truth))
    error = forecast - truth
    departure = channel.variable in DEPARTURES
    if departure:
        normal = case.climatology[:, position] * unit.scale
        forecast, truth = forecast - normal, truth - normal
    colours, norm = _scale(np.stack([forecast, truth]), centred=departure or channel.variable in DIVERGING)
    error_colours, error_norm = _scale(error, centred=True)
    what = f"{'departure from climatology, ' if departure else ''}{unit.name or 'no unit'}"
    with drawing(f"map {channel}"):
        figure, axes = _panels(len(case.leads))
        titles = ("Forecast", "Truth", "Error, forecast − truth")
        for row, lead in enumerate(case.leads):
            for column, field in enumerate((forecast[row], truth[row], error[row])):
                chosen = (error_colours, error_norm) if column == 2 else (colours, norm)
                _map(axes[row][column], field, grid, land, *chosen)
                axes[row][column].tick_params(labelleft=column == 0, labelbottom=row == len(case.leads) - 1)
                if row == 0:
                    axes[row][column].set_title(titles[column])
            axes[row][0].set_ylabel(f"after {lead_name(lead)}", color=TEXT, weight="bold", size=9.5)
        _colour_bar(figure, axes[-1][0], axes[-1][1], colours, norm, what)
        _colour_bar(figure, axes[-1][2], axes[-1][2], error_colours, error_norm, unit.name or "no unit")
        leads = ", ".join(lead_name(lead) for lead in case.leads)
        return to_svg(figure, f"Maps of {scores.channel_name(channel)}: forecast, truth and error after {leads}")


def error_maps(scores: Scores, diagnostics: Diagnostics, position: int, land: np.ndarray | None) -> str:
    """Maps of one channel's bias and RMSE over all initial times, a row a lead; coasts from `land` [lat, lon]."""
    channel, grid, leads = diagnostics.channels[position], diagnostics.grid, diagnostics.leads
    unit = scores.unit(channel)
    found = diagnostics.maps.scores(FORECAST)
    bias, rmse = (found[name][:, position] * unit.scale for name in ("bias", "rmse"))
    with drawing(f"errors {channel}"):
        figure, axes = _panels(len(leads), 2)
        for column, (title, fields, centred) in enumerate((("Bias", bias, True), ("RMSE", rmse, False))):
            chosen = _scale(fields, centred=centred)
            axes[0][column].set_title(title)
            for row, field in enumerate(fields):
                _map(axes[row][column], field, grid, land, *chosen)
                axes[row][column].tick_params(labelleft=column == 0, labelbottom=row == len(leads) - 1)
            _colour_bar(figure, axes[-1][column], axes[-1][column], *chosen, unit.name or "no unit")
        for row, lead in enumerate(leads):
            axes[row][0].set_ylabel(f"after {lead_name(lead)}", color=TEXT, weight="bold", size=9.5)
        after = ", ".join(lead_name(lead) for lead in leads)
        return to_svg(figure, f"Maps of the bias and RMSE of {scores.channel_name(channel)} after {after}")


def spread_maps(scores: Scores, diagnostics: Diagnostics, position: int, land: np.ndarray | None) -> str:
    """Maps of one channel's spread beside the error of the mean, in the same colours, a row a lead.

    The spread is sqrt((1 + 1/M) s^2), which a calibrated ensemble of M members has as large as the RMSE of its mean.
    The outline of the land fraction [lat, lon] is drawn.
    """
    channel, grid, leads = diagnostics.channels[position], diagnostics.grid, diagnostics.leads
    unit = scores.unit(channel)
    found = {name: values[:, position] for name, values in diagnostics.member_maps.scores(FORECAST).items()}
    biased, variance = found["ensemble_mean_mse"], found["ensemble_variance"]
    of_mean = biased - found["debiased_ensemble_mean_mse"]  # s^2 / M
    spread, error = np.sqrt(variance + of_mean) * unit.scale, np.sqrt(biased) * unit.scale
    chosen = _scale(np.stack([spread, error]), centred=False)
    with drawing(f"spread map {channel}"):
        figure, axes = _panels(len(leads), 2)
        for column, (title, fields) in enumerate((("Spread", spread), ("RMSE of the mean", error))):
            axes[0][column].set_title(title)
            for row, field in enumerate(fields):
                _map(axes[row][column], field, grid, land, *chosen)
                axes[row][column].tick_params(labelleft=column == 0, labelbottom=row == len(leads) - 1)
        _colour_bar(figure, axes[-1][0], axes[-1][1], *chosen, unit.name or "no unit")
        for row, lead in enumerate(leads):
            axes[row][0].set_ylabel(f"after {lead_name(lead)}", color=TEXT, weight="bold", size=9.5)
        after = ", ".join(lead_name(lead) for lead in leads)
        return to_svg(figure, f"Maps of the spread and of the error of {scores.channel_name(channel)} after {after}")


def _panels(rows: int, columns: int = 3) -> tuple[Figure, list[list[Axes]]]:
    """A figure with rows of maps twice as wide as high, room for labels left, and for colour bars below.

    Placed by hand, in inches: matplotlib's own layout takes as long as the drawing.
    """
    width, height, across, down = 2.72, 1.36, 0.2, 0.12
    left, right, top, bottom = 0.72, 0.08, 0.28, 0.82
    size = (left + columns * width + (columns - 1) * across + right, bottom + rows * height + (rows - 1) * down + top)
    figure = Figure(figsize=size)
    axes = [
        [
            figure.add_axes(
                (
                    (left + column * (width + across)) / size[0],
                    (bottom + (rows - 1 - row) * (height + down)) / size[1],
                    width / size[0],
                    height / size[1],
                )
            )
            for column in range(columns)
        ]
        for row in range(rows)
    ]
    return figure, axes


def _colour_bar(figure: Figure, first: Axes, last: Axes, colours: Colormap, norm: BoundaryNorm, label: str) -> None:
    """Draw a colour bar below the panels from `first` to `last`."""
    height = figure.get_size_inches()[1]
    start, end = first.get_position().x0, last.get_position().x1
    inset = (end - start) * 0.15
    place = figure.add_axes((start + inset, 0.44 / height, end - start - 2 * inset, 0.1 / height))
    ticks = _ticks(norm.boundaries, 5 if first is last else 9)
    mappable = matplotlib.cm.ScalarMappable(norm=norm, cmap=colours)
    bar = figure.colorbar(mappable, cax=place, orientation="horizontal", extend="both", ticks=ticks)
    bar.set_label(label)
    bar.outline.set_linewidth(0)
    place.grid(False)


def _scale(values: np.ndarray, *, centred: bool) -> tuple[Colormap, BoundaryNorm]:
    """Colours and bands that cover all but the extreme half percent at both ends."""
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [0.5, 99.5]) if finite.size else (-1.0, 1.0)
    if centred:
        high = max(abs(low), abs(high))
        low = -high
    if high - low <= 0:
        low, high = low - 0.5, high + 0.5
    bounds = MaxNLocator(nbins=BANDS, steps=[1, 2, 2.5, 5, 10], symmetric=centred).tick_values(low, high)
    colours = matplotlib.colormaps["RdBu_r" if centred else "viridis"].with_extremes(bad="#9a9a9a")
    return colours, BoundaryNorm(bounds, colours.N, extend="both")


def _ticks(bounds: np.ndarray, most: int) -> np.ndarray:
    """At most about `most` of the bounds, evenly, the middle one among them."""
    stride = -(-len(bounds) // most)
    return bounds[(len(bounds) // 2) % stride :: stride]


def _map(
    axes: Axes, field: np.ndarray, grid: Grid, land: np.ndarray | None, colours: Colormap, norm: BoundaryNorm
) -> None:
    edges = (_edges(grid.longitude), np.clip(_edges(grid.latitude), -90, 90))
    axes.pcolormesh(*edges, np.ma.masked_invalid(field), cmap=colours, norm=norm, rasterized=True)
    if land is not None and land.min() < 0.5 < land.max():
        axes.contour(grid.longitude, grid.latitude, land, levels=[0.5], colors="black", linewidths=0.6, alpha=0.75)
    axes.grid(False)
    axes.set_xlim(edges[0][0], edges[0][-1])
    axes.set_ylim(-90, 90)
    axes.set_xticks([0, 90, 180, 270], ["0°", "90°E", "180°", "90°W"])
    axes.set_yticks([-60, 0, 60], ["60°S", "0°", "60°N"])
    axes.tick_params(length=2)


def _edges(centres: np.ndarray) -> np.ndarray:
    """Cell edges midway between centres, the outer ones as far out as the next ones are in."""
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])
