"""Files of the Copernicus data store, as they come: NetCDF, or GRIB where the extra `grib` is installed.

Many files are one source: those of a folder, or that a pattern names, of surface and pressure levels, of months and
years. They have `valid_time`, `pressure_level`, `number` and `expver`, or the former `time`, `level` and packed
integers, and ECMWF's short names.
"""

from __future__ import annotations

import glob
import logging
import sqlite3  # noqa: F401  before xarray loads cfgrib where that is installed: see docs/decisions.md
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import xarray as xr

from graphufs.errors import CannotOpen, UserError
from graphufs.replay.decoding import decoded
from graphufs.replay.times import text
from graphufs.sources.analysis import analysis
from graphufs.sources.grib_files import datasets_of
from graphufs.sources.lazy import joined
from graphufs.storage.zarr_io import is_remote
from graphufs.vocabulary.analysis_names import dimension_name, lies_on_levels
from graphufs.vocabulary.variables import PRESSURE_LEVEL

logger = logging.getLogger(__name__)

NETCDF, GRIB = (".nc", ".nc4", ".netcdf"), (".grib", ".grb", ".grib2", ".grb2")
PRELIMINARY = "0005"
"""The version (expver) of ERA5T, which is replaced by ERA5 two to three months later."""

Part = tuple[xr.Dataset, str]
"""Some variables, and the file they are from."""


def recognises(url: str) -> bool:
    """Whether a path is that of such a file, of a folder with such files, or a pattern of their names."""
    return not is_remote(url) and (url.endswith(NETCDF + GRIB) or bool(_files(url)) or _is_download(url))


def opened(url: str) -> xr.Dataset:
    """The files as one dataset, laid out as `graphufs.sources.analysis` says.

    Raises
    ------
    UserError
        If there are none, one cannot be read, or they do not go together.
    """
    if _is_download(url):
        raise UserError(f"{url} is a zip file of NetCDF or GRIB; unpack it into a folder, and give that folder")
    files = _files(url)
    if not files:
        raise CannotOpen(
            f"there are no files at {url} whose names end in {', '.join(NETCDF + GRIB)}; give such a file, a folder of "
            "them, or a pattern such as /data/era5/*.nc, on a disk of this machine"
        )
    return _together([(part, str(file)) for file in files for part in _parts(file)], url)


def _files(url: str) -> list[Path]:
    path = Path(url)
    if path.is_dir():
        found: Iterable[Path] = () if _is_zarr(path) else path.iterdir()
    else:
        found = [path] if path.is_file() else map(Path, glob.glob(url))
    return sorted(file for file in found if file.name.endswith(NETCDF + GRIB) and file.is_file())


def _is_zarr(path: Path) -> bool:
    return any((path / name).exists() for name in (".zgroup", ".zmetadata", "zarr.json"))


def _is_download(url: str) -> bool:
    """Whether a path is that of what the data store gives for several kinds of files at once."""
    if not url.endswith(".zip") or is_remote(url) or not zipfile.is_zipfile(url):
        return False
    with zipfile.ZipFile(url) as content:
        return any(name.endswith(NETCDF + GRIB) for name in content.namelist())


def _parts(file: Path) -> list[xr.Dataset]:
    """The datasets of a file: one of NetCDF, and of GRIB one for each variable."""
    try:
        if file.name.endswith(GRIB):
            datasets = datasets_of(file)
        else:
            raw = xr.open_dataset(file, engine="netcdf4", decode_cf=False, cache=False)
            datasets = [decoded(_with_axes(raw, file), str(file))]
    except UserError:
        raise
    # ecCodes raises errors of its own, which share no base below Exception
    except Exception as error:
        told = " ".join(str(error).split())[:200] or type(error).__name__
        raise CannotOpen(f"cannot read {file} ({told}); fetch it again, or remove it") from error
    for dataset in datasets:
        _say_what_is_preliminary(dataset, file)
    return [_rising(analysis(dataset, str(file))) for dataset in datasets]


def _rising(dataset: xr.Dataset) -> xr.Dataset:
    """A dataset with latitudes and levels that rise: files have them one way or the other."""
    for name in ("latitude", PRESSURE_LEVEL):
        axis = dataset.variables.get(name)
        if axis is not None and axis.size > 1 and axis.values[0] > axis.values[-1]:
            dataset = dataset.isel({name: slice(None, None, -1)})
    return dataset


