"""Scoring: forecasts and baselines against the same truth, one initial time after the other, in one pass.

At any moment one initial time is in memory, with the truth and climatology of its valid times; what stays is the
`ScoreState` of each forecast. Truth that the next initial time needs too is not read twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from graphufs.errors import UserError
from graphufs.replay.times import text
from graphufs.weatherbench.averaging import SpatialMean
from graphufs.weatherbench.baselines import Baseline, Situation
from graphufs.weatherbench.layout import Forecasts
from graphufs.weatherbench.metrics import STATISTICS, Fields
from graphufs.weatherbench.state import Axes, ScoreState
from graphufs.weatherbench.truth import FrameWindow, Truth
from graphufs.weatherbench.weights import cell_weights

FORECAST = "emulator"
"""The name of the scored forecasts next to the baselines."""

BLOCK_POINTS = 2**17
"""Grid points evaluated together: with temporaries that fit the cache, 240x121 takes under half the time."""


class Normals(Protocol):
    """What is normal at a time: a climatology."""

    def read(self, stamps: np.ndarray) -> np.ndarray:
        """The fields at `stamps`, float32 [time, channel, lat, lon]."""


def spatial_means(truth: Truth, *, skipna: bool = False) -> list[SpatialMean]:
    """The area-weighted global mean of each channel, over the points where the channel has values."""
    by_mask: dict[bytes, SpatialMean] = {}
    means = []
    for mask in truth.mask:
        key = mask.tobytes()
        if key not in by_mask:
            if not mask.any():
                raise UserError("a channel of the truth has no value at any point: nothing to score there")
            weights = cell_weights(truth.grid.latitude, len(truth.grid.longitude), mask)
            by_mask[key] = SpatialMean(weights[None], skipna=skipna)
        means.append(by_mask[key])
    return means


def usable_initial_times(
    initial_times: np.ndarray, leads: np.ndarray, stamps: np.ndarray
) -> tuple[np.ndarray, dict[np.datetime64, np.datetime64]]:
    """The initial times with truth at the initial time and at all valid times.

    Returns
    -------
    tuple
        These initial times, ascending; and for each other one the first time at which the truth is missing.

    Raises
    ------
    UserError
        If there is no usable one.
    """
    offsets = np.concatenate([[np.timedelta64(0, "ns")], np.sort(leads)])
    usable, excluded = [], {}
    for time in np.sort(initial_times):
        missing = ~np.isin(time + offsets, stamps)
        if missing.any():
            excluded[time] = (time + offsets)[missing][0]
        else:
            usable.append(time)
    if not usable:
        reason = "".join(f": {text(time)}, say, lacks the truth at {text(at)}" for time, at in [*excluded.items()][:1])
        raise UserError(
            f"none of the {len(initial_times)} initial times can be scored{reason}. Prepare the data of the whole "
            "forecast period, or check that forecasts and truth lie on the same hours"
        )
    return np.array(usable, "datetime64[ns]"), excluded


def score(
    forecasts: Forecasts,
    truth: Truth,
    climatology: Normals,
    initial_times: np.ndarray,
    baselines: Mapping[str, Baseline],
    *,
    statistics: Sequence[str] = tuple(STATISTICS),
    skipna: bool = False,
    after_each: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, ScoreState]:
    """Score forecasts and baselines from the same initial times.

    Parameters
    ----------
    forecasts, truth, climatology
        All with the same channels, on the same grid.
    initial_times
        Which initial times; the truth must be complete for these (`usable_initial_times`).
    baselines
        The baselines by name.
    statistics
        Which statistics to keep.
    skipna
        Whether NaN in a field is left out of spatial means instead of making them NaN.
    after_each
        Called with the number of initial times done and of all.

    Returns
    -------
    dict
        The state of the forecasts, as `emulator`, and of each baseline.
    """
    axes = Axes(tuple(statistics), tuple(forecasts.leads), forecasts.channels, ("global",))
    names = [FORECAST, *baselines]
    states = {name: ScoreState(axes) for name in names}
    means = spatial_means(truth, skipna=skipna)
    window, order = FrameWindow(truth.read), np.sort(initial_times)
    for done, time in enumerate(order, 1):
        times = np.concatenate([[time], time + forecasts.leads])
        observed, normal = window.read(times), climatology.read(times)
        situation = Situation(observed[0], normal[0], normal[1:])
        for name in names:
            values = forecasts.read(time) if name == FORECAST else baselines[name](situation)
            states[name].update(time, average(values, observed[1:], normal[1:], axes, means))
        after_each(done, len(order))
    return states


def average(
    forecast: np.ndarray, truth: np.ndarray, climatology: np.ndarray, axes: Axes, means: Sequence[SpatialMean]
) -> np.ndarray:
    """Spatial means of the statistics of one initial time.

    Parameters
    ----------
    forecast, truth, climatology
        [lead, channel, lat, lon] at the same valid times.
    axes
        What to compute.
    means
        The spatial mean of each channel.

    Returns
    -------
    np.ndarray
        float64 [statistic, lead, channel, region].
    """
    averages = np.empty(axes.shape)
    leads = max(1, BLOCK_POINTS // (forecast.shape[-1] * forecast.shape[-2]))
    for channel, mean in enumerate(means):
        for start in range(0, len(forecast), leads):
            part = slice(start, start + leads)
            fields = Fields(forecast[part, channel], truth[part, channel], climatology[part, channel])
            for position, name in enumerate(axes.statistics):
                averages[position, part, channel] = mean(STATISTICS[name](fields))
    return averages
