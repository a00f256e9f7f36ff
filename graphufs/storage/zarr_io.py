"""Zarr stores: opened, and written atomically in WeatherBench2's layout."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from graphufs.errors import UserError
from graphufs.storage.atomic import new_folder

LEAD_ENCODING = {"units": "hours", "dtype": "int64"}
"""How leads and other durations are stored. xarray adds the attribute dtype="timedelta64[ns]", without which newer
versions read plain integers."""
TIME_ENCODING = {"units": "hours since 1970-01-01", "dtype": "int64"}
MOST_COORDINATES = 10_000_000
"""Values of a coordinate: more than a millennium of hours."""


def is_remote(address: Path | str) -> bool:
    """Whether an address is reached through fsspec rather than as a plain path."""
    return "://" in str(address)


def open_zarr(
    address: Path | str,
    group: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    *,
    what: str = "a zarr store",
    **decoding: Any,
) -> xr.Dataset:
    """Open a zarr store (format 2 or 3) at a path or any address fsspec knows, lazily and without dask.

    The group is the root where none is given; `storage_options` are fsspec's, for a remote address; `what` is what
    messages call the store; `decoding` is what else `xarray.open_zarr` takes, such as `decode_cf`.

    Raises
    ------
    UserError
        If it cannot be opened.
    """
    remote = is_remote(address)
    if remote and storage_options:
        decoding["storage_options"] = dict(storage_options)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Failed to open Zarr store with consolidated", RuntimeWarning)
            found = xr.open_zarr(address, group=group, chunks=None, create_default_indexes=False, **decoding)
            return _indexed(found)
    # Each cloud client raises its own classes, which share no base below Exception.
    except Exception as error:
        hint = (
            "check the address and the network. A public bucket needs storage_options {token: anon} for gs:// and "
            "{anon: true} for s3://"
            if remote
            else "check the path, or make the store first"
        )
        reason = str(error) or "nothing there"
        raise UserError(f"cannot open {what} at {address} ({type(error).__name__}: {reason}); {hint}") from error


def _indexed(dataset: xr.Dataset) -> xr.Dataset:
    """The dataset with the indexes that xarray makes by default, none of which it reads that is absurdly long.

    Raises
    ------
    ValueError
        If metadata of a few bytes claim a coordinate, or a chunk of one, that would fill the memory.
    """
    made = {}
    for name, coordinate in dataset.coords.items():
        if coordinate.dims == (name,):
            size = max(coordinate.size, *coordinate.encoding.get("chunks") or (0,))
            if size > MOST_COORDINATES:
                raise ValueError(f"{name} claims {size:,} values; {MOST_COORDINATES:,} are allowed in a coordinate")
            made[name] = coordinate.variable
    return dataset.assign_coords(xr.Coordinates(made))


def write_zarr(
    path: Path, groups: Mapping[str | None, xr.Dataset], chunks: Mapping[str, Mapping[str, int]] | None = None
) -> None:
    """Write the datasets of some groups (None is the root) as a zarr v2 store with consolidated metadata, atomically.

    A store already there is replaced. `chunks` has by variable the chunk length along some dimensions; others are one
    chunk.
    """
    with new_folder(path) as temporary:
        for group, dataset in groups.items():
            encoding = time_encoding(dataset)
            for name, array in dataset.variables.items():
                wanted = (chunks or {}).get(str(name), {})
                lengths = tuple(wanted.get(str(d), n) for d, n in array.sizes.items())
                encoding.setdefault(str(name), {})["chunks"] = lengths
            dataset.drop_encoding().to_zarr(
                temporary, group=group, mode="a", zarr_format=2, consolidated=True, encoding=encoding
            )


def time_encoding(dataset: xr.Dataset) -> dict[str, dict[str, Any]]:
    """How the times and durations of a dataset are stored, by variable."""
    kinds = {"m": LEAD_ENCODING, "M": TIME_ENCODING}
    return {str(n): dict(kinds[a.dtype.kind]) for n, a in dataset.variables.items() if a.dtype.kind in kinds}


def level_coordinate(levels: np.ndarray) -> np.ndarray:
    """Levels [level] as WeatherBench2 writes them: whole numbers of hPa as int32; others stay as they are."""
    whole = np.all(levels == np.round(levels))
    return levels.astype(np.int32) if whole else levels
