"""The world's output as Replay's fv3.zarr lays it out: names, attributes, dimensions, time coordinates, rounding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graphufs.replay.synthetic.growing_zarr import Array

STAMP = np.timedelta64(6, "h")
"""Time between two stamps."""

WORLD_START = np.datetime64("1993-12-31T18", "h")
"""The first stamp, as in Replay."""

SIGMA_INTERFACES = (0.0, 0.06, 0.15, 0.28, 0.44, 0.61, 0.78, 0.91, 1.0)
"""Pressure over surface pressure at the interfaces of the layers, from the top; here, as dinosaur is slow to import."""

_HORIZONTAL = ("grid_yt", "grid_xt")
_FLOAT = np.dtype("<f4")
_DOUBLE = np.dtype("<f8")
_INTEGER = np.dtype("<i8")


class Field(NamedTuple):
    """A variable as Replay spells it, and the step its values are rounded to (a power of two, in its units)."""

    long_name: str
    units: str
    output_file: str
    step: float


# Replay too rounds its three-dimensional fields to equal steps, with largest errors of 0.0047 K, 0.0089 and 0.0075 m/s,
# 6.7e-7 kg/kg, 0.094 m and 0.055 Pa in this order.
LEVEL_FIELDS = {
    "tmp": Field("temperature", "K", "dyn", 2.0**-7),
    "ugrd": Field("zonal wind", "m/sec", "dyn", 2.0**-6),
    "vgrd": Field("meridional wind", "m/sec", "dyn", 2.0**-6),
    "spfh": Field("specific humidity", "kg/kg", "dyn", 2.0**-22),
    "delz": Field("height thickness", "m", "dyn", 2.0**-3),
    "dpres": Field("pressure thickness", "pa", "dyn", 2.0**-3),
}
SURFACE_FIELDS = {
    "pressfc": Field("surface pressure", "Pa", "phy", 2.0**-3),
    "ugrd10m": Field("10 meter u wind", "m/s", "phy", 2.0**-8),
    "vgrd10m": Field("10 meter v wind", "m/s", "phy", 2.0**-8),
    "tmp2m": Field("2m temperature", "K", "phy", 2.0**-8),
    "spfh2m": Field("2m specific humidity", "kg/kg", "phy", 2.0**-22),
    "tmpsfc": Field("surface temperature", "K", "phy", 2.0**-8),
    "prateb_ave": Field("bucket surface precipitation rate", "kg/m**2/s", "phy", 2.0**-28),
    "dswrf_avetoa": Field("top of atmos downward shortwave flux", "W/m**2", "phy", 2.0**-6),
    "land": Field("sea-land-ice mask (0-sea, 1-land, 2-ice)", "numerical", "phy", 1.0),
    "hgtsfc": Field("surface geopotential height", "m", "dyn", 2.0**-7),
}
_FIELDS = LEVEL_FIELDS | SURFACE_FIELDS


def _array(name: str, field: Field, dimensions: tuple[str, ...]) -> Array:
    attributes: dict[str, Any] = {
        "long_name": field.long_name,
        "units": field.units,
        "output_file": field.output_file,
        "cell_methods": "time: point",  # Replay says so of averages too
        "max_abs_compression_error": field.step / 2,
    }
    if name in LEVEL_FIELDS:
        attributes["nbits"] = 14 if field.step > 2.0**-3 else 17
    if "time" in dimensions:
        attributes["coordinates"] = "cftime ftime"
    return Array(name, dimensions, _FLOAT, attributes)


_TIME_UNITS = f"hours since {str(WORLD_START).replace('T', ' ')}:00:00"


def _axis(name: str, dimension: str, kind: np.dtype[Any], **attributes: str) -> Array:
    return Array(name, (dimension,), kind, attributes)


ARRAYS: tuple[Array, ...] = (
    _axis("time", "time", _INTEGER, axis="T", long_name="time", units=_TIME_UNITS, calendar="proleptic_gregorian"),
    _axis(
        "cftime", "time", _INTEGER,
        calendar_type="JULIAN", cartesian_axis="T", long_name="time", units=_TIME_UNITS, calendar="julian",
    ),
    _axis(
        "ftime", "time", _INTEGER,
        axis="T", long_name="forecast_time", description="time passed since forecast initialization", units="hours",
        dtype="timedelta64[ns]",
    ),
    _axis(
        "pfull", "pfull", _FLOAT,
        long_name="ref full pressure level", units="mb", positive="down", cartesian_axis="Z", edges="phalf",
    ),
    _axis("grid_yt", "grid_yt", _DOUBLE, long_name="T-cell latitude", units="degrees_N", cartesian_axis="Y"),
    _axis("grid_xt", "grid_xt", _DOUBLE, long_name="T-cell longitude", units="degrees_E", cartesian_axis="X"),
    *(_array(name, field, ("time", "pfull", *_HORIZONTAL)) for name, field in LEVEL_FIELDS.items()),
    *(_array(name, field, ("time", *_HORIZONTAL)) for name, field in SURFACE_FIELDS.items()),
    Array(
        "land_static",
        _HORIZONTAL,
        np.dtype("<i4"),
        {"long_name": "static land-sea/ice mask", "description": "1 = land, 0 = not land", "units": "numerical"},
    ),
    _array("hgtsfc_static", SURFACE_FIELDS["hgtsfc"], _HORIZONTAL),
)  # fmt: skip
"""All arrays of the store, coordinates first."""


def block_values(first: int, fields: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[Any]]:
    """Return the growing arrays of a block that begins with stamp number `first`.

    `fields` holds the model's arrays, [stamp, (level,) lon, lat] with latitudes from the south; they come out as
    [stamp, (level,) lat, lon] from the north, rounded to their steps.
    """
    stamps = len(fields["pressfc"])
    hours = (first + np.arange(stamps)) * (STAMP // np.timedelta64(1, "h"))
    # Replay's analyses come in pairs, 0 and 3 hours into a six-hour cycle that starts 6 hours early
    values: dict[str, NDArray[Any]] = {"time": hours, "cftime": hours, "ftime": np.full(stamps, -6)}
    for name, field in _FIELDS.items():
        values[name] = _round(north_first(fields[name]), field.step)
    return values


def static_values(
    longitude: NDArray[Any], latitude: NDArray[Any], pressure: NDArray[Any], land: NDArray[Any], height: NDArray[Any]
) -> dict[str, NDArray[Any]]:
    """Return the arrays that do not grow: axes in degrees and hPa; land fraction and height [m] on [lon, lat]."""
    return {
        "pfull": pressure,
        "grid_yt": latitude[::-1],
        "grid_xt": longitude,
        "land_static": north_first(land) > 0.5,
        "hgtsfc_static": _round(north_first(height), SURFACE_FIELDS["hgtsfc"].step),
    }


def north_first(values: NDArray[Any]) -> NDArray[Any]:
    """[..., lon, lat] with latitudes from the south turned into [..., lat, lon] with latitudes from the north."""
    return np.ascontiguousarray(np.swapaxes(values, -1, -2)[..., ::-1, :])


def _round(values: NDArray[np.float32], step: float) -> NDArray[np.float32]:
    """Round to whole steps; with a power of two this is exact in binary and frees the last bits for compression.

    Adding zero turns -0 into 0.
    """
    return np.asarray(np.round(values / np.float32(step)) * np.float32(step) + np.float32(0), np.float32)
