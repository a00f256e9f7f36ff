"""The one form that analyses of any layout are brought to: WeatherBench2's names, dimensions and static fields.

What each layout has of its own is left to its module; `ReplayStore` then checks axes, stamps, units and values as it
does Replay's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from graphufs.errors import UserError
from graphufs.replay.source import Dimensions
from graphufs.replay.units import Conversion, variable_conversion
from graphufs.vocabulary import cf
from graphufs.vocabulary.analysis_names import MEMBERS, STATIC, dimension_name, weatherbench_name_of
from graphufs.vocabulary.physical_bounds import QUANTITIES
from graphufs.vocabulary.variables import BY_WEATHERBENCH, PRESSURE_LEVEL

DIMENSIONS = Dimensions("latitude", "longitude", (PRESSURE_LEVEL,), rising=True)


def analysis(dataset: xr.Dataset, url: str) -> xr.Dataset:
    """A dataset with dimensions time, level, latitude and longitude under one of their names, in WeatherBench2's form.

    Variables that are none of the grid, and coordinates that are no axes, are left out; so is a dimension of one
    member. A static field that is repeated along the time is taken once.

    Raises
    ------
    UserError
        If there are several members, the grid's dimensions are not there, or two variables are the same quantity.
    """
    dimensions = {str(name): dimension_name(str(name)) for name in dataset.dims}
    for own, name in dimensions.items():
        if name in MEMBERS and dataset.sizes[own] > 1:
            raise UserError(
                f"{url} holds {dataset.sizes[own]} members along {own}; one can be prepared. Write it to a "
                "store of its own"
            )
    lacking = [name for name in ("time", "latitude", "longitude") if name not in dimensions.values()]
    if lacking:
        raise UserError(
            f"{url} has no dimension {' and no '.join(lacking)}; it has {', '.join(dimensions) or 'none'}. An analysis "
            "has time, latitude and longitude, and level where variables lie on pressure levels"
        )
    axes = {own: name for own, name in dimensions.items() if name not in MEMBERS}
    if len(set(axes.values())) < len(axes):
        raise UserError(f"{url} has the dimensions {', '.join(axes)}, two of which are the same; keep one of them")
    fields: dict[str, xr.Variable] = {}
    given: dict[str, str] = {}
    for own in map(str, dataset.data_vars):
        variable = dataset.variables[own]
        drop = [dimension for dimension in variable.dims if dimensions[str(dimension)] in MEMBERS]
        variable = _renamed(variable.isel(dict.fromkeys(drop, 0)), axes)
        if not {"latitude", "longitude"} <= set(variable.dims):
            continue
        if variable.attrs.get("vertical") in (cf.LAYERS, cf.DEPTH):  # as `graphufs convert --what truth` marks them
            raise UserError(
                f"{own} of {url} lies on {variable.attrs['vertical']}; an analysis has pressure levels. Name the "
                "source that these were made from, or leave the variable out of the store"
            )
        name = weatherbench_name_of(own, levels=PRESSURE_LEVEL in variable.dims)
        if name in fields:
            raise UserError(f"{given[name]} and {own} of {url} both are {name}; keep one of them")
        if name in STATIC and "time" in variable.dims:
            variable = _once(variable, own, url)
        fields[name], given[name] = variable.copy(deep=False), own
        fields[name].attrs = _attributes(name, variable.attrs, url)
    coordinates = {
        name: _renamed(dataset.variables[own], axes)
        for own, name in axes.items()
        if own in dataset.variables and dataset.variables[own].dims == (own,)
    }
    return xr.Dataset(fields).assign_coords(xr.Coordinates(coordinates, indexes={}))


def _renamed(variable: xr.Variable, names: dict[str, str]) -> xr.Variable:
    """A variable with its dimensions renamed, those of its chunks too; chunks that are not known are single stamps."""
    variable = variable.copy(deep=False)
    chunks = variable.encoding.get("preferred_chunks", {"time": 1, PRESSURE_LEVEL: 1})
    variable.dims = tuple(names[str(dimension)] for dimension in variable.dims)
    variable.encoding["preferred_chunks"] = {names.get(str(name), str(name)): length for name, length in chunks.items()}
    return variable


def _once(variable: xr.Variable, name: str, url: str) -> xr.Variable:
    first, last = (variable.isel(time=at).values for at in (0, -1))
    if not np.array_equal(first, last, equal_nan=True):
        raise UserError(
            f"{name} of {url} should be the same at all times, but its first and last fields differ; correct the store"
        )
    return variable.isel(time=0)


def _attributes(name: str, attributes: dict[Any, Any], url: str) -> dict[str, Any]:
    """Units and long name, alike in all layouts where they mean the same."""
    units = str(attributes.get("units", ""))
    if name in QUANTITIES:
        try:
            if variable_conversion(name, units, url) == Conversion():
                units = QUANTITIES[name].units
        except UserError:
            pass  # refused where the variable is used
    known = BY_WEATHERBENCH.get(name)
    return {"units": units, "long_name": known.long_name if known else name.replace("_", " ")}
