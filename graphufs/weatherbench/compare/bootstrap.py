"""The stationary bootstrap: initial times are resampled in blocks, which keeps how far they resemble each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphufs.weatherbench.metrics.metrics import TimeMean

PER_DECADE = 30
"""Block lengths are rounded to this many steps per factor of ten: cells of about the same length share resamples."""


def block_length(series: np.ndarray) -> float:
    """The mean block length that suits a series [time], at least 1.

    The automatic choice of Politis & White (2004) as corrected by Patton, Politis & White (2009): autocovariances up
    to twice the lag m after which max(5, log10 T) autocorrelations in a row are insignificant, under a flat-top
    window, give the spectral density g0 at 0 and its curvature G; then b = (2 G^2 / D)^(1/3) T^(1/3), D = 2 g0^2.
    """
    times = len(series)
    deviation = series - series.mean()
    if not np.isfinite(deviation).all() or not deviation.any():
        return 1.0
    in_a_row = max(5, int(np.log10(times)))
    longest = min(int(np.ceil(np.sqrt(times))) + in_a_row, times - 2)
    lags = range(longest + 1)
    covariance = np.array([deviation[lag:] @ deviation[: times - lag] for lag in lags]) / times
    norms = [np.sqrt((deviation[lag + 1 :] ** 2).sum() * (deviation[: -(lag + 1)] ** 2).sum()) for lag in lags]
    with np.errstate(invalid="ignore", divide="ignore"):
        quiet = np.abs(covariance * times) / norms < 2 * np.sqrt(np.log10(times) / times)
    starts = [lag for lag in range(longest - in_a_row + 1) if quiet[lag : lag + in_a_row].all()]
    width = min(2 * max(starts[0], 1), longest) if starts else longest
    lag = np.arange(1, width + 1)
    window = np.where(lag / width <= 0.5, 1.0, 2 * (1 - lag / width))
    curvature = 2 * (window * lag * covariance[1 : width + 1]).sum()
    density = covariance[0] + 2 * (window * covariance[1 : width + 1]).sum()
    if density == 0:
        return 1.0
    length = (curvature**2 / density**2 * times) ** (1 / 3)
    return float(np.clip(length, 1.0, np.ceil(min(3 * np.sqrt(times), times / 3))))


def block_indices(times: int, length: float, replicates: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of resampled times, [replicate, time]: blocks of geometric length around the end of the series."""
    starts = rng.integers(times, size=(replicates, times))
    new = rng.random((replicates, times)) < 1 / length
    new[:, 0] = True
    position = np.arange(times)
    begun = np.maximum.accumulate(np.where(new, position, 0), axis=1)
    return (np.take_along_axis(starts, begun, axis=1) + position - begun) % times


def resampled(
    score: Callable[[TimeMean], np.ndarray], lengths: np.ndarray, times: int, replicates: int, seed: int
) -> np.ndarray:
    """A score evaluated on resamples of the initial times, float64 [replicate, ...].

    `score` gives the score [...] for a way to take the mean over initial times; `lengths` has the mean block length of
    each of its cells, [...]. The same seed gives the same resamples, so that scores of several forecasts are paired.
    """
    rounded = 10 ** (np.round(np.log10(lengths) * PER_DECADE) / PER_DECADE)
    values = np.empty((replicates, *lengths.shape))
    for length in np.unique(rounded):
        cells = rounded == length
        indices = block_indices(times, float(length), replicates, np.random.default_rng(seed))
        weights = np.zeros((replicates, times))
        np.add.at(weights, (np.arange(replicates)[:, None], indices), 1 / times)

        def mean(values: np.ndarray, weights: np.ndarray = weights, cells: np.ndarray = cells) -> np.ndarray:
            out = np.full((len(weights), *values.shape[1:]), np.nan)
            out[:, cells] = weights @ values[:, cells]
            return out

        values[:, cells] = score(mean)[:, cells]
    return values


def percentile_interval(values: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The interval between quantiles of resamples [replicate, ...], and the two-sided p-value of 0.

    The p-value is the largest level at which the interval would still reach 0.
    """
    low, high = np.quantile(values, [level / 2, 1 - level / 2], axis=0)
    ordered = np.sort(values, axis=0)
    share = np.linspace(0, 1, len(values))

    def below(series: np.ndarray) -> float:
        if np.isnan(series).any():
            return float("nan")
        # of several resamples that are exactly 0, as many as are kindest to chance count as below
        most, least = np.interp(0.0, series, share), 1 - np.interp(0.0, -series[::-1], share)
        return float(np.clip(0.5, least, most))

    cumulated = np.apply_along_axis(below, 0, ordered)
    return low, high, 2 * np.minimum(cumulated, 1 - cumulated)
