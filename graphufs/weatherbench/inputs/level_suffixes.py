"""Forecasts whose levels are part of their variables' names, such as geopotential_500, brought into the layout."""

from __future__ import annotations

import re

import xarray as xr

from graphufs.errors import UserError

SUFFIX = re.compile(r"(\w+?)_(\d+)")


def with_levels(dataset: xr.Dataset, origin: str = "the forecast store") -> xr.Dataset:
    """The dataset with variables X_500, X_850 ... as X on the dimension `level`; others stay as they are.

    A variable `forecast` along a dimension `channel` of such names is taken apart first. Nothing is read: arrays that
    lie in a store stay there. A level that only some variables have is NaN in the others, as in WeatherBench2.

    Raises
    ------
    UserError
        If no name ends in a level, or there are levels already.
    """
    if "channel" in dataset.dims:
        if "forecast" not in dataset:
            raise UserError(f"{origin} has a dimension channel but no variable forecast along it")
        dataset = dataset["forecast"].to_dataset("channel")
    if "level" in dataset.dims:
        raise UserError(f"{origin} has levels as a dimension; its names need no decoding")
    parts: dict[str, list[xr.DataArray]] = {}
    plain = []
    for name, array in dataset.chunk().items():
        match = SUFFIX.fullmatch(str(name))
        if match is None:
            plain.append(str(name))
        else:
            parts.setdefault(match[1], []).append(array.expand_dims(level=[int(match[2])]))
    if not parts:
        raise UserError(f"no variable of {origin} ends in a level, as geopotential_500 does; it has {', '.join(plain)}")
    if both := sorted(set(parts) & set(plain)):
        raise UserError(f"{origin} has {both[0]} both with a level in its name and without")
    joined = {name: xr.concat(arrays, "level").sortby("level") for name, arrays in parts.items()}
    return xr.merge([dataset[plain], *(array.rename(name) for name, array in joined.items())], join="outer")
