"""The explicit climatology: a mean for each hour of the day and day of the year, smoothed by a triangular window.

For the hour h and the day d it is the weighted mean of the fields of all years within half a window of d, counted
around the end of the year:

    c[h, d] = sum_{y, k} w_k x[y, h, d+k] / sum_{y, k} w_k,    w_k = 1 - |k| / (window // 2),

the explicit method of weatherbench2's compute_climatology.py. A year without a day 366 lends it its day 365. Sums and
counts are streamed by hour, so memory does not grow with the number of years.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from graphufs.errors import UserError
from graphufs.weatherbench.truth import Truth

DAYS = 366
BATCH = 16
"""Frames read at once."""
MEMORY = 256 * 2**20
"""Bytes the sums of one pass over the data may take; more channels mean more passes."""

Gaps = Literal["skip", "day365"]
"""What becomes of days without data and of NaN: `skip` leaves them out of sums and counts; `day365` puts the same
year's day 365 there, as WeatherBench2's script does. In complete years without NaN both are the same."""


def day_of_year(stamps: np.ndarray) -> np.ndarray:
    """The day of the year, 1 to 366, of datetime64 stamps."""
    days = np.asarray(stamps, "datetime64[D]")
    return (days - days.astype("datetime64[Y]")).astype(np.int64) + 1


def hour_of_day(stamps: np.ndarray) -> np.ndarray:
    """The hour of the day, 0 to 23, of datetime64 stamps."""
    stamps = np.asarray(stamps)
    return (stamps - stamps.astype("datetime64[D]")).astype("timedelta64[h]").astype(np.int64)


def triangular_sum(values: np.ndarray, half: int) -> np.ndarray:
    """Sums over a triangular window that wraps around: out[d] = sum_k (half - |k|) values[d + k], |k| < half.

    A triangle is a box convolved with itself, so two running sums do it whatever the width. `half` = 0 or 1 gives
    `values` back. Axis 0 is the day.
    """
    if half <= 1:
        return values.copy()

    def box(padded: np.ndarray) -> np.ndarray:
        running = np.cumsum(padded, axis=0)
        sums = running[half - 1 :].copy()
        sums[1:] -= running[:-half]
        return sums

    length = len(values)
    behind = box(values.take(np.arange(1 - half, length), axis=0, mode="wrap"))
    return box(behind.take(np.arange(length + half - 1), axis=0, mode="wrap"))


def explicit_climatology(
    truth: Truth,
    stamps: np.ndarray,
    write: Callable[[int, slice, np.ndarray], None],
    *,
    window: int = 61,
    gaps: Gaps = "skip",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the climatology of all channels of `truth`.

    Parameters
    ----------
    truth
        The fields.
    stamps
        The times to use; all must be in `truth`. Their years may be incomplete.
    write
        Takes the result part by part: the hour's position, the channels, and float32 [366, channel, lat, lon].
        NaN where a point has no value within the window.
    window
        Days, odd: the width of the triangle's base, whose ends have weight 0.
    gaps
        What becomes of missing days and NaN.
    progress
        Called with the number of frames read and of all that will be.

    Returns
    -------
    tuple
        The hours of the day, int [hour]; and where there were data within the window, bool [hour, 366]. A day
        without takes the mean of the nearest day that has one.

    Raises
    ------
    UserError
        If there are no stamps, or the window is even or wider than two years.
    """
    stamps = np.sort(np.asarray(stamps, "datetime64[ns]"))
    if stamps.size == 0:
        raise UserError("the climatology period holds no data; prepare it, or choose another evaluation.climatology")
    if window % 2 == 0 or not 1 <= window < 2 * DAYS:
        raise UserError(f"the climatology's window must be an odd number of days below {2 * DAYS}, got {window}")
    hours = np.unique(hour_of_day(stamps))
    points = len(truth.grid.latitude) * len(truth.grid.longitude)
    at_once = max(1, MEMORY // (points * DAYS * 8))
    blocks = [slice(i, min(i + at_once, len(truth.channels))) for i in range(0, len(truth.channels), at_once)]
    covered = np.empty((len(hours), DAYS), bool)
    done = 0

    def advance(frames: int) -> None:
        nonlocal done
        done += frames
        progress(done, len(stamps) * len(blocks))

    for position, hour in enumerate(hours):
        of_hour = stamps[hour_of_day(stamps) == hour]
        for block in blocks:
            mean, covered[position] = _smoothed_days(truth, of_hour, block, window // 2, gaps, advance)
            write(position, block, mean)
            del mean  # before the next sums take their place
    return hours, covered


def _smoothed_days(
    truth: Truth, stamps: np.ndarray, channels: slice, half: int, gaps: Gaps, advance: Callable[[int], None]
) -> tuple[np.ndarray, np.ndarray]:
    """The mean by day, float32 [366, channel, lat, lon], and where it has data, for the stamps of one hour."""
    sums = _DaySums(truth, channels)
    for year in np.unique(stamps.astype("datetime64[Y]")):
        of_year = stamps[stamps.astype("datetime64[Y]") == year]
        sums.add_year(of_year, gaps)
        advance(len(of_year))
    return sums.smoothed(half)


class _DaySums:
    """Sums and counts of fields by day of the year, for one hour of the day and some channels."""

    def __init__(self, truth: Truth, channels: slice) -> None:
        self._truth, self._channels = truth, channels
        grid = truth.grid
        count = len(range(*channels.indices(len(truth.channels))))
        self._sum = np.zeros((DAYS, count, len(grid.latitude), len(grid.longitude)))
        self._frames = np.zeros(DAYS, np.int64)
        self._missing: np.ndarray | None = None  # NaN by day and point, allocated at the first one

    def _read(self, stamps: np.ndarray) -> np.ndarray:
        return self._truth.read(stamps)[:, self._channels]

    def _add(self, day: int, frame: np.ndarray) -> None:
        self._frames[day - 1] += 1
        nan = np.isnan(frame)
        if nan.any():
            if self._missing is None:
                self._missing = np.zeros(self._sum.shape, np.int32)
            self._missing[day - 1] += nan
            frame = np.where(nan, 0, frame)
        self._sum[day - 1] += frame

    def add_year(self, stamps: np.ndarray, gaps: Gaps) -> None:
        """Add the frames of one year."""
        days = day_of_year(stamps)
        year = stamps[0].astype("datetime64[Y]")
        leap = (year + 1).astype("datetime64[D]") - year.astype("datetime64[D]") == np.timedelta64(DAYS, "D")
        fill: np.ndarray | None = None
        if gaps == "day365":
            fill = np.full(self._sum.shape[1:], np.nan, np.float32)
            if 365 in days:
                fill = self._read(stamps[days == 365])[0]
        for start in range(0, len(stamps), BATCH):
            part = slice(start, start + BATCH)
            for day, frame in zip(days[part], self._read(stamps[part]), strict=True):
                if fill is not None:
                    frame = np.where(np.isnan(frame), fill, frame)
                self._add(day, frame)
                if day == 365 and not leap and fill is None:
                    self._add(DAYS, frame)
        if fill is not None:
            for day in np.setdiff1d(np.arange(1, DAYS + 1), days):
                self._add(day, fill)

    def smoothed(self, half: int) -> tuple[np.ndarray, np.ndarray]:
        """The mean under the window, float32 [366, channel, lat, lon], and where it has data, bool [366]."""
        frames = triangular_sum(self._frames, half)
        covered = frames > 0
        mean = np.empty(self._sum.shape, np.float32)
        for row in np.ndindex(*self._sum.shape[1:3]):  # row by row, for the cache and for memory
            at = (slice(None), *row)
            sums = triangular_sum(self._sum[at], half)
            counts = frames[:, None]
            if self._missing is not None:
                counts = counts - triangular_sum(self._missing[at].astype(np.int64), half)
            with np.errstate(invalid="ignore", divide="ignore"):
                mean[at] = np.where(counts > 0, sums / counts, np.nan)
        return (mean if covered.all() else mean[_nearest(covered)]), covered


def _nearest(covered: np.ndarray) -> np.ndarray:
    """For each day the nearest covered one, around the end of the year; a covered day is its own."""
    days, sources = np.arange(len(covered)), np.flatnonzero(covered)
    distance = np.abs(days[:, None] - sources)
    return sources[np.minimum(distance, len(covered) - distance).argmin(axis=1)]
