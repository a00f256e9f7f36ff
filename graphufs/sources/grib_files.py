"""A GRIB file as datasets, one for each of its variables, found by cfgrib's index (the extra `grib`).

cfgrib's own datasets take the last of fields that come twice, and read whole ranges where places are wanted; so its
index alone is used, and fields are read one by one.
"""

from __future__ import annotations

import sqlite3  # noqa: F401  before ecCodes, which cfgrib loads: see docs/decisions.md
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from graphufs.errors import UserError
from graphufs.replay.times import text
from graphufs.sources.cells import CellGrid, grid_of_cells
from graphufs.sources.lazy import Places, lazy_variable

INSTALL = "install it with `pip install 'graphufs[grib]'`, or ask the data store for NetCDF"
HECTOPASCALS = {"isobaricInhPa": 1.0, "isobaricInPa": 0.01}
"""Of pressure levels, by ecCodes' name of their type."""
ONE_FIELD = frozenset(
    "surface meanSea heightAboveGround heightAboveSea entireAtmosphere atmosphere nominalTop depthBelowLand "
    "depthBelowLandLayer lowCloudLayer middleCloudLayer highCloudLayer cloudBase cloudTop isothermZero".split()
)
"""Types of levels of which a variable lies on one, which its name tells."""
KEYS = "paramId shortName cfVarName units typeOfLevel level:float valid_time number expver md5GridSection".split()
DEGREES = 9
"""Decimals of coordinates; ecCodes adds up increments, with errors far below."""
LOCK = threading.Lock()
"""ecCodes is used by one thread at a time."""

Header = dict[str, Any]
"""What a message says of its field, by the names of KEYS."""


def datasets_of(file: Path) -> list[xr.Dataset]:
    """The variables of a GRIB file, each a dataset with the dimensions time, level (hPa), latitude and longitude.

    A field that is not there is NaN. Where messages name a version, `expver` is along the time.

    Raises
    ------
    UserError
        If cfgrib is not installed, a field comes twice, there are several members or levels other than of pressure, or
        the fields are on no grid of latitudes and longitudes.
    OSError, ValueError, EOFError
        As cfgrib and ecCodes raise them of a damaged file.
    """
    cfgrib = _cfgrib(file)
    stream = cfgrib.messages.FileStream(str(file), errors="raise")
    with LOCK:  # no index file beside the data, which may be read-only
        index = cfgrib.messages.FileIndex.from_fieldset(stream, KEYS, cfgrib.cfmessage.COMPUTED_KEYS)
    names = [key.partition(":")[0] for key in KEYS]
    found: dict[tuple[Any, bool], _Fields] = {}
    for values, offsets in index.iter_index():
        header = dict(zip(names, values, strict=True))
        _require_known_level(header, file)
        pressure = HECTOPASCALS.get(header["typeOfLevel"])
        mine = found.setdefault((header["paramId"], pressure is not None), _Fields(header, pressure is not None))
        mine.add(header, 0.0 if pressure is None else round(header["level"] * pressure, 6), offsets, file)
    grids: dict[str, CellGrid] = {}
    return [_dataset(fields, stream, grids, file) for fields in found.values()]


@dataclass
class _Fields:
    """The fields of a variable: where each lies in the file, by seconds since 1970 and hPa."""

    first: Header
    on_levels: bool
    where: dict[tuple[int, float], Any] = field(default_factory=dict)
    versions: dict[int, str] = field(default_factory=dict)

    def add(self, header: Header, level: float, offsets: list[Any], file: Path) -> None:
        """Take a field in that is like the others.

        Raises
        ------
        UserError
            If it is there already, or is of another member or grid.
        """
        name, seconds, version = _name(header), int(header["valid_time"]), str(header["expver"])
        for key, what in (("number", "members along number"), ("md5GridSection", "grids")):
            if header[key] != self.first[key]:
                raise UserError(
                    f"{name} of {file} has several {what}; one can be prepared. Write it to a file of its own"
                )
        if not self.on_levels and header["level"] != self.first["level"]:
            raise UserError(
                f"{name} of {file} lies at {self.first['level']:g} and {header['level']:g}; one can be prepared. Write "
                "it to a file of its own"
            )
        if (seconds, level) in self.where or len(offsets) > 1:
            versions = sorted({version, self.versions.get(seconds, version)})
            told = f", of the versions (expver) {' and '.join(versions)}" if len(versions) > 1 else ""
            at = f" at {level:g} hPa" if self.on_levels else ""
            when = text(np.datetime64(seconds, "s").astype("datetime64[ns]"))
            raise UserError(f"{name}{at} of {file} comes twice at {when}{told}; keep one of them")
        self.where[seconds, level], self.versions[seconds] = offsets[0], version


