"""The inner loop of scoring ensembles, compiled: weighted sums over regions of what members and truth say at a point.

A row of the grid is looked at once: its members are sorted by a network of comparisons, all columns together, and the
fields of `graphufs.weatherbench.metrics.ensemble` follow, which tells what they are. Sums over regions are those of
`graphufs.weatherbench.metrics.kernel`. Nothing here knows missing values, except that they are told.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np

from graphufs.weatherbench.metrics.ensemble import (
    FIXED,
    RANK,
    RPS,
    SKILL,
    SPREAD,
    SPREAD_BIASED,
    SQUARED,
    TIES,
    UNBIASED,
    VARIANCE,
    MemberRules,
    field_count,
    pairs_of,
)
from graphufs.weatherbench.metrics.kernel import Tiles

SUMMED = 7
"""Sums over points that the fields which are always there are made of; those of the energy score follow."""


class MemberSums(NamedTuple):
    """Weighted sums over regions."""

    fields: np.ndarray
    """float64 [field, lead, region]."""
    ranks: np.ndarray
    """The weight of each rank of the truth among the members, ties shared out, float64 [lead, region, member + 1]."""
    exceedance: np.ndarray
    """The weight of so many members above a threshold, by whether the truth was too.

    float64 [threshold, lead, region, member + 1, 2].
    """
    whole: np.ndarray
    """bool [lead]: False where a value is missing, so that nothing of the lead can be trusted."""


def member_sums(
    tiles: Tiles, members: np.ndarray, truth: np.ndarray, thresholds: np.ndarray, channel: int, rules: MemberRules
) -> MemberSums:
    """The sums of weight times field of one channel.

    `members` are float32 [lead, member, channel, lat, lon], `truth` is float32 [lead, channel, lat, lon], `thresholds`
    are float32 or float64 [lead, threshold, lat, lon]; all C-contiguous and writable.
    """
    leads, size = members.shape[:2]
    count, number = thresholds.shape[1], tiles.members.shape[1]
    shape = (leads, len(tiles.patterns), number)
    into = np.zeros((*shape, SUMMED + field_count(size, 0, rules) - FIXED))
    ranks = np.zeros((*shape, size + 1))
    table = np.zeros((leads, count, *shape[1:], size + 1, 2))
    whole = np.ones(leads, np.bool_)
    pairs = pairs_of(size, rules)
    lower, upper = _as_single(thresholds)
    _sums(
        members, truth, lower, upper, channel, tiles.labels, tiles.patterns, tiles.runs, sorting_network(size), pairs,
        rules.energy, rules.crps_only, into, ranks, table, whole,
    )  # fmt: skip
    own, pattern = tiles.members, tiles.pattern
    with np.errstate(invalid="ignore"):
        sums = np.einsum("lrtf,rt->flr", into[:, pattern], own)
        exceedance = np.einsum("lqrtke,rt->qlrke", table[:, :, pattern], own)
        ranked = np.einsum("lrtk,rt->lrk", ranks[:, pattern], own)
    fields = np.concatenate([_at_points(sums, size), _at_thresholds(exceedance), sums[SUMMED:]])
    return MemberSums(fields, ranked, exceedance, whole)


def _at_points(sums: np.ndarray, size: int) -> np.ndarray:
    """The sums of the first `FIXED` fields, [field, lead, region], of those that `_sums` makes."""
    several = max(size - 1, 1)
    fields = np.empty((FIXED, *sums.shape[1:]))
    fields[SKILL] = sums[0] / size
    fields[SPREAD] = sums[1] * (2 / (size * several))
    fields[SPREAD_BIASED] = (1 - 1 / size) * fields[SPREAD]
    fields[SQUARED], fields[VARIANCE] = sums[2], sums[3] / several
    fields[UNBIASED] = sums[2] - fields[VARIANCE] / size if size > 1 else np.nan
    fields[RPS] = sums[4] / size**2
    fields[[RANK, TIES]] = sums[5:SUMMED]
    return fields


def _as_single(thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The float32 values next below and next above, or equal: a float32 is above a threshold if it is above the former.

    It is below the threshold if it is below the latter. So no value need be widened to be compared.
    """
    if thresholds.dtype == np.float32:
        return thresholds, thresholds
    near = thresholds.astype(np.float32)
    with np.errstate(over="ignore"):
        lower = np.where(near > thresholds, np.nextafter(near, np.float32(-np.inf)), near)
        upper = np.where(near < thresholds, np.nextafter(near, np.float32(np.inf)), near)
    return lower, upper


