"""Moments: weight, mean and sum of squared deviations, which merge exactly like the data they came from.

Two parts a and b with weights W, means m and squared deviations S merge to W = Wa + Wb, m = ma + d Wb / W and
S = Sa + Sb + d^2 Wa Wb / W, where d = mb - ma (Chan, Golub and LeVeque 1983). The mean is kept as a reference value
plus an offset: for surface pressure, at 1e5 Pa, the rounding of a plain mean (1e-11 Pa) would enter d and spoil the
eleventh digit of small variances. So any split and any order of merging agree to 1e-12.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of several quantities (levels) at once: float64 [level] each."""

    weight: np.ndarray
    reference: np.ndarray
    """Any value near the mean that float32 can hold, so that two of them have an exact difference."""
    offset: np.ndarray
    """The mean less the reference."""
    squares: np.ndarray
    """Weighted sum of squared deviations from the mean."""

    @classmethod
    def from_shifted_sums(
        cls, weight: np.ndarray, first: np.ndarray, second: np.ndarray, reference: np.ndarray
    ) -> Self:
        """From the weighted sums of (x - reference) and (x - reference)^2."""
        some = weight > 0
        divisor = np.where(some, weight, 1.0)
        squares = np.maximum(second - first * first / divisor, 0.0)
        return cls(weight.copy(), np.where(some, reference, 0.0), first / divisor, squares)

    @property
    def mean(self) -> np.ndarray:
        """The mean [level], 0 where nothing was seen."""
        return self.reference + self.offset

    def merge(self, other: Moments) -> Moments:
        """The moments of both parts together."""
        weight = self.weight + other.weight
        divisor = np.where(weight > 0, weight, 1.0)
        mine = self.weight > 0
        reference = np.where(mine, self.reference, other.reference)
        offset = np.where(mine, self.offset, 0.0)
        apart = (other.reference - reference) + (other.offset - offset)
        return Moments(
            weight,
            reference,
            offset + apart * other.weight / divisor,
            self.squares + other.squares + apart * apart * self.weight * other.weight / divisor,
        )

    def part(self, levels: slice) -> Moments:
        """Some of the levels."""
        return Moments(self.weight[levels], self.reference[levels], self.offset[levels], self.squares[levels])

    def to_array(self) -> np.ndarray:
        """As one array, float64 [4, level]."""
        return np.stack([self.weight, self.reference, self.offset, self.squares])

    def finalize(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (population, ddof=0), float64 [level]; NaN where nothing was seen."""
        some = self.weight > 0
        divisor = np.where(some, self.weight, 1.0)
        return np.where(some, self.mean, np.nan), np.where(some, np.sqrt(self.squares / divisor), np.nan)


@dataclass(frozen=True, eq=False)
class FieldMoments:
    """Moments of a variable's values and of its differences over one time step."""

    values: Moments
    differences: Moments

    def merge(self, other: FieldMoments) -> FieldMoments:
        """Both parts together."""
        return FieldMoments(self.values.merge(other.values), self.differences.merge(other.differences))

    def part(self, levels: slice) -> FieldMoments:
        """Some of the levels."""
        return FieldMoments(self.values.part(levels), self.differences.part(levels))


State = dict[str, FieldMoments]
"""Moments by variable."""


def merge_states(one: State, other: State) -> State:
    """Merge two states variable by variable; a variable only one of them has is kept."""
    both = one.keys() & other.keys()
    return one | other | {name: one[name].merge(other[name]) for name in both}
