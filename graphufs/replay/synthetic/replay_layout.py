"""The world's output as Replay's fv3.zarr lays it out: names, attributes, dimensions, time coordinates, quantisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numcodecs.bitround import BitRound
from numpy.typing import NDArray

from graphufs.replay.synthetic.growing_zarr import Array

STAMP = np.timedelta64(6, "h")
"""Time between two stamps."""

WORLD_START = np.datetime64("1993-12-31T18", "h")
"""The first stamp, as in Replay."""

LEVEL_BITS = 14
"""Mantissa bits kept in three-dimensional fields. Replay's `nbits` is 14 too, of a linear quantisation."""

SURFACE_BITS = 18
"""Mantissa bits kept in two-dimensional fields (surface pressure to 0.2 Pa)."""

_HORIZONTAL = ("grid_yt", "grid_xt")
_FLOAT = np.dtype("<f4")
_DOUBLE = np.dtype("<f8")
_INTEGER = np.dtype("<i8")

# name: (long name, units, output file), all as Replay spells them
_LEVEL_FIELDS = {
    "tmp": ("temperature", "K", "dyn"),
    "ugrd": ("zonal wind", "m/sec", "dyn"),
    "vgrd": ("meridional wind", "m/sec", "dyn"),
    "spfh": ("specific humidity", "kg/kg", "dyn"),
    "delz": ("height thickness", "m", "dyn"),
    "dpres": ("pressure thickness", "pa", "dyn"),
}
_SURFACE_FIELDS = {
    "pressfc": ("surface pressure", "Pa", "phy"),
    "ugrd10m": ("10 meter u wind", "m/s", "phy"),
    "vgrd10m": ("10 meter v wind", "m/s", "phy"),
    "tmp2m": ("2m temperature", "K", "phy"),
    "spfh2m": ("2m specific humidity", "kg/kg", "phy"),
    "tmpsfc": ("surface temperature", "K", "phy"),
    "prateb_ave": ("bucket surface precipitation rate", "kg/m**2/s", "phy"),
    "dswrf_avetoa": ("top of atmos downward shortwave flux", "W/m**2", "phy"),
    "land": ("sea-land-ice mask (0-sea, 1-land, 2-ice)", "numerical", "phy"),
    "hgtsfc": ("surface geopotential height", "m", "dyn"),
}


def _field(name: str, description: tuple[str, str, str], dimensions: tuple[str, ...], bits: int) -> Array:
    long_name, units, output_file = description
    attributes = {
        "long_name": long_name,
        "units": units,
        "output_file": output_file,
        "cell_methods": "time: point",  # Replay says so of averages too
        "nbits": bits,
        "coordinates": "cftime ftime",
    }
    return Array(name, ("time", *dimensions), _FLOAT, attributes)


_TIME_UNITS = f"hours since {str(WORLD_START).replace('T', ' ')}:00:00"

ARRAYS: tuple[Array, ...] = (
    Array(
        "time",
        ("time",),
        _INTEGER,
        {"axis": "T", "long_name": "time", "units": _TIME_UNITS, "calendar": "proleptic_gregorian"},
    ),
    Array(
        "cftime",
        ("time",),
        _INTEGER,
        {
            "calendar_type": "JULIAN",
            "cartesian_axis": "T",
            "long_name": "time",
            "units": _TIME_UNITS,
            "calendar": "julian",
        },
    ),
    Array(
        "ftime",
        ("time",),
        _INTEGER,
        {
            "axis": "T",
            "long_name": "forecast_time",
            "description": "time passed since forecast initialization",
            "units": "hours",
            "dtype": "timedelta64[ns]",
        },
    ),
    Array(
        "pfull",
        ("pfull",),
        _FLOAT,
        {
            "long_name": "ref full pressure level",
            "units": "mb",
            "positive": "down",
            "cartesian_axis": "Z",
            "edges": "phalf",
        },
    ),
    Array("grid_yt", ("grid_yt",), _DOUBLE, {"long_name": "T-cell latitude", "units": "degrees_N", "cartesian_axis": "Y"}),
    Array("grid_xt", ("grid_xt",), _DOUBLE, {"long_name": "T-cell longitude", "units": "degrees_E", "cartesian_axis": "X"}),
    *(_field(name, text, ("pfull", *_HORIZONTAL), LEVEL_BITS) for name, text in _LEVEL_FIELDS.items()),
    *(_field(name, text, _HORIZONTAL, SURFACE_BITS) for name, text in _SURFACE_FIELDS.items()),
    Array(
        "land_static",
        _HORIZONTAL,
        np.dtype("<i4"),
        {"long_name": "static land-sea/ice mask", "description": "1 = land, 0 = not land", "units": "numerical"},
    ),
    Array(
        "hgtsfc_static",
        _HORIZONTAL,
        _FLOAT,
        {"long_name": "surface geopotential height", "units": "m", "output_file": "dyn", "cell_methods": "time: point"},
    ),
)
"""All arrays of the store, coordinates first."""


def block_values(first: int, fields: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[Any]]:
    """The growing arrays of a block that begins with stamp number `first`.

    `fields` holds the model's arrays, [stamp, (level,) lon, lat] with latitudes from the south; they come out as
    [stamp, (level,) lat, lon] from the north, rounded to the bits the attributes tell.
    """
    stamps = len(fields["pressfc"])
    hours = (first + np.arange(stamps)) * (STAMP // np.timedelta64(1, "h"))
    # Replay's analyses come in pairs, 0 and 3 hours into a six-hour cycle that starts 6 hours early
    values: dict[str, NDArray[Any]] = {"time": hours, "cftime": hours, "ftime": np.full(stamps, -6)}
    for array in ARRAYS:
        if array.name in fields:
            values[array.name] = _round(north_first(fields[array.name]), array.attributes["nbits"])
    return values


def static_values(
    longitude: NDArray[Any], latitude: NDArray[Any], pressure: NDArray[Any], land: NDArray[Any], height: NDArray[Any]
) -> dict[str, NDArray[Any]]:
    """The arrays that do not grow: axes in degrees and hPa; land fraction and height [m] on [lon, lat]."""
    return {
        "pfull": pressure,
        "grid_yt": latitude[::-1],
        "grid_xt": longitude,
        "land_static": north_first(land) > 0.5,
        "hgtsfc_static": _round(north_first(height), SURFACE_BITS),
    }


def north_first(values: NDArray[Any]) -> NDArray[Any]:
    """[..., lon, lat] with latitudes from the south turned into [..., lat, lon] with latitudes from the north."""
    return np.ascontiguousarray(np.swapaxes(values, -1, -2)[..., ::-1, :])


def _round(values: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Round to nearest at `bits` bits of mantissa, so that the rest compresses to nothing (zero stays zero).

    Kloewer et al., Nature Computational Science 1 (2021), 713-724.
    """
    return np.asarray(BitRound(keepbits=bits).encode(np.ascontiguousarray(values, np.float32))).view(np.float32)
