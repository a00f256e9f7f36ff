"""The variables of a store as numbers: packed integers unpacked, fill values of floating point numbers as NaN."""

from __future__ import annotations

import numpy as np
import xarray as xr

from graphufs.errors import UserError
from graphufs.reading import shown
from graphufs.replay.axes import decoded_times

VALID = ("valid_range", "valid_min", "valid_max")
"""CF's attributes of what the smallest and largest value are that are not missing."""


def decoded(raw: xr.Dataset, url: str) -> xr.Dataset:
    """A dataset that was opened undecoded, with its stamps as datetime64[ns] and its values lazily unpacked.

    Fill values of integer masks are left alone: zarr's format 2 fills them with 0, which is data.

    Raises
    ------
    UserError
        If attributes make no sense.
    """
    try:
        dataset = xr.decode_cf(
            raw,
            mask_and_scale={str(name): _is_packed(variable) for name, variable in raw.variables.items()},  # type: ignore[arg-type]
            decode_times=False,
            decode_timedelta=False,
            decode_coords=False,
        )
    # xarray raises errors of many classes here.
    except Exception as error:
        raise UserError(
            f"the variables of {url} cannot be decoded ({type(error).__name__}: {error}); correct their attributes "
            "scale_factor, add_offset and _FillValue"
        ) from error
    time = raw.variables.get("time")
    if time is None or time.dims != ("time",):
        return dataset
    return dataset.assign_coords(time=decoded_times(time, url))


def _is_packed(variable: xr.Variable) -> bool:
    scaled = not {"scale_factor", "add_offset"}.isdisjoint(variable.attrs)
    return variable.dtype.kind == "f" or (variable.dtype.kind in "iu" and scaled)


def without_invalid(values: np.ndarray, variable: xr.Variable, where: str) -> np.ndarray:
    """What was read of a decoded variable [...], NaN where the attributes of CF say that a value is missing.

    Those are the ones outside of `valid_range`, `valid_min` and `valid_max`, and an integer that is a `missing_value`.
    Bounds of packed integers are packed too if they are integers, else as the values are (NetCDF's conventions).
    `where` is what messages call the variable.

    Raises
    ------
    UserError
        If the bounds are not numbers in ascending order.
    """
    low, high = _numbers(variable, "valid_range", 2, where) or (-np.inf, np.inf)
    low = max([low, *_numbers(variable, "valid_min", 1, where)])
    high = min([high, *_numbers(variable, "valid_max", 1, where)])
    missing = _numbers(variable, "missing_value", None, where)
    if not missing and low == -np.inf and high == np.inf:
        return values
    if low > high:
        raise UserError(f"{where} has no valid values: its attributes say from {low:g} to {high:g}. Correct them")
    given = [variable.attrs[name] for name in VALID if name in variable.attrs]
    slack = 0.0
    if _packing(variable) and all(np.asarray(one).dtype.kind in "iu" for one in given):
        scale, offset = (float(variable.encoding.get(k, n)) for k, n in (("scale_factor", 1), ("add_offset", 0)))
        low, high = sorted((low * scale + offset, high * scale + offset))
        slack = abs(scale) / 2
    numbers = values if values.dtype.kind == "f" else values.astype(np.float64)
    kind = numbers.dtype.type  # a bound is compared as the values are: 0.1 in 32 bits is more than 0.1
    with np.errstate(over="ignore", invalid="ignore"):
        invalid = (numbers < kind(low - slack)) | (numbers > kind(high + slack)) | np.isin(numbers, missing)
    return np.where(invalid, kind(np.nan), numbers) if invalid.any() else values


def _packing(variable: xr.Variable) -> bool:
    stored = np.dtype(variable.encoding.get("dtype", variable.dtype))
    return stored.kind in "iu" and not {"scale_factor", "add_offset"}.isdisjoint(variable.encoding)


def _numbers(variable: xr.Variable, name: str, count: int | None, where: str) -> list[float]:
    """The numbers of an attribute, of which there must be so many; none where it is not there."""
    if name not in variable.attrs:
        return []
    given = np.ravel(np.asarray(variable.attrs[name]))
    if given.dtype.kind not in "iuf" or np.isnan(given).any() or count not in (None, given.size):
        raise UserError(
            f"{where} has {name} {shown(variable.attrs[name])}; {count or 'some'} numbers are meant. Correct the store"
        )
    return [float(one) for one in given]
