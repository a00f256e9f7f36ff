"""Moments: weight, mean and sum of squared deviations, which merge exactly like the data they came from.

Two parts a and b with weights W, means m and squared deviations S merge to W = Wa + Wb, m = ma + d Wb / W and
S = Sa + Sb + d^2 Wa Wb / W, where d = mb - ma (Chan, Golub and LeVeque 1983). No large numbers cancel, so surface
pressure is as exact as anything else, and any split and order of merging agree to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Moments of several quantities (levels) at once: float64 [level] each."""

    weight: np.ndarray
    mean: np.ndarray
    squares: np.ndarray
    """Weighted sum of squared deviations from the mean."""

    @classmethod
    def empty(cls, levels: int) -> Self:
        """Nothing seen yet: what every sum starts from."""
        return cls(*(np.zeros(levels) for _ in range(3)))

    @classmethod
    def from_shifted_sums(cls, weight: np.ndarray, first: np.ndarray, second: np.ndarray, shift: np.ndarray) -> Self:
        """From the weighted sums of (x - shift) and (x - shift)^2, with `shift` near the mean."""
        some = weight > 0
        divisor = np.where(some, weight, 1.0)
        mean = np.where(some, shift + first / divisor, 0.0)
        squares = np.where(some, np.maximum(second - first * first / divisor, 0.0), 0.0)
        return cls(np.asarray(weight, np.float64), mean, squares)

    def merge(self, other: Moments) -> Moments:
        """The moments of both parts together."""
        weight = self.weight + other.weight
        divisor = np.where(weight > 0, weight, 1.0)
        apart = other.mean - self.mean
        return Moments(
            weight,
            self.mean + apart * other.weight / divisor,
            self.squares + other.squares + apart * apart * self.weight * other.weight / divisor,
        )

    def finalize(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (population, ddof=0), float64 [level]; NaN where nothing was seen."""
        some = self.weight > 0
        divisor = np.where(some, self.weight, 1.0)
        mean = np.where(some, self.mean, np.nan)
        return mean, np.where(some, np.sqrt(self.squares / divisor), np.nan)


@dataclass(frozen=True)
class FieldMoments:
    """Moments of a variable's values and of its differences over one time step."""

    values: Moments
    differences: Moments

    @classmethod
    def empty(cls, levels: int) -> Self:
        """Nothing seen yet."""
        return cls(Moments.empty(levels), Moments.empty(levels))

    def merge(self, other: FieldMoments) -> FieldMoments:
        """Both parts together."""
        return FieldMoments(self.values.merge(other.values), self.differences.merge(other.differences))


State = dict[str, FieldMoments]
"""Moments by variable."""


def merge_states(one: State, other: State) -> State:
    """Merge two states variable by variable; a variable only one of them has is kept."""
    both = one.keys() & other.keys()
    return one | other | {name: one[name].merge(other[name]) for name in both}
