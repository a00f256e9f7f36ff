"""What is read off histograms of ensembles: reliability, relative operating characteristic, central reliability.

With n(k, e) the share of cases in which k of M members were above a threshold and the truth was (e = 1) or not (e = 0),
an event is forecast at the level k where at least k members have it: the hit rate is sum_(j>=k) n(j, 1) / n(., 1), the
false alarm rate sum_(j>=k) n(j, 0) / n(., 0).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from graphufs.errors import UserError


class Reliability(NamedTuple):
    """A reliability diagram."""

    probability: np.ndarray
    """Forecast probabilities, float64 [member + 1]."""
    observed: np.ndarray
    """How often the event came true, float64 [..., member + 1]; NaN where the probability was never forecast."""
    frequency: np.ndarray
    """How often the probability was forecast, float64 [..., member + 1]."""


def reliability(exceedance: np.ndarray) -> Reliability:
    """The reliability diagram of shares [..., member + 1, 2]."""
    frequency = exceedance.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = exceedance[..., 1] / frequency
    members = exceedance.shape[-2] - 1
    return Reliability(np.arange(members + 1) / members, observed, frequency)


class Roc(NamedTuple):
    """A relative operating characteristic, from never to always forecasting the event."""

    hit_rate: np.ndarray
    """float64 [..., member + 2]."""
    false_alarm_rate: np.ndarray
    """float64 [..., member + 2]."""
    area: np.ndarray
    """The area below the curve, float64 [...]: 0.5 without skill, 1 if perfect; NaN where nothing can be told apart."""


def roc(exceedance: np.ndarray) -> Roc:
    """The relative operating characteristic of shares [..., member + 1, 2]."""
    at_least = np.cumsum(exceedance[..., ::-1, :], axis=-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = at_least / at_least[..., -1:, :]
    rates = np.concatenate([np.zeros_like(rates[..., :1, :]), rates], axis=-2)
    false, hit = rates[..., 0], rates[..., 1]
    return Roc(hit, false, np.trapezoid(hit, false, axis=-1))


def coarser(ranks: np.ndarray, bins: int) -> np.ndarray:
    """A rank histogram [..., member + 1] in fewer bins, [..., bin].

    Raises
    ------
    UserError
        If the number of bins does not divide that of ranks.
    """
    there = ranks.shape[-1]
    if bins < 1 or there % bins:
        raise UserError(f"a histogram of {there} ranks cannot have {bins} bins; take a divisor of {there}")
    return ranks.reshape(*ranks.shape[:-1], bins, there // bins).sum(axis=-1)


def central_reliability(ranks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How often the truth lies in the central bins of a rank histogram [..., bin], and how often it should.

    float64 [..., interval] and [interval], from the innermost interval to all of them (weatherbench2/metrics.py,
    `central_reliability`).

    Raises
    ------
    UserError
        If there are fewer than three bins.
    """
    bins = ranks.shape[-1]
    if bins < 3:
        raise UserError(f"a central interval needs at least three bins, there are {bins}: take more members")
    odd, half = bins % 2, bins // 2
    pairs = ranks[..., :half][..., ::-1] + ranks[..., half + odd :]
    width = np.full(half, 2.0)
    if odd:
        pairs = np.concatenate([ranks[..., half : half + 1], pairs], axis=-1)
        width = np.concatenate([[1.0], width])
    return np.cumsum(pairs, axis=-1), np.cumsum(width) / bins
