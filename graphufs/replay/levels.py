"""Which native levels of a store stand for the wanted ones.

Replay's 127 levels are hybrid layers; "500 hPa" means the layer whose reference pressure is nearest, 505.652 hPa.
Stores hold `pfull` as float32, copies as float64 or rounded to four decimals: the same level in all three.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from graphufs.errors import UserError

NEAREST_WITHIN = 0.1
"""`nearest` accepts a native level within this fraction of the wanted value."""

ROUNDING = 5.1e-5
"""Two values this close are one level, written out with four decimals in one of the stores [hPa or m]."""


def same_level(one: np.ndarray | float, other: np.ndarray | float) -> np.ndarray:
    """Whether levels are equal up to float32 and to rounding at the fourth decimal (bool, broadcast)."""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    return np.asarray(np.abs(one - other) <= np.maximum(1e-6 * np.abs(other), ROUNDING))


def match_levels(
    available: np.ndarray,
    wanted: Sequence[float],
    match: Literal["nearest", "exact"] = "nearest",
    *,
    where: str = "the store",
    on_pressure_levels: bool = False,
) -> np.ndarray:
    """Indices into `available` of the levels that stand for the wanted ones, int64 [len(wanted)], in their order.

    Both are [level] in hPa, or depths in m, in any order and float type. `nearest` takes the closest within a tenth of
    the wanted value; `exact` the same level only (see `same_level`), which is the rule of pressure levels. `where`
    tells messages what holds the levels.

    Raises
    ------
    UserError
        If a level has no match, or two wanted levels share one.
    """
    native = np.asarray(available, np.float64)
    if native.size == 0:
        raise UserError(f"{where} has no levels at all, but {_listing(wanted)} are wanted")
    exact = on_pressure_levels or match == "exact"
    indices = np.array([int(np.argmin(np.abs(native - level))) for level in wanted], np.int64)
    for level, index in zip(wanted, indices, strict=True):
        close = (
            bool(same_level(native[index], level))
            if exact
            else abs(native[index] - level) <= NEAREST_WITHIN * abs(level) + ROUNDING
        )
        if not close:
            rule = "no level equal to" if exact else "no level within a tenth of"
            raise UserError(
                f"{where} has {rule} {level:g}; the closest is {native[index]:.10g}. It has {_listing(native)}. "
                "Change data.levels"
                + (" or set data.level_match to nearest" if exact and not on_pressure_levels else "")
            )
    for index in np.unique(indices):
        sharing = [level for level, other in zip(wanted, indices, strict=True) if other == index]
        if len(sharing) > 1:
            raise UserError(
                f"the wanted levels {_listing(sharing)} all mean the level {native[index]:.10g} of {where}; "
                f"keep one of them in data.levels. It has {_listing(native)}"
            )
    return indices


def _listing(levels: Sequence[float] | np.ndarray) -> str:
    return ", ".join(f"{float(level):.7g}" for level in levels)
