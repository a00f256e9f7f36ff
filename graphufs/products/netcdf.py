"""A run as one NetCDF file that follows CF-1.11 and that MET reads.

What MET (met.readthedocs.io, "Requirements for CF Compliant NetCDF") asks for: the attribute `Conventions`; valid times
on a dimension `time`, the initial time in a scalar `forecast_reference_time`; standard names, units and axes of
coordinates; `coordinates` of variables; an evenly spaced grid. A Gaussian one passes its check, which allows 5 % of the
first spacing, and is then taken for evenly spaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import xarray as xr

from graphufs.errors import UserError
from graphufs.storage.atomic import replace_file
from graphufs.vocabulary import cf

FILL = np.float32(9.969209968386869e36)
"""NetCDF's own fill value: NaN is none that all tools look for."""
COMPRESSION = {"zlib": True, "complevel": 4, "shuffle": True, "_FillValue": FILL, "dtype": "float32"}
TIMES = {"units": cf.TIMES_SINCE, "calendar": cf.CALENDAR, "dtype": "float64", "_FillValue": None}
LEADS = {"units": "hours", "dtype": "float64", "_FillValue": None}


def write(path: Path, run: xr.Dataset) -> None:
    """Write a run (`graphufs.products.run`) as a NetCDF file; it appears whole, in place of one that is there.

    Raises
    ------
    UserError
        If the library cannot write it, as on a full disk; it does not say why.
    """
    dataset = as_met_reads(run)
    encoding: dict[str, Mapping[str, object]] = {str(name): {"_FillValue": None} for name in dataset.coords}
    encoding |= {"time": TIMES, "forecast_reference_time": TIMES, "forecast_period": LEADS}
    for name, array in dataset.items():
        field = tuple(array.sizes[dim] if dim in ("latitude", "longitude") else 1 for dim in array.dims)
        encoding[str(name)] = {**COMPRESSION, "chunksizes": field}
        array.encoding["coordinates"] = " ".join(_coordinates(dataset, str(name)))
    with replace_file(path) as temporary:
        try:
            dataset.to_netcdf(temporary, engine="netcdf4", encoding=encoding)
        except RuntimeError as error:
            raise UserError(f"{path} could not be written ({error}); see that there is space for it") from None


def as_met_reads(run: xr.Dataset) -> xr.Dataset:
    """The run on the dimensions ([realization], time, [level], latitude, longitude), `time` being the valid time."""
    dataset = run.rename(time="forecast_reference_time").swap_dims(prediction_timedelta="valid_time")
    dataset = dataset.rename(valid_time="time", prediction_timedelta="forecast_period")
    dataset["time"].attrs["axis"] = "T"
    # MET would take the last variable with the axis T for the valid time
    dataset["forecast_reference_time"].attrs.pop("axis", None)
    order = [dim for dim in ("realization", "time", "level", "latitude", "longitude") if dim in dataset.dims]
    for height in sorted({cf.HEIGHTS[name] for name in map(str, dataset) if name in cf.HEIGHTS}):
        dataset = dataset.assign_coords({_height(height): ((), height, cf.HEIGHT)})
    return dataset.transpose(*order, ...)


def _height(height: float) -> str:
    return f"height_{height:g}m"


def _coordinates(dataset: xr.Dataset, name: str) -> list[str]:
    """The coordinates of a variable as its attribute lists them, those of the grid too, where MET looks for them."""
    own = {_height(cf.HEIGHTS[name])} if name in cf.HEIGHTS else set()
    dims = {"time", *map(str, dataset[name].dims)}
    auxiliary = [
        str(other)
        for other, array in dataset.coords.items()
        if other not in dataset.dims
        and "bounds" not in array.dims  # what the attribute `bounds` names is none
        and (str(other) in own if str(other).startswith("height_") else set(array.dims) <= dims)
    ]
    return [*auxiliary, "latitude", "longitude"]


def displacement(latitude: np.ndarray) -> float:
    """Degrees that a row [lat] lies away at most from where MET takes it to be: at multiples of the first spacing."""
    even = latitude[0] + (latitude[1] - latitude[0]) * np.arange(len(latitude))
    return float(np.abs(even - latitude).max())
