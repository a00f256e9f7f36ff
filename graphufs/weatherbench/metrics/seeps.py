"""SEEPS, the stable equitable error in probability space of precipitation forecasts.

With the climatological probability p of dry weather at a point, truth and forecast fall in the categories dry, light
and heavy, and the score is the element (forecast, truth) of

    S = 1/2 [[0, 1/(1-p), 4/(1-p)], [1/p, 0, 3/(1-p)], [1/p + 3/(2+p), 3/(2+p), 0]]

(Rodwell et al. 2010, doi:10.1002/qj.656; weatherbench2/metrics.py, `SEEPS`; WeatherBench-X, categorical.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from graphufs.vocabulary.conventions import DEFAULT, Convention

DRY_FRACTIONS = (0.1, 0.85)
"""Where p lies outside, the score is not defined: there is too little or too much rain for three categories."""


def penalties(dry_fraction: np.ndarray, convention: Convention = DEFAULT) -> np.ndarray:
    """S by categories of forecast and truth and by point, float64 [4, 4, lat, lon], from p [lat, lon].

    The fourth category, "none", costs nothing. NaN at points where the score is not defined: the limits of p are the
    convention's.
    """
    p = np.asarray(dry_fraction, np.float64)
    low, high = DRY_FRACTIONS
    defined = (p >= low) & (p <= high) if convention == "WeatherBench-X" else (p > low) & (p < high)
    p = np.where(defined, p, np.nan)
    matrix = np.zeros((4, 4, *p.shape))
    matrix[0, 1], matrix[0, 2] = 1 / (1 - p), 4 / (1 - p)
    matrix[1, 0], matrix[1, 2] = 1 / p, 3 / (1 - p)
    matrix[2, 0], matrix[2, 1] = 1 / p + 3 / (2 + p), 3 / (2 + p)
    return np.where(defined, matrix / 2, np.nan)


@dataclass(frozen=True)
class SeepsThresholds:
    """What SEEPS needs to know of the climate at some valid times."""

    dry: float
    """The dry threshold in metres."""
    heavy: np.ndarray
    """The threshold of heavy precipitation in metres, [..., lat, lon]."""
    penalties: np.ndarray
    """[4, 4, lat, lon], from `penalties`."""
    convention: Convention = DEFAULT

    def part(self, leads: slice) -> SeepsThresholds:
        """Those of some of the valid times."""
        return replace(self, heavy=self.heavy[leads])

    def categories(self, amount: np.ndarray) -> np.ndarray:
        """0 dry, 1 light, 2 heavy, 3 none, of accumulations [..., lat, lon] in metres."""
        dry = amount <= self.dry if self.convention == "WeatherBench-X" else amount < self.dry
        light, heavy = (amount > self.dry) & (amount < self.heavy), amount >= self.heavy
        return np.select([dry, light, heavy], [0, 1, 2], 3)


def seeps(forecast: np.ndarray, truth: np.ndarray, thresholds: SeepsThresholds) -> np.ndarray:
    """The score at each point, float64 [..., lat, lon], of accumulations in metres at the thresholds' valid times.

    0 for a forecast in the right category; NaN where forecast or truth is NaN or the score is not defined.
    """
    rows, columns = np.indices(thresholds.penalties.shape[2:])
    found = thresholds.penalties[thresholds.categories(forecast), thresholds.categories(truth), rows, columns]
    return np.where(np.isnan(forecast) | np.isnan(truth), np.nan, found)