def _with_axes(raw: xr.Dataset, file: Path) -> xr.Dataset:
    """A NetCDF file, undecoded, with time as a dimension, and the level too where the file has just one of them.

    Raises
    ------
    UserError
        If it has two versions along a dimension, or variables of a level that it does not name.
    """
    if raw.sizes.get("expver", 1) > 1:
        raise UserError(
            f"{file} holds {raw.sizes['expver']} versions along expver, ERA5 and the preliminary ERA5T, with NaN where "
            "the other has values; fetch it again, as the data store now delivers one after the other, or put them "
            "together by ds.sel(expver=1).combine_first(ds.sel(expver=5))"
        )
    valid = raw.variables.get("valid_time")
    if valid is not None and valid.dims == ("time",):  # `time` is then when forecasts began
        raw = raw.drop_vars("time", errors="ignore").rename(valid_time="stamps").rename(stamps="time")
    elif "valid_time" in raw.dims:
        raw = raw.drop_vars("time", errors="ignore").rename(valid_time="time")
    own = {dimension_name(str(name)): str(name) for name, variable in raw.variables.items() if not variable.ndim}
    for name in ("time", PRESSURE_LEVEL):
        if name in own and name not in map(dimension_name, map(str, raw.dims)):
            raw = raw.set_coords(own[name]).expand_dims(own[name])
            raw = raw.rename({own[name]: name}) if own[name] != name else raw
    if PRESSURE_LEVEL not in map(dimension_name, map(str, raw.dims)):
        unnamed = [name for name in map(str, raw.data_vars) if lies_on_levels(name) and name != "z"]
        if unnamed:
            raise UserError(
                f"{', '.join(unnamed)} of {file} {'lie' if len(unnamed) > 1 else 'lies'} on a level, but the file has "
                "no dimension or coordinate of pressure levels; give it one, such as pressure_level in hPa"
            )
    return raw


def _say_what_is_preliminary(dataset: xr.Dataset, file: Path) -> None:
    version = dataset.variables.get("expver")
    if version is None or version.dims != ("time",):
        return
    preliminary = np.char.zfill(version.values.astype(str), 4) == PRELIMINARY
    if preliminary.any():
        first = dataset.variables["time"].values[int(preliminary.argmax())]
        logger.warning("%s holds preliminary data (ERA5T, expver %s) from %s on", file, PRELIMINARY, text(first))


def _together(parts: list[Part], url: str) -> xr.Dataset:
    """All variables of some datasets as one: along the time where a variable is in several.

    Raises
    ------
    UserError
        If there are none, a stamp of a variable comes twice, or grids, levels, times, units or static fields differ.
    """
    found: dict[str, list[Part]] = {}
    for dataset, file in parts:
        for name in map(str, dataset.data_vars):
            found.setdefault(name, []).append((dataset, file))
    if not found:
        raise UserError(f"{url} has no variables on a grid of latitude and longitude")
    axes: dict[str, tuple[xr.Variable, str]] = {}
    fields: dict[str, xr.Variable] = {}
    for name, those in found.items():
        _require_alike(name, those, axes)
        if "time" in those[0][0].variables[name].dims:
            stamps = [dataset.variables["time"].values for dataset, _ in those]
            order = _order(name, stamps, [file for _, file in those])
            variables = [dataset.variables[name] for dataset, _ in those]
            fields[name] = joined(variables, "time", order, f"{name} of {url}")
            _one_axis(axes, "time", xr.Variable("time", np.concatenate(stamps)[order]), f"{name} of {url}")
        else:
            fields[name] = those[0][0].variables[name]
    if "time" not in axes:
        raise UserError(f"{url} has no variables that change with time, but {', '.join(sorted(fields))}")
    coordinates = {name: variable for name, (variable, _) in axes.items()}
    return xr.Dataset(fields).assign_coords(xr.Coordinates(coordinates, indexes={}))


def _order(name: str, stamps: list[np.ndarray], files: list[str]) -> np.ndarray:
    """The order in which stamps of several files rise."""
    together = np.concatenate(stamps)
    file_of = np.repeat(np.arange(len(files)), [len(own) for own in stamps])
    order = np.argsort(together, kind="stable")
    again = np.flatnonzero(np.diff(together[order]) == np.timedelta64(0))
    if again.size:
        one, other = (files[file_of[order[again[0] + step]]] for step in (0, 1))
        where = f"both in {one} and in {other}" if one != other else f"twice in {one}"
        raise UserError(f"{name} at {text(together[order[again[0]]])} is {where}; keep it once")
    return order


def _require_alike(name: str, those: list[Part], axes: dict[str, tuple[xr.Variable, str]]) -> None:
    """See that what several files say of a variable is the same, and that their axes are but for the time."""
    first, there = those[0][0].variables[name], those[0][1]
    for dataset, file in those:
        variable = dataset.variables[name]
        if set(variable.dims) != set(first.dims):
            raise UserError(
                f"{name} has the dimensions ({', '.join(map(str, variable.dims))}) in {file} and "
                f"({', '.join(map(str, first.dims))}) in {there}; files of one source must agree"
            )
        if variable.attrs["units"] != first.attrs["units"]:
            raise UserError(
                f"{name} is in {variable.attrs['units']!r} in {file} and in {first.attrs['units']!r} in {there}; files "
                "of one source must agree"
            )
        for axis in set(map(str, variable.dims)) - {"time"}:
            if axis in dataset.variables:
                _one_axis(axes, axis, dataset.variables[axis], file)
    last, file = those[-1][0].variables[name], those[-1][1]
    if "time" not in first.dims and not np.array_equal(
        first.values, last.transpose(*first.dims).values, equal_nan=True
    ):
        raise UserError(f"{name} should be the same at all times, but differs between {there} and {file}; keep one")


def _one_axis(axes: dict[str, tuple[xr.Variable, str]], name: str, variable: xr.Variable, where: str) -> None:
    known, there = axes.setdefault(name, (variable, where))
    if known.shape != variable.shape or not np.array_equal(known.values, variable.values):
        raise UserError(
            f"{where} has another {name} ({variable.size} values) than {there} ({known.size} values); files of one "
            "source must have one grid, the same levels, and for each variable the same times"
        )
