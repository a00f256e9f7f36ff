"""A look-alike of DeepMind's xarray_jax. xarray keeps arrays of the array API as they are, so nothing is wrapped."""

from __future__ import annotations

from typing import Any

import xarray


def Dataset(data_vars: Any, coords: Any = None) -> xarray.Dataset:
    return xarray.Dataset(data_vars, coords)


def unwrap_data(value: xarray.DataArray) -> Any:
    return value.data
