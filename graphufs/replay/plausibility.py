"""Values that stand for none although nothing says so, and values that are no weather."""

from __future__ import annotations

import numpy as np

from graphufs.errors import UserError
from graphufs.replay.times import text
from graphufs.vocabulary.physical_bounds import QUANTITIES

FILL_VALUE = -9999.0
"""What many programs write for a missing value."""
LARGEST = 9.9e19
"""Anything from here on is a fill value too: 1e20 (models), 9.999e20 (GRIB), 9.97e36 (netCDF), infinity."""


def without_fill_values(values: np.ndarray) -> np.ndarray:
    """The values [...] as float32, NaN where they are what stands for a missing value."""
    with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 is infinite, so missing
        numbers = np.asarray(values, np.float32)
        missing = (numbers == np.float32(FILL_VALUE)) | (np.abs(numbers) >= np.float32(LARGEST))
    return np.where(missing, np.float32(np.nan), numbers) if missing.any() else numbers


def plausible(name: str, values: np.ndarray, stamps: np.ndarray | None, where: str) -> None:
    """Check the values of a variable, [time, ...] or without time, against its physical bounds.

    Stamps are those of the first axis; `where` is what messages call the store. A variable without bounds passes.

    Raises
    ------
    UserError
        Naming the variable, the stamp, the value farthest outside and the bounds.
    """
    bounds = QUANTITIES.get(name)
    if bounds is None or not values.size:
        return
    low, high = values.min(), values.max()
    if np.isnan(low):  # slower, and needed for stores with missing values alone
        low, high = np.fmin.reduce(values, axis=None), np.fmax.reduce(values, axis=None)
    if not (low < bounds.low or high > bounds.high):
        return
    worst = low if bounds.low - low >= high - bounds.high else high
    at = f" at {text(stamps[np.argwhere(values == worst)[0][0]])}" if stamps is not None else ""
    raise UserError(
        f"{name} of {where} is {worst:g} {bounds.units}{at}; what is believed lies within {bounds.low:g} to "
        f"{bounds.high:g} {bounds.units}. Correct the store or its attribute units, or name {name} in "
        "data.accept_implausible to take its values as they are"
    )
