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

from graphufs.weatherbench.metrics.ensemble import FIXED, MemberRules, field_count, pairs_of
from graphufs.weatherbench.metrics.kernel import Tiles


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
    into = np.zeros((*shape, field_count(size, 0, rules)))
    ranks = np.zeros((*shape, size + 1))
    table = np.zeros((leads, count, *shape[1:], size + 1, 2))
    whole = np.ones(leads, np.bool_)
    pairs = pairs_of(size, rules)
    lower, upper = _as_single(thresholds)
    _sums(
        members, truth, lower, upper, channel, tiles.labels, tiles.patterns, tiles.runs, sorting_network(size), pairs,
        rules.energy, into, ranks, table, whole,
    )  # fmt: skip
    own, pattern = tiles.members, tiles.pattern
    with np.errstate(invalid="ignore"):
        fields = np.einsum("lrtf,rt->flr", into[:, pattern], own)
        exceedance = np.einsum("lqrtke,rt->qlrke", table[:, :, pattern], own)
        ranked = np.einsum("lrtk,rt->lrk", ranks[:, pattern], own)
    fields = np.concatenate([fields[:FIXED], _at_thresholds(exceedance), fields[FIXED:]])
    return MemberSums(fields, ranked, exceedance, whole)


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
    pairs: Any, energy: bool, into: Any, ranks: Any, table: Any, whole: Any,
) -> None:  # fmt: skip
    """Add to into [lead, pattern, label, field], ranks [.., rank] and table [lead, threshold, .., count, event]."""
    size, columns, count = members.shape[1], labels.shape[1], lower.shape[1]
    fields = np.zeros((into.shape[3], columns))
    x = np.zeros((size, columns), np.float32)
    total, mean, over = np.zeros(columns, np.float32), np.zeros(columns), np.zeros((count, columns), np.int32)
    under, low_rank, tied = np.zeros(columns, np.int32), np.zeros(columns, np.int32), np.zeros(columns, np.int32)
    several = max(size - 1, 1)
    first_distance = 9
    for lead in range(members.shape[0]):
        run = 0
        for row in range(labels.shape[0]):
            if run == runs.shape[0] or runs[run, 0] != row:
                continue
            y = truth[lead, channel, row]
            fields[:9] = 0.0
            total[:] = np.float32(0.0)
            for member in range(size):
                values, copy = members[lead, member, channel, row], x[member]
                for i in range(columns):
                    copy[i] = values[i]
                    total[i] += values[i]
            for i in range(columns):
                mean[i] = np.float64(total[i] / np.float32(size))
                error = np.float64(y[i]) - mean[i]
                fields[3, i] = error * error
            if energy:
                for member in range(size):
                    for i in range(columns):
                        distance = np.float64(x[member, i]) - np.float64(y[i])
                        fields[first_distance + member, i] = distance * distance
                for pair in range(pairs.shape[0]):
                    one, other = x[pairs[pair, 0]], x[pairs[pair, 1]]
                    for i in range(columns):
                        distance = np.float64(one[i]) - np.float64(other[i])
                        fields[first_distance + size + pair, i] = distance * distance
            for step in range(network.shape[0]):
                low, high = x[network[step, 0]], x[network[step, 1]]
                for i in range(columns):
                    a, b = low[i], high[i]
                    low[i], high[i] = a if a < b else b, b if a < b else a
            skill, spread, squares, first_value = fields[0], fields[1], fields[5], x[0]
            mean[:] = 0.0
            low_rank[:] = 0
            tied[:] = 0
            # moments about a member lose no digits; loops over few arrays, or they are not vectorized
            for k in range(size):
                factor, value = 2.0 * k + 1 - size, x[k]
                for i in range(columns):
                    distance = np.float64(value[i]) - np.float64(first_value[i])
                    mean[i] += distance
                    spread[i] += factor * distance
                for i in range(columns):
                    distance = np.float64(value[i]) - np.float64(first_value[i])
                    skill[i] += abs(np.float64(value[i]) - np.float64(y[i]))
                    squares[i] += distance * distance
                for i in range(columns):
                    low_rank[i] += 1 if value[i] < y[i] else 0
                for i in range(columns):
                    tied[i] += 1 if value[i] == y[i] else 0
            for i in range(columns):
                skill[i] /= size
                spread[i] *= 2.0 / (size * several)
                fields[2, i] = (1.0 - 1.0 / size) * spread[i]
                squares[i] = (squares[i] - mean[i] * mean[i] / size) / several
                fields[4, i] = fields[3, i] - squares[i] / size if size > 1 else np.nan
            for i in range(columns):
                fields[7, i] = low_rank[i]
                fields[8, i] = tied[i]
            scored = fields[6]
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
                    miss = under[i] / size - (1.0 if y[i] < high_limit[i] else 0.0)
                    scored[i] += miss * miss
            while run < runs.shape[0] and runs[run, 0] == row:
                first, last, label = runs[run, 1], runs[run, 2], runs[run, 3]
                run += 1
                for i in range(first, last):
                    # of a missing member the sum is missing too
                    whole[lead] = whole[lead] and not np.isnan(total[i]) and not np.isnan(y[i])
                for pattern in range(patterns.shape[0]):
                    weight, sums = patterns[pattern, row], into[lead, pattern, label]
                    for field in range(fields.shape[0]):
                        part, values = 0.0, fields[field]
                        for i in range(first, last):
                            part += weight[i] * values[i]
                        sums[field] += part
                    of_ranks = ranks[lead, pattern, label]
                    for i in range(first, last):
                        if tied[i] == 0:
                            of_ranks[low_rank[i]] += weight[i]
                        else:
                            share = weight[i] / (tied[i] + 1)
                            for rank in range(low_rank[i], low_rank[i] + tied[i] + 1):
                                of_ranks[rank] += share
                    for q in range(count):
                        low_limit, more, counted = lower[lead, q, row], over[q], table[lead, q, pattern, label]
                        for i in range(first, last):
                            counted[more[i], 1 if y[i] > low_limit[i] else 0] += weight[i]
