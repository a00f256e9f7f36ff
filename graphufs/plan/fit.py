"""The largest number of samples a device can compute at once, found with few compilations.

Memory is close to linear in the samples. All of a device's share is tried first, as a training does. Where that does
not fit, one sample is tried, the line through both says what should, and that is compiled too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Fit:
    """What was found: `size` is None where not even one sample fits. `needed` are bytes by size, of all compiled."""

    size: int | None
    needed: dict[int, int] = field(default_factory=dict)
    extrapolated: int = 0
    """How many samples would fit if a device had more of a batch, along the line through what was compiled (through the
    origin, which is too few, where that was one size only)."""


def largest(share: int, available: int, needed_bytes: Callable[[int], int], *, most: int | None = None) -> Fit:
    """The largest divisor of a device's `share` of a batch, at most `most`, that needs no more than `available`.

    `needed_bytes` compiles for a number of samples and returns what a device needs.
    """
    sizes = [size for size in range(min(share, most or share), 0, -1) if share % size == 0]
    found = Fit(None)

    def fits(size: int) -> bool:
        if size not in found.needed:
            found.needed[size] = needed_bytes(size)
        return found.needed[size] <= available

    if fits(sizes[0]):
        found.size = sizes[0]
    elif fits(1):
        for size in sizes[1:]:
            if size == 1 or (_along(found.needed, size) <= available and fits(size)):
                found.size = size
                break
    low, high = min(found.needed), max(found.needed)
    if low == high:
        found.extrapolated = int(available * low / max(found.needed[low], 1))
    else:
        each = max((found.needed[high] - found.needed[low]) / (high - low), 1)
        found.extrapolated = max(0, int(low + (available - found.needed[low]) / each))
    return found


def _along(needed: dict[int, int], size: int) -> float:
    """The bytes that so many samples need, along the line through the smallest and the largest number compiled."""
    low, high = min(needed), max(needed)
    return needed[low] + (size - low) * (needed[high] - needed[low]) / (high - low)
