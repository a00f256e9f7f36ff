"""The variables of a store as numbers: packed integers unpacked, fill values of floating point numbers as NaN."""

from __future__ import annotations

import xarray as xr

from graphufs.errors import UserError
from graphufs.replay.axes import decoded_times


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