def _cfgrib(file: Path) -> Any:
    try:
        import cfgrib
        import cfgrib.cfmessage
        import cfgrib.messages
    except ImportError as error:
        raise UserError(f"{file} is GRIB, which is read with cfgrib ({error}); {INSTALL}") from None
    return cfgrib


def _require_known_level(header: Header, file: Path) -> None:
    kind = header["typeOfLevel"]
    if kind not in HECTOPASCALS and kind not in ONE_FIELD:
        raise UserError(
            f"{_name(header)} of {file} lies on levels of the type {kind}; only pressure levels and the surface can be "
            f"prepared. Bring it to pressure levels, or copy the others with `grib_copy -w typeOfLevel!={kind}`"
        )


def _dataset(fields: _Fields, stream: Any, grids: dict[str, CellGrid], file: Path) -> xr.Dataset:
    """One variable; `grids` are those known of the file."""
    key = str(fields.first["md5GridSection"])
    if key not in grids:
        with LOCK:
            message = stream[next(iter(fields.where.values()))]
            vectors = [np.round(np.asarray(message[name], np.float64), DEGREES) for name in ("latitudes", "longitudes")]
        grids[key] = grid_of_cells(vectors[0], vectors[1], str(file))
    grid = grids[key]
    seconds, levels = (sorted(set(axis)) for axis in zip(*fields.where, strict=True))
    sizes = {"time": len(seconds), **({"level": len(levels)} if fields.on_levels else {})}
    sizes |= {"latitude": grid.latitude.size, "longitude": grid.longitude.size}
    row, layer = ({value: at for at, value in enumerate(axis)} for axis in (seconds, levels))
    where = {(row[time], layer[level]): offset for (time, level), offset in fields.where.items()}
    variable = lazy_variable(
        sizes,
        np.dtype(np.float32),
        _reader(stream, where, grid.cells, on_levels=fields.on_levels),
        {"units": str(fields.first["units"])},
        {"time": 1, "level": 1},
    )
    axes = {
        "time": xr.Variable("time", np.array(seconds, "datetime64[s]").astype("datetime64[ns]")),
        "latitude": xr.Variable("latitude", grid.latitude, {"units": "degrees_north"}),
        "longitude": xr.Variable("longitude", grid.longitude, {"units": "degrees_east"}),
        "expver": xr.Variable("time", np.array([fields.versions[time] for time in seconds])),
    }
    if fields.on_levels:
        axes["level"] = xr.Variable("level", np.array(levels), {"units": "hPa"})
    return xr.Dataset({_name(fields.first): variable}).assign_coords(xr.Coordinates(axes, indexes={}))


def _reader(
    stream: Any, where: dict[tuple[int, int], Any], cells: np.ndarray, *, on_levels: bool
) -> Callable[[Places], np.ndarray]:
    def read(places: Places) -> np.ndarray:
        levels = places[1] if on_levels else np.zeros(1, int)
        chosen = cells[places[-2]][:, places[-1]]
        values = np.full((places[0].size, levels.size, *chosen.shape), np.nan, np.float32)
        for at in np.ndindex(*values.shape[:2]):
            offset = where.get((int(places[0][at[0]]), int(levels[at[1]])))
            if offset is not None:
                values[at] = _values(stream, offset)[chosen]
        return values if on_levels else values[:, 0]

    return read


def _values(stream: Any, offset: Any) -> np.ndarray:
    """The values of the message at an offset, float32 [cell], NaN where they are missing."""
    with LOCK:
        message = stream[offset]
        values = np.asarray(message["values"], np.float64)
        missing = float(message["missingValue"])
    return np.where(values == missing, np.nan, values).astype(np.float32)


def _name(header: Header) -> str:
    """As the data store's NetCDF has it, which is not ecCodes' short name where that begins with a digit."""
    own = header["cfVarName"]
    return str(header["shortName"] if own in ("undef", "unknown") else own)
