"""Scores of forecasts that are a normal distribution at each point, given by its mean and standard deviation.

With z = (m - y)/s, Phi and phi the standard normal distribution and density (Gneiting et al. 2005,
doi:10.1175/MWR2904.1):

    CRPS(N(m, s^2), y) = s (z (2 Phi(z) - 1) + 2 phi(z) - 1/sqrt(pi))
"""

from __future__ import annotations

import numpy as np
from scipy import special

from graphufs.weatherbench.metrics.ensemble_metrics import at_quantile


def gaussian_crps(mean: np.ndarray, deviation: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The CRPS of normal distributions at each point, float64 [...]; |mean - truth| where the deviation is 0."""
    m, s, y = (values.astype(np.float64) for values in (mean, deviation, truth))
    with np.errstate(invalid="ignore", divide="ignore"):
        z = (m - y) / s
        density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
        found = s * (z * (2 * special.ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))
    return np.where(s == 0, np.abs(m - y), found)


def gaussian_fields(
    mean: np.ndarray, deviation: np.ndarray, truth: np.ndarray, thresholds: np.ndarray, quantiles: tuple[float, ...]
) -> dict[str, np.ndarray]:
    """The statistics at each point by name, float64 [...] like mean, deviation and truth.

    `thresholds` are float64 [threshold, ...], one for each of `quantiles`. As in WeatherBench2, a missing truth exceeds
    no threshold.
    """
    found = {
        "gaussian_crps": gaussian_crps(mean, deviation, truth),
        "gaussian_variance": deviation.astype(np.float64) ** 2,
    }
    if quantiles:
        found["rps"] = np.zeros(truth.shape)
    for quantile, limit in zip(quantiles, thresholds, strict=True):
        with np.errstate(invalid="ignore", divide="ignore"):
            below = special.ndtr((limit - mean) / deviation.astype(np.float64))
            above, event = 1 - below, truth > limit
            found[at_quantile("brier_score", quantile)] = (above - event) ** 2
            found[at_quantile("ignorance_score", quantile)] = -np.log(np.where(event, above, below))
            found["rps"] += (below - (truth < limit)) ** 2
    return found
