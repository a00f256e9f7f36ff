"""What members and truth say at a point: CRPS, variance, rank, exceedance of thresholds, by formulas that know NaN.

For M members x_1 .. x_M and the truth y, with the skill A = mean_i |x_i - y| and the spread P, the mean |x_i - x_j|
over pairs of different members (Zamo & Naveau 2018, doi:10.1007/s11004-017-9709-7; Ferro 2014, doi:10.1002/qj.2270):

    fair CRPS = A - P/2,        biased CRPS = A - (1 - 1/M) P/2, that of the members' own step function.

`graphufs.weatherbench.metrics.ensemble_kernel` knows the same once more, for speed, where nothing is missing.

Missing values. With `skipna` a statistic is of the members that are there, and NaN where none is; otherwise one missing
member makes it NaN. So does a missing truth, but for spread and variance, which do not ask for it: with `skipna` they
do, unlike WeatherBench2's, as means of skill and spread would run over different points. As there, a missing value
exceeds no threshold and is below none in ignorance and ranked probability score, its rank is above all others, and
spread and variance of a single member are 0 though it is missing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from graphufs.weatherbench.inputs.members import single_mean

SKILL, SPREAD, SPREAD_BIASED, SQUARED, UNBIASED, VARIANCE, RPS, RANK, TIES = range(9)
"""Where the fields of a point stand that are there whatever the number of members and thresholds."""
FIXED = 9
PER_THRESHOLD = 4
"""For each threshold follow: Brier score, debiased Brier score, ignorance where finite, and where it is infinite."""


class MemberRules(NamedTuple):
    """What differs between conventions, and what is wanted."""

    skipna: bool = False
    nominal_size: bool = True
    """Whether unbiased scores divide by the number of all members (WeatherBench2) or of those that are there."""
    all_pairs: bool = False
    """Whether the energy score's spread is of all pairs of members, or of neighbours (WeatherBench2)."""
    energy: bool = True
    """Whether squared distances of members are wanted, for the energy score."""
    crps_only: bool = False
    """Whether skill and spread are all that is wanted: other fields may be 0, and histograms empty."""


def pairs_of(members: int, rules: MemberRules) -> np.ndarray:
    """The pairs of members whose distance counts in the energy score, int64 [pair, 2]."""
    if not rules.energy:
        return np.zeros((0, 2), np.int64)
    if rules.all_pairs:
        return np.stack(np.triu_indices(members, 1), axis=1).astype(np.int64)
    return np.stack([np.arange(members - 1), np.arange(1, members)], axis=1).astype(np.int64)


def field_count(members: int, thresholds: int, rules: MemberRules) -> int:
    """How many fields `fields_at` gives."""
    distances = members + len(pairs_of(members, rules)) if rules.energy else 0
    return FIXED + PER_THRESHOLD * thresholds + distances


def fields_at(members: np.ndarray, truth: np.ndarray, thresholds: np.ndarray, rules: MemberRules) -> np.ndarray:
    """All fields, float64 [field, ...].

    `members` are float32 [member, ...], `truth` is float32 [...], `thresholds` float64 [threshold, ...]. After the
    fields named above come, where `rules.energy`, the squared error of each member and the squared distance of each
    pair of `pairs_of`.
    """
    size = len(members)
    x, y = members.astype(np.float64), truth.astype(np.float64)
    there = ~np.isnan(x)
    n = there.sum(axis=0)
    usable_members = (n > 0) & ((n == size) | rules.skipna)
    usable = usable_members & ~np.isnan(y)
    found = np.full((field_count(size, len(thresholds), rules), *y.shape), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        several = np.where(n > 1, n, np.nan)
        found[SKILL] = np.where(there, np.abs(x - y), 0).sum(axis=0) / n
        rank = np.arange(1, size + 1).reshape(-1, *[1] * y.ndim)
        ordered = np.sort(x, axis=0)  # NaN last
        spread = np.where(rank <= n, (2 * rank - n - 1) * (ordered - ordered[0]), 0).sum(axis=0)
        found[SPREAD] = 2 * spread / (several * (several - 1))
        found[SPREAD_BIASED] = (1 - 1 / several) * found[SPREAD]
        error = y - single_mean(members, rules.skipna)
        found[SQUARED] = error**2
        mean = np.where(there, x, 0).sum(axis=0) / n
        found[VARIANCE] = np.where(there, (x - mean) ** 2, 0).sum(axis=0) / (several - 1)
        divisor = size if rules.nominal_size else n
        found[UNBIASED] = error**2 - found[VARIANCE] / divisor
        found[[SKILL, SQUARED, UNBIASED]] = np.where(usable, found[[SKILL, SQUARED, UNBIASED]], np.nan)
        of_members = [SPREAD, SPREAD_BIASED, VARIANCE]
        if size == 1:
            found[of_members] = 0.0
        if size > 1 or rules.skipna:
            found[of_members] = np.where(usable if rules.skipna else usable_members, found[of_members], np.nan)
        found[RANK] = np.where(np.isnan(y), n, (x < y).sum(axis=0))
        found[TIES] = (x == y).sum(axis=0)
        found[RPS] = 0.0
        for number, limit in enumerate(thresholds):
            over, event = (x > limit).sum(axis=0), y > limit
            found[RPS] += ((x < limit).mean(axis=0) - (y < limit)) ** 2
            chance = np.where(event, over, size - over) / size
            p, at = over / n, FIXED + PER_THRESHOLD * number
            brier = np.where(usable, (p - event) ** 2, np.nan)
            found[at] = brier
            found[at + 1] = brier - p * (1 - p) * several / (several - 1) / divisor
            found[at + 2], found[at + 3] = np.where(chance > 0, -np.log(chance), 0.0), chance == 0
        if rules.energy:
            at, pairs = FIXED + PER_THRESHOLD * len(thresholds), pairs_of(size, rules)
            found[at : at + size] = (x - y) ** 2
            found[at + size :] = (x[pairs[:, 0]] - x[pairs[:, 1]]) ** 2
    return found
