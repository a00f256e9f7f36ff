"""Runs as one zarr store for object stores: consolidated metadata, and chunks that one request brings.

Dimensions are those of WeatherBench2's layout, (time, prediction_timedelta, [realization], [level], latitude,
longitude), so that the store can be scored and converted again.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import xarray as xr
import zarr

from graphufs.storage.atomic import new_folder
from graphufs.storage.zarr_io import add_checksums, time_encoding

CHUNK = 16 * 2**20
"""Bytes of a chunk before compression, at most, where a field is not larger."""


def write(path: Path, runs: Iterable[xr.Dataset], times: np.ndarray) -> None:
    """Write runs (`graphufs.products.run`) from initial times [time]; one is in memory at a time.

    The store appears whole, in place of one that is there.
    """
    with new_folder(path) as temporary:
        group: zarr.Group | None = None
        for number, run in enumerate(runs):
            if group is None:
                _create(temporary, run, times)
                group = zarr.open_group(temporary, mode="r+", use_consolidated=False)
            for name, array in run.items():
                stored = group[str(name)]
                assert isinstance(stored, zarr.Array)
                stored[number] = array.values
        add_checksums(temporary)


def _create(path: Path, run: xr.Dataset, times: np.ndarray) -> None:
    """The store with all coordinates, and empty variables."""
    whole = run.drop_vars("valid_time").drop_vars("time").expand_dims(time=times)
    whole["time"].attrs = run["time"].attrs
    valid = whole["time"] + whole["prediction_timedelta"]
    whole = whole.assign_coords(valid_time=valid.assign_attrs(run["valid_time"].attrs))
    encoding = time_encoding(whole)
    for name, array in whole.items():
        encoding[str(name)] = {"chunks": chunks(array), "_FillValue": np.nan}
    lazy = whole.assign({name: array.chunk({"time": 1}) for name, array in whole.items()})
    lazy.to_zarr(path, mode="w", zarr_format=2, consolidated=True, compute=False, encoding=encoding)


def chunks(array: xr.DataArray) -> tuple[int, ...]:
    """Lengths of chunks of a variable (time, prediction_timedelta, ..., latitude, longitude).

    They are whole fields [lat, lon] of one initial time, of as many levels, members and leads as CHUNK takes.
    """
    lengths = {dim: array.sizes[dim] if dim in ("latitude", "longitude") else 1 for dim in array.dims}
    for dim in reversed(array.dims):
        if dim not in ("time", "latitude", "longitude"):
            room = CHUNK // (4 * int(np.prod(list(lengths.values()))))
            lengths[dim] = max(1, min(array.sizes[dim], room))
    return tuple(lengths.values())
