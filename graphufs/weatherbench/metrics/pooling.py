"""Fields pooled over boxes of points: a CRPS of these sees whether neighbouring points of a member go together."""

from __future__ import annotations

from functools import cached_property

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

    def __call__(self, fields: np.ndarray, how: Pooling) -> np.ndarray:
        """Pool fields, float32 [..., lat, lon] to [..., box, box]: their area-weighted mean, or their largest value."""
        used = self._shares > 0
        if how == "mean":
            return self._sum(np.where(used, fields, np.float32(0)) * self._shares)
        rows, columns = self._starts
        kept = np.where(used, fields, np.float32(-np.inf))
        found = np.maximum.reduceat(np.maximum.reduceat(kept, columns, axis=-1), rows, axis=-2)
        return np.where(np.isneginf(found), np.float32(0), found)
