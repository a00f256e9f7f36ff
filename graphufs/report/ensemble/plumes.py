"""Plumes: what the members of one ensemble forecast say at a point by lead time, beside what came true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphufs.errors import UserError
from graphufs.grid.grid import Grid
from graphufs.report.charts import lead_axis, small_axes
from graphufs.report.svg import TEXT, colour, drawing, to_svg
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.inputs.forecasts import Forecasts
from graphufs.weatherbench.inputs.truth import Truth
from graphufs.weatherbench.results.scores import Scores

Point = tuple[float, float]
"""Latitude north and longitude east, in degrees."""


@dataclass(frozen=True)
class Plumes:
    """Members and truth of one initial time at the grid points that are nearest to those asked for."""

    channels: tuple[Channel, ...]
    initial_time: np.datetime64
    lead_hours: np.ndarray
    """float64 [lead], ascending."""
    points: tuple[Point, ...]
    """Where the grid points lie."""
    members: np.ndarray
    """float32 [point, lead, member, channel]."""
    truth: np.ndarray
    """float32 [point, lead, channel]."""


def plumes(forecasts: Forecasts, truth: Truth, time: np.datetime64, wanted: Sequence[Point]) -> Plumes:
    """The plumes of one initial time at the grid points nearest to `wanted`."""
    fields = forecasts.read_members(time)
    order = np.argsort(forecasts.leads)
    observed = truth.read(time + forecasts.offsets)[..., truth.grid.orientation(forecasts.grid, "the truth"), :]
    grid = forecasts.grid
    places = [nearest(grid, point) for point in wanted]
    return Plumes(
        forecasts.channels,
        time,
        forecasts.leads[order] / np.timedelta64(1, "h"),
        tuple((float(grid.latitude[row]), float(grid.longitude[column])) for row, column in places),
        np.stack([fields[order, :, :, row, column] for row, column in places]),
        np.stack([observed[order][:, :, row, column] for row, column in places]),
    )


def nearest(grid: Grid, point: Point) -> tuple[int, int]:
    """The row and column of the grid point nearest to a point; the longitude counts on any side of the date line.

    Raises
    ------
    UserError
        If the point is farther from the grid than its points are from each other.
    """
    latitude, longitude = point
    away = np.abs(grid.latitude - latitude), np.abs((grid.longitude - longitude + 180) % 360 - 180)
    row, column = (int(distance.argmin()) for distance in away)
    steps = (float(np.abs(np.diff(axis)).max()) for axis in (grid.latitude, grid.longitude))
    if any(distance[at] > step for distance, at, step in zip(away, (row, column), steps, strict=True)):
        raise UserError(
            f"the point {place(point)} lies outside the grid of the scores, {grid.description}; name one inside"
        )
    return row, column


def place(point: Point) -> str:
    """A point for people, such as 52.5° N 13.4° E."""
    latitude, longitude = point[0], (point[1] + 180) % 360 - 180
    north, east = "N" if latitude >= 0 else "S", "E" if longitude >= 0 else "W"
    return f"{abs(latitude):.4g}° {north} {abs(longitude):.4g}° {east}"


def plume_chart(scores: Scores, found: Plumes, point: int, position: int) -> str:
    """Members, their mean and the truth at one of the points by lead, as SVG; `position` is the channel's."""
    channel = found.channels[position]
    unit = scores.unit(channel)
    members = found.members[point, :, :, position].astype(np.float64) * unit.scale
    truth = found.truth[point, :, position] * unit.scale
    days = found.lead_hours / 24
    with drawing(f"plume {channel} {point}"):
        figure, axes = small_axes()
        axes.plot(days, members, color=colour("emulator"), linewidth=0.8, alpha=0.45)
        axes.plot(days, members.mean(axis=1), color=colour("emulator"), linewidth=2.2)
        axes.plot(days, truth, color=TEXT, linewidth=1.6, linestyle=(0, (5, 2)))
        lead_axis(axes, float(found.lead_hours.max()))
        # beside the axis there is no room: geopotential has five digits
        axes.set_title(scores.channel_name(channel) + (f" ({unit.name})" if unit.name else ""))
        what = (
            f"{scores.channel_name(channel)} of each member at {place(found.points[point])} by lead time, and the truth"
        )
        return to_svg(figure, what)
