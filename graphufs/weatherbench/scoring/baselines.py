"""Baselines: forecasts that need no model, from the truth at the initial time and the climatology.

A forecast deserves its name only where it beats all three: persistence, climatology, and the anomaly of the initial
time damped towards climatology, which is the best of them at most lead times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from graphufs.errors import UserError
from graphufs.weatherbench.inputs.truth import ClimatologyReader, FrameWindow, Truth
from graphufs.weatherbench.metrics.spatial_mean import SpatialMean


@dataclass(frozen=True)
class BaselineInputs:
    """What a baseline may know."""

    truth: np.ndarray
    """The truth at the initial time, [channel, lat, lon]."""
    initial_climatology: np.ndarray
    """The climatology at the initial time, [channel, lat, lon]."""
    climatology: np.ndarray
    """The climatology at the valid times, [lead, channel, lat, lon]."""
    valid: np.ndarray
    """The valid times, datetime64[ns] [lead]."""


Baseline = Callable[[BaselineInputs], np.ndarray]
"""From a baseline's inputs to forecasts [lead, channel, lat, lon], or an ensemble [lead, member, channel, lat, lon]."""


def persistence(inputs: BaselineInputs) -> np.ndarray:
    """The truth at the initial time, for all leads, [lead, channel, lat, lon]."""
    return np.broadcast_to(inputs.truth, inputs.climatology.shape)


def climatology(inputs: BaselineInputs) -> np.ndarray:
    """The climatology at the valid time, [lead, channel, lat, lon]."""
    return inputs.climatology


def damped_persistence(inputs: BaselineInputs, correlation: np.ndarray) -> np.ndarray:
    """The climatology at the valid time plus the initial anomaly times its lag correlation [lead, channel]."""
    anomaly = inputs.truth - inputs.initial_climatology
    return inputs.climatology + correlation.astype(np.float32)[:, :, None, None] * anomaly


class ProbabilisticClimatology:
    """What the truth was at the same hour and day of other years: an ensemble with each of `years` as a member.

    Day 366 is 1 January after a year without one, as WeatherBench-X has it, or, with `gaps`, missing, as WeatherBench2
    has it.

    Raises
    ------
    UserError
        If there is no year, or the truth has no fields of one at the time of one of `valid`, datetime64[ns] [...].
    """

    def __init__(self, truth: Truth, years: Sequence[int], valid: np.ndarray, *, gaps: bool) -> None:
        if not len(years):
            raise UserError("a probabilistic climatology needs truth of other years at the same days; there is none")
        self._window, self._gaps = FrameWindow(truth.read), gaps
        self._years = tuple(years)
        self._shape = (len(truth.channels), *truth.grid.shape)
        for year in years:
            times = in_year(valid.ravel(), year, gaps=gaps)
            if (lacking := np.setdiff1d(times[~np.isnat(times)], truth.stamps)).size:
                raise UserError(
                    f"the truth has no fields at {lacking[0].astype('datetime64[h]')}, which the probabilistic "
                    f"climatology of {years[0]} to {years[-1]} needs; name years that it has whole"
                )

    def __call__(self, inputs: BaselineInputs) -> np.ndarray:
        """The ensemble, float32 [lead, member, channel, lat, lon]."""
        times = np.stack([in_year(inputs.valid, year, gaps=self._gaps) for year in self._years], axis=1)
        there = ~np.isnat(times)
        found = np.full((*times.shape, *self._shape), np.nan, np.float32)
        found[there] = self._window.read(times[there])
        return found


def in_year(times: np.ndarray, year: int, *, gaps: bool) -> np.ndarray:
    """The same hours of the same days of another year, datetime64[ns] [...] as times; NaT where `gaps` has no 366th."""
    past = times - times.astype("datetime64[Y]").astype("datetime64[D]")
    first, last = (np.datetime64(f"{number}-01-01", "ns") for number in (year, year + 1))
    found = first + past
    return np.where(found >= last, np.datetime64("NaT", "ns"), found) if gaps else found


def other_years(truth: Truth, valid: np.ndarray, *, gaps: bool) -> list[int]:
    """The years of which the truth has all that `valid`, datetime64[ns] [...], needs, and that none of it lies in."""
    of = np.unique(truth.stamps.astype("datetime64[Y]").astype(int) + 1970)
    own = np.unique(valid.astype("datetime64[Y]").astype(int) + 1970)
    times = np.unique(valid)
    whole = []
    for year in np.setdiff1d(of, own).tolist():
        wanted = in_year(times, year, gaps=gaps)
        if np.isin(wanted[~np.isnat(wanted)], truth.stamps).all():
            whole.append(year)
    return whole


def baselines(correlation: np.ndarray) -> dict[str, Baseline]:
    """The baselines by name, given the lag correlation [lead, channel]."""
    return {
        "persistence": persistence,
        "climatology": climatology,
        "damped_persistence": partial(damped_persistence, correlation=correlation),
    }


def lag_correlation(
    truth: Truth,
    climatology: ClimatologyReader,
    stamps: np.ndarray,
    leads: np.ndarray,
    means: Sequence[SpatialMean],
    *,
    samples: int = 400,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """How far anomalies resemble those of some time before, float64 [lead, channel] within [0, 1].

    With a the anomaly from the climatology and <x> the global mean,

        r(L) = sum_t <a(t) a(t+L)> / sqrt(sum_t <a(t)^2> sum_t <a(t+L)^2>).

    A negative correlation is no reason to turn an anomaly over, and counts as 0, as where there is no pair of times.
    A climatology of few years holds some of their own anomalies, so that r comes out a little low (0.1 where it is
    0.43, for a single year of synthetic red noise). The baseline's RMSE hardly notices (1 % there).

    Both t and t+L are taken from `stamps`, from about so many `samples` of initial times, spread evenly and over all
    hours of the day. `means` has the spatial mean of each channel, of which the first region counts.
    """
    stamps = np.sort(np.asarray(stamps, "datetime64[ns]"))
    channels = len(truth.channels)
    product, early, late = (np.zeros((len(leads), channels)) for _ in range(3))
    window = FrameWindow(lambda wanted: truth.read(wanted) - climatology.read(wanted))
    starts = stamps[:: _stride(len(stamps), samples)]
    for done, start in enumerate(starts, 1):
        there = np.isin(start + leads, stamps)
        if there.any():
            anomalies = window.read(np.concatenate([[start], (start + leads)[there]]))
            first, later = anomalies[0], anomalies[1:]
            for channel, mean in enumerate(means):
                a, b = first[channel], later[:, channel]
                sums = [mean(a * b)[:, 0], mean(a * a)[0], mean(b * b)[:, 0]]
                if np.isfinite(np.hstack(sums)).all():
                    for total, value in zip((product, early, late), sums, strict=True):
                        total[there, channel] += value
        progress(done, len(starts))
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = product / np.sqrt(early * late)
    return np.clip(np.nan_to_num(correlation), 0.0, 1.0)


def _stride(count: int, samples: int) -> int:
    """A step that takes about `samples` of `count` and, being odd, is in phase with no even part of the day."""
    stride = max(1, count // samples)
    return stride if stride % 2 else stride + 1
