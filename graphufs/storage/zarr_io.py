"""Zarr stores in WeatherBench2's layout, opened and written atomically."""

from __future__ import annotations

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


def open_zarr(
    path: Path | str, group: str | None = None, storage_options: Mapping[str, Any] | None = None
) -> xr.Dataset:
    """Open a zarr store (a group of it) lazily and without dask; `path` may be any address fsspec knows.

    Raises
    ------
    UserError
        If there is none.
    """
    try:
        return xr.open_zarr(path, group=group, chunks=None, consolidated=None, storage_options=storage_options)
    except (FileNotFoundError, KeyError) as error:
        raise UserError(f"there is no zarr store at {path} ({type(error).__name__}); make it first") from None


def write_zarr(
    path: Path, groups: Mapping[str | None, xr.Dataset], chunks: Mapping[str, Mapping[str, int]] | None = None
) -> None:
    """Write a zarr v2 store with consolidated metadata, which appears whole or not at all.

    Parameters
    ----------
    path
        Where. A store already there is replaced.
    groups
        The dataset of each group; None is the root.
    chunks
        For each variable the chunk length along some dimensions; other dimensions are one chunk.
    """
    with new_folder(path) as temporary:
        for group, dataset in groups.items():
            encoding: dict[str, dict[str, Any]] = {}
            for name, array in dataset.variables.items():
                wanted = (chunks or {}).get(str(name), {})
                encoding[str(name)] = {"chunks": tuple(wanted.get(str(d), n) for d, n in array.sizes.items())}
                if array.dtype.kind == "m":
                    encoding[str(name)] |= LEAD_ENCODING
                elif array.dtype.kind == "M":
                    encoding[str(name)] |= {"units": "hours since 1970-01-01", "dtype": "int64"}
            dataset.drop_encoding().to_zarr(
                temporary, group=group, mode="a", zarr_format=2, consolidated=True, encoding=encoding
            )


def level_coordinate(levels: np.ndarray) -> np.ndarray:
    """Levels as WeatherBench2 writes them: whole numbers of hPa as int32; others stay as they are."""
    whole = np.all(levels == np.round(levels))
    return levels.astype(np.int32) if whole else levels
