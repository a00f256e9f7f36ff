"""A run as GRIB2, one message a field, written by ecCodes (the extra `grib`).

Native layers stay what they are: hybrid levels (type 105) with the coefficients of all interfaces in each message, or
sigma levels (type 104) for the embedded world. Pressure levels are type 100. The centre is 255, missing: who publishes
sets his own, as with `grib_set -s centre=kwbc`. Simple packing is what every reader knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from graphufs.errors import UserError
from graphufs.grid.areas import TOLERANCE, gaussian_latitudes
from graphufs.products.run import layers
from graphufs.replay.pressure_levels import Layers
from graphufs.storage.atomic import replace_file
from graphufs.vocabulary import cf

INSTALL = "GRIB2 is written by ecCodes, which is not installed; pip install 'graphufs[grib]' brings it"
SHORT_NAMES = {
    "temperature": "t",
    "u_component_of_wind": "u",
    "v_component_of_wind": "v",
    "specific_humidity": "q",
    "geopotential": "z",
    "ozone_mass_mixing_ratio": "o3",
    "surface_pressure": "sp",
    "10m_u_component_of_wind": "10u",
    "10m_v_component_of_wind": "10v",
    "2m_temperature": "2t",
    "total_column_water_vapour": "tcwv",
    "boundary_layer_height": "blh",
    "sea_ice_cover": "ci",
    "skin_temperature": "skt",
    "total_precipitation_3hr": "tp",
}
"""ecCodes' name by WeatherBench2's; the unit is the same but for those in SCALES."""
SCALES = {"total_precipitation_3hr": 1000.0}
"""To GRIB2's kg m-2 from metres of water."""
EVEN = 1e-6
"""Degrees, GRIB2's own: by how much evenly spaced coordinates may be off."""
SIGMA_DIGITS = 6
MOST_MEMBERS = 255
"""As many as fit the byte in which messages count them."""
MISSING = 9999.0


def require() -> None:
    """Check that ecCodes is there.

    Raises
    ------
    UserError
        If not; the message says how to get it.
    """
    try:
        import eccodes  # noqa: F401
    except ImportError as error:
        raise UserError(f"{INSTALL} ({error})") from error


def write(path: Path, run: xr.Dataset, bits: int = 16) -> None:
    """Write a run (`graphufs.products.run`) as GRIB2 with `bits` a value; the file appears whole.

    Raises
    ------
    UserError
        If ecCodes is not installed, or GRIB2 has no name for a variable, level or grid.
    """
    require()
    import eccodes

    grid, rows = grid_keys(run["latitude"].values, run["longitude"].values)
    surfaces = surface_keys(run) if "level" in run.dims else []
    with replace_file(path) as temporary, temporary.open("wb") as file:
        sample = eccodes.codes_grib_new_from_samples(f"{grid['gridType']}_sfc_grib2")
        try:
            for keys, values in _fields(run, surfaces):
                if np.isnan(values).all():  # a level that this variable has not
                    continue
                if np.isinf(values).any():
                    raise UserError(f"{keys['shortName']} has infinite values, which GRIB2 cannot hold; leave it out")
                message = eccodes.codes_clone(sample)
                try:
                    _set(eccodes, message, {**grid, **keys, "bitsPerValue": bits})
                    missing = np.isnan(values)
                    if missing.any():
                        _set(eccodes, message, {"bitmapPresent": 1, "missingValue": MISSING})
                    packed = np.where(missing, MISSING, values)[rows]
                    eccodes.codes_set_values(message, packed.astype(np.float64).ravel())
                    eccodes.codes_write(message, file)
                finally:
                    eccodes.codes_release(message)
        finally:
            eccodes.codes_release(sample)


def _set(eccodes: Any, message: Any, keys: dict[str, Any]) -> None:
    for name, value in keys.items():
        setter = eccodes.codes_set_array if isinstance(value, np.ndarray) else eccodes.codes_set
        setter(message, name, value)


