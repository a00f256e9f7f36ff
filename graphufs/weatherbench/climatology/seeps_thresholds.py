"""The climatology of precipitation that SEEPS needs: how often it is dry, and what is heavy.

For the hour h and the day d, over all years and the days within half a window of d around the end of the year:

- the dry fraction, the share of accumulations below the dry threshold, each counting the same;
- the heavy threshold, the 2/3 quantile of the others with the climatology's triangular weights,

as weatherbench2's compute_climatology.py defines them. The quantile is xarray's weighted one: between order
statistics, with the effective sample size (sum w)^2 / sum w^2 in place of their number (Akinshin 2023,
https://aakinshin.net/posts/weighted-quantiles/).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from graphufs.weatherbench.climatology.compute import (
    BATCH,
    DAYS,
    MEMORY,
    checked,
    day_of_year,
    has_day_366,
    hour_of_day,
    triangular_sum,
)
from graphufs.weatherbench.inputs.truth import Truth

HEAVY_QUANTILE = 2 / 3


def seeps_thresholds(
    truth: Truth,
    channel: int,
    dry: float,
    stamps: np.ndarray,
    write: Callable[[int, slice, np.ndarray, np.ndarray], None],
    *,
    window: int = 61,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Compute the heavy threshold and the dry fraction of one channel, precipitation in metres, as `dry` is.

    In `truth`, NaN counts as not dry and has no say in the threshold; a year without a day 366 lends it its day 365.
    `write` takes the result part by part: the hour's position, the rows of the grid, and the heavy threshold and the
    dry fraction, float32 [366, row, lon]; NaN where there is nothing to tell them from. `stamps`, `window` and
    `progress` are as in `climatology`.
    """
    stamps = checked(stamps, window)
    hours, half = np.unique(hour_of_day(stamps)), window // 2
    rows, columns = truth.grid.shape
    longest = max(int((hour_of_day(stamps) == hour).sum()) for hour in hours)
    at_once = min(rows, max(1, MEMORY // (4 * longest * columns)))
    blocks = [slice(first, min(first + at_once, rows)) for first in range(0, rows, at_once)]
    done = 0
    for position, hour in enumerate(hours):
        of_hour = stamps[hour_of_day(stamps) == hour]
        days = day_of_year(of_hour)
        lent = np.array([day == DAYS - 1 and not has_day_366(time) for day, time in zip(days, of_hour, strict=True)])
        for block in blocks:
            values = np.empty((len(of_hour), block.stop - block.start, columns), np.float32)
            for start in range(0, len(of_hour), BATCH):
                part = slice(start, start + BATCH)
                values[part] = truth.read(of_hour[part])[:, channel, block]
                done += len(of_hour[part])
                progress(done, len(stamps) * len(blocks))
            flat = np.concatenate([values, values[lent]]).reshape(len(of_hour) + int(lent.sum()), -1)
            of_day = np.concatenate([days, np.full(int(lent.sum()), DAYS)]) - 1
            shape = (DAYS, *values.shape[1:])
            heavy = _heavy(flat, of_day, dry, half).reshape(shape)
            write(position, block, heavy, _dry_fraction(flat, of_day, dry, half).reshape(shape))


def _dry_fraction(values: np.ndarray, days: np.ndarray, dry: float, half: int) -> np.ndarray:
    """The share of dry values within half a window, its ends included, float32 [366, point]."""
    is_dry = np.zeros((DAYS, values.shape[1]))
    np.add.at(is_dry, days, values < np.float32(dry))
    count = np.bincount(days, minlength=DAYS).astype(np.float64)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        return (_box_sum(is_dry, half) / _box_sum(count, half)).astype(np.float32)


def _box_sum(values: np.ndarray, half: int) -> np.ndarray:
    """Sums over days within `half`, around the end of the year."""
    padded = values.take(np.arange(-half - 1, len(values) + half), axis=0, mode="wrap")
    running = np.cumsum(padded, axis=0)
    return running[2 * half + 1 :] - running[: -2 * half - 1]


def _heavy(values: np.ndarray, days: np.ndarray, dry: float, half: int) -> np.ndarray:
    """The weighted quantile of what is not dry, float32 [366, point]."""
    offsets = np.arange(DAYS)
    distance = np.minimum(offsets, DAYS - offsets)
    weights = np.maximum(half - distance, 0).astype(np.float64) if half else (distance == 0).astype(np.float64)
    wet = (values >= np.float32(dry)).astype(np.float64)  # False for NaN
    by_day = np.zeros((DAYS, values.shape[1]))
    np.add.at(by_day, days, wet)
    total = triangular_sum(by_day, half)
    squares = np.fft.irfft(np.fft.rfft(by_day, axis=0) * np.fft.rfft(weights**2)[:, None], DAYS, axis=0)
    order = np.argsort(values, axis=0, kind="stable").astype(np.int32)
    found = np.empty((DAYS, values.shape[1]), np.float32)
    _quantiles(
        np.ascontiguousarray(values.T),
        np.ascontiguousarray(order.T),
        days,
        np.ascontiguousarray(wet.T),
        weights,
        np.ascontiguousarray(total.T),
        np.ascontiguousarray(squares.T),
        HEAVY_QUANTILE,
        found,
    )
    return found


@numba.njit(nogil=True, cache=True)
def _quantiles(
    values: Any, order: Any, days: Any, wet: Any, weights: Any, total: Any, squares: Any, quantile: float, out: Any
) -> None:
    """Fill out [day, point]; values, order, wet [point, time], days [time], weights [distance], sums [point, day]."""
    points, times = values.shape
    sorted_values = np.empty(times)
    sorted_days = np.empty(times, np.int64)
    for point in range(points):
        count = 0
        for rank in range(times):
            time = order[point, rank]
            if wet[point, time] > 0:
                sorted_values[count] = values[point, time]
                sorted_days[count] = days[time]
                count += 1
        for day in range(out.shape[0]):
            whole = total[point, day]
            if whole < 0.5:
                out[day, point] = np.nan
                continue
            size = whole * whole / squares[point, day]
            h = (size - 1) * quantile + 1
            low, high = (h - 1) / size * whole, h / size * whole
            cumulated, mean = 0.0, 0.0
            for rank in range(count):
                offset = sorted_days[rank] - day
                if offset < 0:
                    offset += weights.shape[0]
                before = cumulated
                cumulated += weights[offset]
                if cumulated > low:
                    mean += sorted_values[rank] * (min(cumulated, high) - max(before, low))
                    if cumulated >= high:
                        break
            out[day, point] = mean / whole * size
