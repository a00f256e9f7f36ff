"""Fields pooled over boxes of points: a CRPS of these sees whether neighbouring points of a member go together."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numba
import numpy as np

from graphufs.grid.grid import Grid
from graphufs.vocabulary.conventions import EARTH_RADIUS
from graphufs.weatherbench.metrics.ensemble_metrics import Pooling
from graphufs.weatherbench.metrics.spatial_mean import SpatialMean

BOX_METRES = 1e6
"""About how long the sides of boxes are from north to south, and at the equator from west to east."""


class Boxes:
    """Boxes of neighbouring points of a grid; the last ones of a side may be smaller.

    `area` is what each point weighs in its box, float64 [lat, lon], 0 where it is in none; `weights` are those of the
    regions, float64 [region, lat, lon]. A box weighs in a region as much as its points do.
    """

    def __init__(self, grid: Grid, area: np.ndarray, weights: np.ndarray, *, skipna: bool = False) -> None:
        side = [
            max(2, round(BOX_METRES / (np.deg2rad(abs(float(np.median(np.diff(axis))))) * EARTH_RADIUS)))
            for axis in (grid.latitude, grid.longitude)
        ]
        self._starts = [np.arange(0, count, step) for count, step in zip(grid.shape, side, strict=True)]
        self._area, self._weights, self._skipna = area, weights, skipna

    def _sum(self, fields: np.ndarray) -> np.ndarray:
        rows, columns = self._starts
        return np.asarray(np.add.reduceat(np.add.reduceat(fields, columns, axis=-1), rows, axis=-2))

    @cached_property
    def mean(self) -> SpatialMean:
        """The means of pooled fields over regions."""
        return SpatialMean(self._sum(self._weights), skipna=self._skipna)

    @cached_property
    def _shares(self) -> np.ndarray:
        """The weight of each point in its box, float32 [lat, lon]; those of a box add up to 1, or to 0 if unused."""
        total = self._sum(self._area)
        for axis, (starts, count) in enumerate(zip(self._starts, self._area.shape, strict=True)):
            total = np.repeat(total, np.diff(np.append(starts, count)), axis=axis)
        return np.divide(self._area, total, out=np.zeros_like(total), where=total > 0).astype(np.float32)

    def __call__(self, fields: np.ndarray) -> dict[Pooling, np.ndarray]:
        """Fields pooled in each way, float32 [..., lat, lon] to [..., box, box].

        `mean` is that of the area, `max` the largest value; of a box without any area both are 0.
        """
        flat = fields.reshape(-1, *fields.shape[-2:])
        rows, columns = self._starts
        shape = len(flat), len(rows), len(columns)
        mean, largest = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        _pool(flat, self._shares, rows, columns, mean, largest)
        boxes = *fields.shape[:-2], *shape[1:]
        return {"mean": mean.reshape(boxes), "max": largest.reshape(boxes)}


@numba.njit(nogil=True, cache=True)
def _pool(fields: Any, shares: Any, rows: Any, columns: Any, mean: Any, largest: Any) -> None:
    """Fill mean and largest [field, box, box] from fields [field, lat, lon]; boxes begin at `rows` and `columns`."""
    nothing = np.float32(-np.inf)
    total, top = np.zeros(fields.shape[2], np.float32), np.zeros(fields.shape[2], np.float32)
    for number in range(fields.shape[0]):
        for across in range(rows.shape[0]):
            last_row = rows[across + 1] if across + 1 < rows.shape[0] else fields.shape[1]
            total[:] = np.float32(0)
            top[:] = nothing
            for row in range(rows[across], last_row):
                values, share = fields[number, row], shares[row]
                for i in range(fields.shape[2]):
                    total[i] += share[i] * values[i] if share[i] > 0 else np.float32(0)
                for i in range(fields.shape[2]):  # NaN stays: nothing is larger
                    value = values[i] if share[i] > 0 else nothing
                    top[i] = value if (value > top[i]) | (value != value) else top[i]
            for along in range(columns.shape[0]):
                last = columns[along + 1] if along + 1 < columns.shape[0] else fields.shape[2]
                together, best = np.float32(0), nothing
                for i in range(columns[along], last):
                    together += total[i]
                    best = top[i] if top[i] > best or top[i] != top[i] else best
                mean[number, across, along] = together
                largest[number, across, along] = np.float32(0) if best == nothing else best