def _at_thresholds(exceedance: np.ndarray) -> np.ndarray:
    """The sums of the fields at thresholds, [field, lead, region], which depend on the number of members above only."""
    size = exceedance.shape[-2] - 1
    if not len(exceedance):
        return np.zeros((0, *exceedance.shape[1:3]))
    above, event = np.arange(size + 1.0)[:, None], np.arange(2.0)
    chance = np.where(event == 1, above, size - above) / size
    brier = (1 - chance) ** 2
    variance = chance * (1 - chance) / (size - 1) if size > 1 else np.full_like(chance, np.nan)
    surprise = -np.log(np.where(chance > 0, chance, 1.0))
    of_count = np.stack([brier, brier - variance, surprise, (chance == 0).astype(np.float64)])
    found = np.einsum("qlrke,fke->qflr", exceedance, of_count)
    return found.reshape(-1, *found.shape[2:])


@cache
def sorting_network(size: int) -> np.ndarray:
    """Pairs to compare and swap, one after the other, that sort any `size` values, int64 [comparison, 2].

    Batcher's merge exchange (Knuth, The Art of Computer Programming 3, 5.2.2, algorithm M).
    """
    found = []
    top = p = 1 << max(0, (size - 1).bit_length() - 1)
    while p > 0:
        q, r, d = top, 0, p
        while True:
            found += [(i, i + d) for i in range(size - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q // 2, p
        p //= 2
    return np.array(found, np.int64).reshape(-1, 2)


@numba.njit(nogil=True, fastmath={"reassoc", "contract", "nsz"}, cache=True)
def _sums(
    members: Any, truth: Any, lower: Any, upper: Any, channel: int, labels: Any, patterns: Any, runs: Any, network: Any,
    pairs: Any, energy: bool, crps_only: bool, into: Any, ranks: Any, table: Any, whole: Any,
) -> None:  # fmt: skip
    """Add to into [lead, pattern, label, sum], ranks [.., rank] and table [lead, threshold, .., count, event].

    What is summed are, of the members in order, |x - y|, (2 k - M - 1) x, squared error of the mean, squared distances
    from the members' mean, squared differences of numbers below a threshold, rank and ties; then squared distances for
    the energy score. Differences of float32 values of about one size are exact, and sums over points are float64. So is
    what loses digits on the way, and |x - y|, which of one member is its absolute error to the last digit; all else is
    float32, of which a processor does twice as many at once.
    """
    size, columns, count = members.shape[1], labels.shape[1], lower.shape[1]
    fields, skill = np.zeros((into.shape[3], columns), np.float32), np.zeros(columns)
    squared, squares = np.zeros(columns), np.zeros(columns)
    x = np.zeros((size, columns), np.float32)
    total, mean, over = np.zeros(columns, np.float32), np.zeros(columns), np.zeros((count, columns), np.int32)
    under, low_rank, tied = np.zeros(columns, np.int32), np.zeros(columns, np.int32), np.zeros(columns, np.int32)
    # sums that follow each other go to different places, or each would wait for the one before
    parts, tables = np.zeros((4, size + 1)), np.zeros((4, size + 1, 2))
    first_distance, wanted = 7, 2 if crps_only else into.shape[3]
    for lead in range(members.shape[0]):
        run = 0
        for row in range(labels.shape[0]):
            if run == runs.shape[0] or runs[run, 0] != row:
                continue
            y, spread, base = truth[lead, channel, row], fields[1], x[0]
            skill[:] = 0.0
            spread[:] = np.float32(0.0)
            total[:] = np.float32(0.0)
            for member in range(size):
                values, copy = members[lead, member, channel, row], x[member]
                for i in range(columns):
                    copy[i] = values[i]
                    total[i] += values[i]
            if energy:
                for member in range(size):
                    values, found = x[member], fields[first_distance + member]
                    for i in range(columns):
                        distance = values[i] - y[i]
                        found[i] = distance * distance
                for pair in range(pairs.shape[0]):
                    one, other = x[pairs[pair, 0]], x[pairs[pair, 1]]
                    found = fields[first_distance + size + pair]
                    for i in range(columns):
                        distance = one[i] - other[i]
                        found[i] = distance * distance
            for step in range(network.shape[0]):
                low, high = x[network[step, 0]], x[network[step, 1]]
                for i in range(columns):
                    a, b = low[i], high[i]
                    low[i], high[i] = a if a < b else b, b if a < b else a
            # moments about a member lose no digits; loops over few arrays, or they are not vectorized
            for k in range(size):
                factor, value = np.float32(2 * k + 1 - size), x[k]
                for i in range(columns):
                    spread[i] += factor * (value[i] - base[i])
                for i in range(columns):
                    skill[i] += abs(np.float64(value[i]) - np.float64(y[i]))
            if not crps_only:
                mean[:] = 0.0
                squares[:] = 0.0
                low_rank[:] = 0
                tied[:] = 0
                for k in range(size):
                    value = x[k]
                    for i in range(columns):
                        departure = np.float64(value[i]) - np.float64(base[i])
                        mean[i] += departure
                        squares[i] += departure * departure
                    for i in range(columns):
                        low_rank[i] += 1 if value[i] < y[i] else 0
                    for i in range(columns):
                        tied[i] += 1 if value[i] == y[i] else 0
                scored, of_rank, of_ties = fields[4], fields[5], fields[6]
                for i in range(columns):
                    squares[i] -= mean[i] * mean[i] / size
                    error = np.float64(y[i]) - np.float64(total[i] / np.float32(size))
                    squared[i] = error * error
                for i in range(columns):
                    of_rank[i] = np.float32(low_rank[i])
                    of_ties[i] = np.float32(tied[i])
                    scored[i] = np.float32(0.0)
                for q in range(count):
                    low_limit, high_limit, more = lower[lead, q, row], upper[lead, q, row], over[q]
                    more[:] = 0
                    under[:] = 0
                    for k in range(size):
                        value = x[k]
                        for i in range(columns):
                            more[i] += 1 if value[i] > low_limit[i] else 0
                        for i in range(columns):
                            under[i] += 1 if value[i] < high_limit[i] else 0
                    for i in range(columns):
                        miss = np.float32(under[i] - (size if y[i] < high_limit[i] else 0))
                        scored[i] += miss * miss
            while run < runs.shape[0] and runs[run, 0] == row:
                first, last, label = runs[run, 1], runs[run, 2], runs[run, 3]
                run += 1
                missing = 0
                for i in range(first, last):  # of a missing member the sum is missing too
                    missing += 1 if (total[i] != total[i]) | (y[i] != y[i]) else 0
                if missing > 0:
                    whole[lead] = False
                for pattern in range(patterns.shape[0]):
                    weight, sums = patterns[pattern, row], into[lead, pattern, label]
                    part = 0.0
                    for i in range(first, last):
                        part += weight[i] * skill[i]
                    sums[0] += part
                    for field in range(1, wanted):
                        part, values = 0.0, fields[field]
                        for i in range(first, last):
                            part += weight[i] * np.float64(values[i])
                        sums[field] += part
                    if crps_only:
                        continue
                    of_mean, of_members = 0.0, 0.0
                    for i in range(first, last):
                        of_mean += weight[i] * squared[i]
                        of_members += weight[i] * squares[i]
                    sums[2] += of_mean
                    sums[3] += of_members
                    parts[:] = 0.0
                    for i in range(first, last):
                        if tied[i] == 0:
                            parts[i & 3, low_rank[i]] += weight[i]
                        else:
                            share = weight[i] / (tied[i] + 1)
                            for rank in range(low_rank[i], low_rank[i] + tied[i] + 1):
                                parts[i & 3, rank] += share
                    of_ranks = ranks[lead, pattern, label]
                    for part_of_four in range(4):
                        for rank in range(size + 1):
                            of_ranks[rank] += parts[part_of_four, rank]
                    for q in range(count):
                        low_limit, more, counted = lower[lead, q, row], over[q], table[lead, q, pattern, label]
                        tables[:] = 0.0
                        for i in range(first, last):
                            tables[i & 3, more[i], 1 if y[i] > low_limit[i] else 0] += weight[i]
                        for part_of_four in range(4):
                            for number in range(size + 1):
                                counted[number, 0] += tables[part_of_four, number, 0]
                                counted[number, 1] += tables[part_of_four, number, 1]
