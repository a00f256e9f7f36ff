"""Analyses as WeatherBench2 has them: zarr with time, level, latitude, longitude in any order, ERA5 first of all."""

from __future__ import annotations

import xarray as xr

from graphufs.replay.decoding import decoded
from graphufs.sources.analysis import analysis
from graphufs.vocabulary.analysis_names import dimension_name


def recognises(raw: xr.Dataset) -> bool:
    """Whether an undecoded zarr store has the dimensions of this layout."""
    return {"time", "latitude", "longitude"} <= {dimension_name(str(name)) for name in raw.dims}


def opened(raw: xr.Dataset, url: str) -> xr.Dataset:
    """An undecoded zarr store as `graphufs.sources.analysis` has it.

    Raises
    ------
    UserError
        If it is no such store.
    """
    return analysis(decoded(raw, url), url)
