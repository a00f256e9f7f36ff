"""Spatial means under weights, with WeatherBench2's rules for missing values."""

from __future__ import annotations

import numpy as np


class SpatialMean:
    """Weighted means over regions of the grid: <x>_R = sum(w_R x) / sum(w_R).

    A point of weight 0 has no influence, whatever its value. Of the other points, a NaN makes the mean NaN, or,
    with `skipna`, is left out of both sums (the mean is then NaN only where no point is left).

    Parameters
    ----------
    weights
        [region, lat, lon], at least 0, each region with a positive sum.
    skipna
        Whether to leave NaN out.
    """

    def __init__(self, weights: np.ndarray, *, skipna: bool = False) -> None:
        weights = np.asarray(weights, np.float64)
        self._weights = np.ascontiguousarray(weights.reshape(len(weights), -1).T)  # [point, region]
        self._sums = self._weights.sum(axis=0)
        self._used = np.any(self._weights > 0, axis=1)
        self.skipna = skipna

    @property
    def regions(self) -> int:
        """The number of regions."""
        return len(self._sums)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """The means, float64 [..., region], of `values` [..., lat, lon], summed in float64."""
        leading = values.shape[:-2]
        flat = values.reshape(-1, len(self._weights)).astype(np.float64)
        with np.errstate(invalid="ignore"):
            means = (flat @ self._weights) / self._sums
        # NaN and infinity anywhere spoil the product, at points of weight 0 too: look closer at such rows only.
        for row in np.flatnonzero(~np.isfinite(means).all(axis=1)):
            means[row] = self._careful(flat[row])
        return means.reshape(*leading, self.regions)

    def _careful(self, row: np.ndarray) -> np.ndarray:
        """The means, [region], of one row that holds NaN or infinity."""
        weights = self._weights
        missing = np.isnan(row)
        products = np.where(weights > 0, np.where(missing, 0.0, row)[:, None], 0.0) * weights
        with np.errstate(invalid="ignore", divide="ignore"):
            if self.skipna:
                return products.sum(axis=0) / (weights * ~missing[:, None]).sum(axis=0)
            means = products.sum(axis=0) / self._sums
        means[np.any(missing[:, None] & (weights > 0), axis=0)] = np.nan
        return means
