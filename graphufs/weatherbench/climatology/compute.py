"""The climatology: mean and standard deviation for each hour of the day and day of the year, smoothed over the year.

The explicit method: for the hour h and the day d it is the weighted mean of the fields of all years within half a
window of d, counted around the end of the year:

    c[h, d] = sum_{y, k} w_k x[y, h, d+k] / sum_{y, k} w_k,    w_k = 1 - |k| / (window // 2),

and s[h, d] is the standard deviation about it with the same weights. A year without a day 366 lends it its day 365.
The fast method takes the mean and standard deviation over the years of each day alone and smooths these with w; a day
366 is then made of leap years only. Both are those of weatherbench2's compute_climatology.py. Sums and counts are
streamed by hour, so memory does not grow with the number of years, and either method takes the same time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from graphufs.errors import UserError
from graphufs.weatherbench.inputs.truth import Truth

DAYS = 366
BATCH = 16
"""Frames read at once."""
MEMORY = 256 * 2**20
"""Bytes the sums of one pass over the data may take; more channels mean more passes."""

Method = Literal["explicit", "fast"]

Gaps = Literal["skip", "day365"]
"""What becomes of days without data and of NaN: `skip` leaves them out of sums and counts; `day365` puts the same
year's day 365 there, as WeatherBench2's script does. In complete years without NaN both are the same."""


def day_of_year(stamps: np.ndarray) -> np.ndarray:
    """The day of the year, 1 to 366, of datetime64 stamps of any shape."""
    days = np.asarray(stamps, "datetime64[D]")
    return (days - days.astype("datetime64[Y]")).astype(np.int64) + 1


def hour_of_day(stamps: np.ndarray) -> np.ndarray:
    """The hour of the day, 0 to 23, of datetime64 stamps of any shape."""
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


def climatology(
    truth: Truth,
    stamps: np.ndarray,
    write: Callable[[int, slice, dict[str, np.ndarray]], None],
    *,
    window: int = 61,
    method: Method = "explicit",
    std: bool = False,
    gaps: Gaps = "skip",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the climatology of all channels of `truth`, and with `std` their standard deviation.

    The times to use, `stamps`, must all be in `truth`; their years may be incomplete. `write` takes the result part by
    part: the hour's position, the channels, and float32 [366, channel, lat, lon] by the ending of the variable's name:
    nothing for the mean, `_std` for the standard deviation; NaN where a point has no value within the window. `window`,
    in days, odd, is the width of the triangle's base, whose ends have weight 0; `gaps` counts with the explicit method
    alone. `progress` is called with the number of frames read and of all that will be.

    What is returned are the hours of the day, int [hour]; and where there were data within the window, bool [hour,
    366]. A day without takes the values of the nearest day that has them.

    Raises
    ------
    UserError
        If there are no stamps, or the window is even or wider than two years.
    """
    stamps = checked(stamps, window)
    hours = np.unique(hour_of_day(stamps))
    points = len(truth.grid.latitude) * len(truth.grid.longitude)
    at_once = max(1, MEMORY // (points * DAYS * (16 if std else 8)))
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
            sums = _DaySums(truth, block, method, std)
            for year in np.unique(of_hour.astype("datetime64[Y]")):
                of_year = of_hour[of_hour.astype("datetime64[Y]") == year]
                sums.add_year(of_year, gaps)
                advance(len(of_year))
            part, covered[position] = sums.smoothed(window // 2)
            del sums  # before the next ones take their place
            write(position, block, part)
    return hours, covered


def checked(stamps: np.ndarray, window: int) -> np.ndarray:
    """The stamps [time], ascending.

    Raises
    ------
    UserError
        If there are none, or the window is even or wider than two years.
    """
    stamps = np.sort(np.asarray(stamps, "datetime64[ns]"))
    if stamps.size == 0:
        raise UserError("the climatology period holds no data; prepare it, or choose another evaluation.climatology")
    if window % 2 == 0 or not 1 <= window < 2 * DAYS:
        raise UserError(f"the climatology's window must be an odd number of days below {2 * DAYS}, got {window}")
    return stamps


def has_day_366(year: np.datetime64) -> bool:
    """Whether a year is a leap year."""
    first = year.astype("datetime64[Y]")
    return bool((first + 1).astype("datetime64[D]") - first.astype("datetime64[D]") == np.timedelta64(DAYS, "D"))


class _DaySums:
    """Sums and counts of fields by day of the year, for one hour of the day and some channels."""

    def __init__(self, truth: Truth, channels: slice, method: Method, std: bool) -> None:
        self._truth, self._channels, self._method = truth, channels, method
        grid = truth.grid
        count = len(range(*channels.indices(len(truth.channels))))
        self._sum = np.zeros((DAYS, count, len(grid.latitude), len(grid.longitude)))
        self._squares = np.zeros(self._sum.shape) if std else None
        # squares are summed of deviations from some field of the same kind, or they would lose their digits
        self._origin: np.ndarray | None = None
        self._frames = np.zeros(DAYS, np.int64)
        self._missing: np.ndarray | None = None  # NaN by day and point, allocated at the first one

    def _read(self, stamps: np.ndarray) -> np.ndarray:
        return self._truth.read(stamps)[:, self._channels]

    def _add(self, day: int, frame: np.ndarray) -> None:
        self._frames[day - 1] += 1
        nan = np.isnan(frame)
        flawed = bool(nan.any())
        if flawed:
            if self._missing is None:
                self._missing = np.zeros(self._sum.shape, np.int32)
            self._missing[day - 1] += nan
        if self._squares is not None:
            if self._origin is None:
                self._origin = np.nan_to_num(frame.astype(np.float64))
            deviation = frame - self._origin
            self._squares[day - 1] += np.where(nan, 0, deviation**2) if flawed else deviation**2
        self._sum[day - 1] += np.where(nan, 0, frame) if flawed else frame

    def add_year(self, stamps: np.ndarray, gaps: Gaps) -> None:
        """Add the frames of one year."""
        days = day_of_year(stamps)
        explicit = self._method == "explicit"
        lend = explicit and not has_day_366(stamps[0])
        fill: np.ndarray | None = None
        if gaps == "day365" and explicit:
            fill = np.full(self._sum.shape[1:], np.nan, np.float32)
            if 365 in days:
                fill = self._read(stamps[days == 365])[0]
        for start in range(0, len(stamps), BATCH):
            part = slice(start, start + BATCH)
            for day, frame in zip(days[part], self._read(stamps[part]), strict=True):
                if fill is not None:
                    frame = np.where(np.isnan(frame), fill, frame)
                self._add(day, frame)
                if day == 365 and lend and fill is None:
                    self._add(DAYS, frame)
        if fill is not None:
            for day in np.setdiff1d(np.arange(1, DAYS + 1), days):
                self._add(day, fill)

    def smoothed(self, half: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """By ending of the name float32 [366, channel, lat, lon]; and where there are data, bool [366]."""
        covered = triangular_sum(self._frames, half) > 0
        endings = [""] if self._squares is None else ["", "_std"]
        found = {ending: np.empty(self._sum.shape, np.float32) for ending in endings}
        for row in np.ndindex(*self._sum.shape[1:3]):  # row by row, for the cache and for memory
            for ending, values in zip(endings, self._row(row, half), strict=True):
                found[ending][(slice(None), *row)] = values
        if not covered.all():
            found = {ending: values[_nearest(covered)] for ending, values in found.items()}
        return found, covered

    def _row(self, row: tuple[int, ...], half: int) -> list[np.ndarray]:
        """The mean, and the standard deviation if wanted, of one channel and latitude, each [366, lon]."""
        at: tuple[Any, ...] = (slice(None), *row)
        counts = np.repeat(self._frames[:, None], self._sum.shape[-1], axis=1)
        if self._missing is not None:
            counts = counts - self._missing[at]
        sums = [self._sum[at]] + ([] if self._squares is None else [self._squares[at]])
        if self._method == "explicit":
            counts, sums = triangular_sum(counts, half), [triangular_sum(one, half) for one in sums]
        with np.errstate(invalid="ignore", divide="ignore"):
            means = [np.where(counts > 0, one / counts, np.nan) for one in sums]
            if self._origin is not None and len(means) > 1:
                means[1] = np.sqrt(np.maximum(means[1] - (means[0] - self._origin[row]) ** 2, 0.0))
            if self._method == "fast":
                norm = triangular_sum((counts > 0).astype(np.float64), half)
                means = [triangular_sum(np.where(counts > 0, one, 0.0), half) / norm for one in means]
        return means


def _nearest(covered: np.ndarray) -> np.ndarray:
    """For each day the nearest covered one, around the end of the year; a covered day is its own."""
    days, sources = np.arange(len(covered)), np.flatnonzero(covered)
    distance = np.abs(days[:, None] - sources)
    return sources[np.minimum(distance, len(covered) - distance).argmin(axis=1)]
