"""The inner loop of scoring, compiled: weighted sums of the pointwise statistics over all regions in one pass.

Regions overlap. The grid is cut into tiles, each in the same regions throughout, so that a point is looked at once
whatever the number of regions; sums over tiles are then added up. Land versions of regions weigh points in another way
and take one more look. What the statistics are is told by `graphufs.weatherbench.metrics.metrics`; here they stand a
second time, for speed.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

ORDER = (
    "error",
    "absolute_error",
    "squared_error",
    "forecast_anomaly",
    "truth_anomaly",
    "squared_forecast_anomaly",
    "squared_truth_anomaly",
    "anomaly_product",
)
"""The statistics in the order the loop knows them by."""


class Tiles:
    """A grid cut up for weighted sums over regions, whose weights are float64 [region, lat, lon], at least 0.

    `patterns` [pattern, lat, lon] are the weights that occur, `pattern` [region] says which are a region's; `labels`
    [lat, lon] has each point's tile, -1 without any weight, `runs` the same as stretches of rows, and `members`
    [region, tile] which tiles make up a region.
    """

    def __init__(self, weights: np.ndarray) -> None:
        patterns: list[np.ndarray] = []
        self.pattern = np.empty(len(weights), np.int64)
        for region, own in enumerate(weights):
            agree = [np.array_equal(own[both := (own > 0) & (known > 0)], known[both]) for known in patterns]
            number = agree.index(True) if any(agree) else len(patterns)
            patterns[number : number + 1] = [np.maximum(own, patterns[number]) if any(agree) else own]
            self.pattern[region] = number
        self.patterns = np.array(patterns)
        used = (weights > 0).any(axis=0)
        # what a pattern weighs with 0 may be inside or outside: taken in, coasts cut no tile of a land version
        inside = ((weights > 0) | _gaps(weights > 0) & (self.patterns[self.pattern] == 0)) & used
        codes, labels = np.unique(np.packbits(inside.reshape(len(weights), -1), axis=0), axis=1, return_inverse=True)
        self.members = np.unpackbits(codes, axis=0, count=len(weights)).astype(np.float64)  # [region, tile]
        self.labels = np.where(used, labels.reshape(used.shape), -1)
        self.runs = _runs(self.labels)

    def sums(self, forecast: np.ndarray, truth: np.ndarray, climatology: np.ndarray, channel: int) -> np.ndarray:
        """The sums of weight times statistic of one channel, all in float64 [`ORDER`, lead, region].

        The fields are float32 [lead, channel, lat, lon], C-contiguous and writable. Values at points without any weight
        do not matter. Of a lead with values that are not finite, any of the sums may be NaN.
        """
        tiles = np.zeros((len(self.patterns), len(forecast), self.members.shape[1], len(ORDER)))
        for pattern, into in zip(self.patterns, tiles, strict=True):
            _add(forecast, truth, climatology, channel, pattern, self.runs, into)
        with np.errstate(invalid="ignore"):
            return np.einsum("rlts,rt->slr", tiles[self.pattern], self.members)


def _gaps(inside: np.ndarray) -> np.ndarray:
    """Where a row of [region, lat, lon] is outside with something inside on both sides."""
    before = np.maximum.accumulate(inside, axis=-1)
    after = np.maximum.accumulate(inside[..., ::-1], axis=-1)[..., ::-1]
    return np.asarray(before & after & ~inside)


def _runs(labels: np.ndarray) -> np.ndarray:
    """Stretches of rows with one label that is not negative: int64 [run, (row, first, last, label)], last excluded."""
    found = []
    for row, values in enumerate(labels):
        starts = np.flatnonzero(np.diff(values, prepend=values[0] - 1))
        for first, last in zip(starts, [*starts[1:], len(values)], strict=True):
            if values[first] >= 0:
                found.append((row, first, last, values[first]))
    return np.array(found, np.int64).reshape(-1, 4)


@numba.njit(nogil=True, fastmath={"reassoc", "contract", "nsz"}, cache=True)
def _add(forecast: Any, truth: Any, climatology: Any, channel: int, weights: Any, runs: Any, into: Any) -> None:
    """Add weighted sums to into [lead, label, statistic]."""
    for lead in range(forecast.shape[0]):
        for run in range(runs.shape[0]):
            row, first, last, label = runs[run]
            f = forecast[lead, channel, row, first:last]
            o = truth[lead, channel, row, first:last]
            c = climatology[lead, channel, row, first:last]
            weight = weights[row, first:last]
            s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
            for i in range(last - first):
                w = weight[i]
                x, y, z = np.float64(f[i]), np.float64(o[i]), np.float64(c[i])
                error, forecast_anomaly, truth_anomaly = x - y, x - z, y - z
                s0 += w * error
                s1 += w * abs(error)
                s2 += w * (error * error)
                s3 += w * forecast_anomaly
                s4 += w * truth_anomaly
                s5 += w * (forecast_anomaly * forecast_anomaly)
                s6 += w * (truth_anomaly * truth_anomaly)
                s7 += w * (forecast_anomaly * truth_anomaly)
            total = into[lead, label]
            total[0] += s0
            total[1] += s1
            total[2] += s2
            total[3] += s3
            total[4] += s4
            total[5] += s5
            total[6] += s6
            total[7] += s7
