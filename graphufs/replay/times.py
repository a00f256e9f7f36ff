"""Stamps: the times of frames, as sorted numpy datetime64[ns] in UTC."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from graphufs.config.base import Period
    from graphufs.config.experiment import Experiment

NAMES_SHOWN = 5
"""How many stamps a message names before it only counts."""


def instant(time: datetime | np.datetime64 | str) -> np.datetime64:
    """A time as datetime64[ns]."""
    stamp: np.datetime64 = np.array([time], "datetime64[ns]")[0]
    return stamp


def hours(count: int) -> np.timedelta64:
    """A duration of so many hours as timedelta64[ns]."""
    return np.timedelta64(count, "h").astype("timedelta64[ns]")


def stamps_in(period: Period, time_step: int) -> np.ndarray:
    """The stamps [time] of a period: its start and every `time_step` hours from there, the end included if met."""
    start, end = instant(period.start), instant(period.end)
    return np.arange(start, end + np.timedelta64(1, "ns"), hours(time_step))


def wanted_stamps(experiment: Experiment) -> np.ndarray:
    """The union of the stamps of all periods the experiment needs, sorted, [time]."""
    step = experiment.data.time_step
    periods = [period for name, period in experiment.periods.items() if name != "forecast"]
    return union([stamps_in(period, step) for period in (*periods, *experiment.forecast_windows)])


def union(parts: Iterable[np.ndarray]) -> np.ndarray:
    """All stamps that are in any of the parts [time], once each, sorted."""
    collected = [np.asarray(part, "datetime64[ns]") for part in parts]
    return np.unique(np.concatenate(collected)) if collected else np.empty(0, "datetime64[ns]")


def text(stamp: np.datetime64) -> str:
    """The spelling of a stamp in files and messages: 1994-01-01T06."""
    return str(stamp.astype("datetime64[h]"))


def listing(stamps: Sequence[np.datetime64] | np.ndarray) -> str:
    """The first few stamps [time] by name, then how many more there are."""
    shown = ", ".join(text(stamp) for stamp in stamps[:NAMES_SHOWN])
    more = len(stamps) - NAMES_SHOWN
    return shown + (f" and {more} more" if more > 0 else "")


def to_runs(stamps: np.ndarray, time_step: int) -> list[list[str]]:
    """Sorted stamps as their unbroken runs, [first, last] each: what a manifest stores instead of every stamp."""
    stamps = np.asarray(stamps, "datetime64[ns]")
    if not stamps.size:
        return []
    breaks = np.flatnonzero(np.diff(stamps) != hours(time_step)) + 1
    return [[text(run[0]), text(run[-1])] for run in np.split(stamps, breaks)]


def from_runs(runs: Iterable[Sequence[str]], time_step: int) -> np.ndarray:
    """The stamps [time] of runs as `to_runs` wrote them."""
    step = hours(time_step)
    parts = [np.arange(instant(first), instant(last) + np.timedelta64(1, "ns"), step) for first, last in runs]
    return np.concatenate(parts) if parts else np.empty(0, "datetime64[ns]")


def by_month(stamps: np.ndarray) -> list[np.ndarray]:
    """Sorted stamps [time] cut into one array for each calendar month."""
    stamps = np.asarray(stamps, "datetime64[ns]")
    if not stamps.size:
        return []
    months = stamps.astype("datetime64[M]")
    return np.split(stamps, np.flatnonzero(np.diff(months).astype(int)) + 1)
