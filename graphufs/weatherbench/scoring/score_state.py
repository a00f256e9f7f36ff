"""The mergeable state of scores: spatial means of statistics, kept by initial time.

An initial time's averages never change once computed, so adding a night, a thread's share or another machine's share
of the initial times is a union, and the scores of a union are the scores of the whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from graphufs.errors import UserError
from graphufs.vocabulary.conventions import DEFAULT, Convention
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.metrics.ensemble_metrics import metrics_of
from graphufs.weatherbench.metrics.metrics import Averages, Metric, time_mean


@dataclass(frozen=True)
class Axes:
    """What the numbers of a state stand for."""

    statistics: tuple[str, ...]
    leads: tuple[np.timedelta64, ...]
    channels: tuple[Channel, ...]
    regions: tuple[str, ...]
    convention: Convention = DEFAULT
    """Whose regions, area weights and metrics."""
    skipna: bool = False
    """Whether NaN was left out of spatial means; the means over initial times then leave it out too."""

    @property
    def metrics(self) -> dict[str, Metric]:
        """The metrics that can be made of these statistics."""
        return metrics_of(self.statistics, self.convention)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape [statistic, lead, channel, region] of one initial time's averages."""
        return len(self.statistics), len(self.leads), len(self.channels), len(self.regions)


class ScoreState:
    """Spatial means of statistics by initial time, [statistic, lead, channel, region] each."""

    def __init__(self, axes: Axes) -> None:
        self.axes = axes
        self._averages: dict[np.datetime64, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._averages)

    @property
    def initial_times(self) -> np.ndarray:
        """The initial times, datetime64[ns], ascending."""
        return np.array(sorted(self._averages), "datetime64[ns]")

    def update(self, initial_time: np.datetime64, averages: np.ndarray) -> None:
        """Add an initial time's averages, float64 [statistic, lead, channel, region].

        Raises
        ------
        UserError
            If they have another shape, or the initial time is there already with other values.
        """
        time = initial_time.astype("datetime64[ns]")
        averages = np.asarray(averages, np.float64)
        if averages.shape != self.axes.shape:
            raise UserError(f"averages of shape {averages.shape} do not fit a state of shape {self.axes.shape}")
        known = self._averages.get(time)
        if known is not None and not np.array_equal(known, averages, equal_nan=True):
            raise UserError(
                f"the initial time {time.astype('datetime64[h]')} has been scored before with another result; score "
                "into a new state, or remove the old scores"
            )
        self._averages[time] = averages

    def merge(self, other: ScoreState) -> ScoreState:
        """The state of the initial times of both.

        Raises
        ------
        UserError
            If the two have other statistics, leads, channels, regions or conventions, or contradict each other.
        """
        require_same_axes(self.axes, other.axes)
        merged = ScoreState(self.axes)
        for state in (self, other):
            for time, averages in state._averages.items():
                merged.update(time, averages)
        return merged

    def copy(self) -> ScoreState:
        """The same state; what is added to one is not in the other."""
        same = ScoreState(self.axes)
        same._averages = dict(self._averages)
        return same

    def select(self, initial_times: Iterable[np.datetime64]) -> ScoreState:
        """The state of some of the initial times."""
        part = ScoreState(self.axes)
        for time in initial_times:
            part.update(time, self._averages[time.astype("datetime64[ns]")])
        return part

    def restricted(self, wanted: Mapping[str, Any]) -> ScoreState:
        """The state of some of the statistics, leads, channels and regions, tuples by these names, in their order."""
        part = ScoreState(replace(self.axes, **wanted))
        names = ("statistics", "leads", "channels", "regions")  # as they are in the averages
        at = np.ix_(*([getattr(self.axes, name).index(one) for one in wanted[name]] for name in names))
        for time, averages in self._averages.items():
            part.update(time, averages[at])
        return part

    def stacked(self) -> np.ndarray:
        """All averages, float64 [init, statistic, lead, channel, region], in the order of `initial_times`."""
        return np.array([self._averages[time] for time in self.initial_times]).reshape(-1, *self.axes.shape)

    def averages(self, statistics: Sequence[str] | None = None) -> Averages:
        """The averages by statistic, all or those named, each [init, lead, channel, region]."""
        times, found = self.initial_times, {}
        for name in self.axes.statistics if statistics is None else statistics:
            position = self.axes.statistics.index(name)
            stacked = np.array([self._averages[time][position] for time in times])
            found[name] = stacked.reshape(-1, *self.axes.shape[1:])
        return found

    def finalize(self, metrics: Sequence[str] | None = None, *, skipna: bool | None = None) -> dict[str, np.ndarray]:
        """The scores by metric, all that the statistics allow or those named, each float64 [lead, channel, region].

        Whatever the order of updates and merges was, the sums run in the order of the initial times. With `skipna`,
        initial times whose score is NaN are left out; where not given, that is as in the spatial means.

        Raises
        ------
        UserError
            If the state holds no initial time, or has no statistics of a metric.
        """
        if not len(self):
            raise UserError("no initial time has been scored: there is nothing to average")
        mean = time_mean(self.axes.skipna if skipna is None else skipna)
        # what a metric is made of only: of ensembles all statistics together are as large as the members
        return {
            name: metric.combine(self.averages(metric.statistics), mean)
            for name, metric in self._metrics(metrics).items()
        }

    def by_initial_time(self, metrics: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """The scores of each initial time alone, each float64 [init, lead, channel, region]."""
        return {
            name: metric.combine(self.averages(metric.statistics), np.asarray)
            for name, metric in self._metrics(metrics).items()
        }

    def _metrics(self, names: Sequence[str] | None) -> dict[str, Metric]:
        there = self.axes.metrics
        if lacking := [name for name in names or () if name not in there]:
            raise UserError(f"these scores cannot tell {', '.join(lacking)}, only {', '.join(there)}")
        return there if names is None else {name: there[name] for name in names}

    def checksum(self) -> str:
        """The SHA-256 of the initial times and averages, to find out a damaged copy."""
        digest = hashlib.sha256(self.initial_times.astype("<i8").tobytes())
        digest.update(self.stacked().astype("<f8").tobytes())
        return digest.hexdigest()

    def part_checksums(self, part: int) -> list[str]:
        """The checksums of each so many initial times, one after the other."""
        times = self.initial_times
        return [self.select(times[start : start + part]).checksum() for start in range(0, len(times), part)]


def checksum_of_parts(checksums: Sequence[str]) -> str:
    """The checksum of a state by those of its parts; of a single part it is that of the part."""
    return checksums[0] if len(checksums) == 1 else hashlib.sha256("".join(checksums).encode()).hexdigest()


def require_same_axes(one: Axes, other: Axes) -> None:
    """See that two states can be merged.

    Raises
    ------
    UserError
        If they have other statistics, leads, channels, regions or conventions.
    """
    if one != other:
        names = [field.name for field in fields(Axes)]
        differing = [name for name in names if getattr(one, name) != getattr(other, name)]
        raise UserError(f"scores can only be merged where they agree in {', '.join(differing)}; these do not")


def require_same_times(states: Mapping[str, ScoreState]) -> np.ndarray:
    """The initial times [time] all states share; forecasts are only comparable on the same ones.

    Raises
    ------
    UserError
        If the states differ in their initial times.
    """
    (first, reference), *others = states.items()
    for name, state in others:
        if not np.array_equal(state.initial_times, reference.initial_times):
            raise UserError(f"{name} and {first} were scored on different initial times and cannot be compared")
    return reference.initial_times