def _fields(run: xr.Dataset, surfaces: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """The keys of each field and its values, float32 [lat, lon] in GRIB2's unit."""
    when = run["time"].values.astype("datetime64[m]").item()
    begin = {"centre": 255, "dataDate": int(when.strftime("%Y%m%d")), "dataTime": when.hour * 100 + when.minute}
    leads = run["prediction_timedelta"].values / np.timedelta64(1, "m")
    unit, minutes = ("h", 60) if (leads % 60 == 0).all() else ("m", 1)
    members = run.sizes.get("realization")
    if members is not None and members > MOST_MEMBERS:
        raise UserError(f"GRIB2 counts {MOST_MEMBERS} members at most, and there are {members}; choose another format")
    if unknown := [str(name) for name in run if name not in SHORT_NAMES]:
        raise UserError(
            f"GRIB2 has no parameter here for {', '.join(unknown)}; leave it out with --variables, which may name "
            f"{', '.join(name for name in run if name in SHORT_NAMES) or 'none of these'}"
        )
    for name, array in run.items():
        hours = cf.AMOUNTS.get(str(name), 0)
        template = (11 if hours else 1) if members else (8 if hours else 0)
        own = {**begin, "productDefinitionTemplateNumber": template, "shortName": SHORT_NAMES[str(name)]}
        for index in np.ndindex(*array.shape[:-2]):
            at = dict(zip(array.dims[:-2], index, strict=True))
            end = int(leads[at["prediction_timedelta"]]) // minutes
            steps = {"startStep": end - hours * 60 // minutes, "endStep": end} if hours else {"step": end}
            keys = {**own, "stepUnits": unit, **steps, **(surfaces[at["level"]] if "level" in at else {})}
            if members:
                keys |= {"perturbationNumber": at["realization"], "numberOfForecastsInEnsemble": members}
            yield keys, array.values[index] * np.float32(SCALES.get(str(name), 1.0))


def surface_keys(run: xr.Dataset) -> list[dict[str, Any]]:
    """The keys of each of a run's levels, in their order.

    Raises
    ------
    UserError
        If levels are native layers of no vertical coordinate that is known, or depths.
    """
    levels = run["level"].values
    if run["level"].attrs.get("standard_name") == "air_pressure":
        return [_pressure(float(level)) for level in levels]
    if (found := layers(run)) is None:
        raise UserError(
            f"GRIB2 needs the vertical coordinate of the levels {', '.join(f'{level:g}' for level in levels)}, and "
            "they are no layers of Replay's atmosphere; bring the forecasts to pressure levels, or choose --to netcdf"
        )
    column, at = found
    return [_hybrid(column, int(layer)) if column.interfaces else _sigma(float(column.b[layer])) for layer in at]


def _pressure(level: float) -> dict[str, Any]:
    kind, value = ("isobaricInhPa", level) if level.is_integer() else ("isobaricInPa", round(level * 100))
    return {"typeOfLevel": kind, "level": int(value)}


def _hybrid(column: Layers, layer: int) -> dict[str, Any]:
    """Layers are counted from 1, the uppermost; a in Pa and b of all interfaces are in each message."""
    coefficients = np.concatenate([column.a * 100, column.b]).astype(np.float64)
    return {"typeOfLevel": "hybrid", "level": layer + 1, "PVPresent": 1, "pv": coefficients}


def _sigma(sigma: float) -> dict[str, Any]:
    surface = "OfFirstFixedSurface"
    value = round(sigma * 10**SIGMA_DIGITS)
    return {"typeOfLevel": "sigma", f"scaleFactor{surface}": SIGMA_DIGITS, f"scaledValue{surface}": value}


def grid_keys(latitude: np.ndarray, longitude: np.ndarray) -> tuple[dict[str, Any], slice]:
    """The keys of a grid of rows [lat] and columns [lon], and the slice that brings rows into GRIB2's order, southward.

    Raises
    ------
    UserError
        If rows are neither Gaussian nor evenly spaced, or points along a row are not.
    """
    rows = slice(None) if latitude[0] > latitude[-1] else slice(None, None, -1)
    north = latitude[rows]
    across, down = np.diff(longitude).mean(), -np.diff(north).mean()
    keys: dict[str, Any] = {
        "Ni": len(longitude),
        "Nj": len(north),
        "latitudeOfFirstGridPointInDegrees": float(north[0]),
        "longitudeOfFirstGridPointInDegrees": float(longitude[0]),
        "latitudeOfLastGridPointInDegrees": float(north[-1]),
        "longitudeOfLastGridPointInDegrees": float(longitude[-1]),
        "iDirectionIncrementInDegrees": float(across),
    }
    gaussian = len(north) % 2 == 0 and np.allclose(north, gaussian_latitudes(len(north)), rtol=0, atol=TOLERANCE)
    if np.allclose(np.diff(longitude), across, rtol=0, atol=EVEN):
        if gaussian:
            return {"gridType": "regular_gg", "N": len(north) // 2, **keys}, rows
        if np.allclose(-np.diff(north), down, rtol=0, atol=EVEN):
            return {"gridType": "regular_ll", **keys, "jDirectionIncrementInDegrees": float(down)}, rows
    raise UserError(
        f"GRIB2 has no grid of {len(longitude)}x{len(north)} points from {north[0]:g} to {north[-1]:g} degrees north: "
        "its rows are neither Gaussian nor evenly spaced; name one to bring fields to, such as --grid 360x181"
    )
