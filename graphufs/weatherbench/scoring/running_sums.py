"""Running sums: what metrics average, summed over the initial times so far, so that scores follow without these.

The sums run in the order in which initial times are added. Added in ascending order they give the very numbers that
`ScoreState.finalize` gives of all at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count

import numpy as np

from graphufs.weatherbench.metrics.metrics import Averages
from graphufs.weatherbench.scoring.score_state import Axes

COUNT = "count"
"""Ends the name of how many values a sum has, where NaN are left out."""


class RunningSums:
    """Sums of all that the metrics of some axes average, over `initial_times` initial times.

    `sums` has them by name, float64 [lead, channel, region]: the metric, and which of its means it is, from 0.
    """

    def __init__(self, axes: Axes, initial_times: int = 0, sums: Mapping[str, np.ndarray] | None = None) -> None:
        self.axes = axes
        self.initial_times = initial_times
        self.sums = dict(sums or {})

    def add(self, averages: Averages) -> RunningSums:
        """The sums with more initial times: averages by statistic, each [init, lead, channel, region]."""
        found: dict[str, np.ndarray] = {}
        for name, metric in self.axes.metrics.items():
            numbers = count()

            def total(values: np.ndarray, name: str = name, numbers: count[int] = numbers) -> np.ndarray:
                key = f"{name} {next(numbers)}"
                if self.axes.skipna:
                    there = ~np.isnan(values)
                    values = np.where(there, values, 0.0)
                    found[f"{key} {COUNT}"] = self._summed(f"{key} {COUNT}", there.astype(np.float64))
                found[key] = self._summed(key, values)
                return found[key]

            with np.errstate(all="ignore"):  # what a metric makes of sums is of no use
                metric.combine(averages, total)
        new = len(next(iter(averages.values())))
        return RunningSums(self.axes, self.initial_times + new, found)

    def _summed(self, key: str, values: np.ndarray) -> np.ndarray:
        if key in self.sums:  # one after the other, as numpy adds along the first axis
            values = np.concatenate([self.sums[key][None], values])
        return np.asarray(values.sum(axis=0))

    def finalize(self) -> dict[str, np.ndarray]:
        """The scores by metric, each float64 [lead, channel, region]."""
        anything = {name: np.zeros((1, *self.axes.shape[1:])) for name in self.axes.statistics}
        found = {}
        for name, metric in self.axes.metrics.items():
            numbers = count()

            def mean(_: np.ndarray, name: str = name, numbers: count[int] = numbers) -> np.ndarray:
                key = f"{name} {next(numbers)}"
                number = self.sums[f"{key} {COUNT}"] if self.axes.skipna else self.initial_times
                with np.errstate(invalid="ignore"):
                    return np.asarray(self.sums[key] / number)

            with np.errstate(invalid="ignore", divide="ignore"):
                found[name] = metric.combine(anything, mean)
        return found
