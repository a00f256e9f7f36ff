"""What analyses call their dimensions and variables, and WeatherBench2's names of them.

This module imports no array library.
"""

from __future__ import annotations

import re

from graphufs.vocabulary.variables import BY_REPLAY, PRESSURE_LEVEL, TABLE

MEMBERS = ("number", "realization", "ensemble", "member", "expver")
"""Dimensions of which an analysis has one place: members, and the versions of the data store's former files."""

_DIMENSIONS = {
    "valid_time": "time",
    "lat": "latitude",
    "lon": "longitude",
    "pressure_level": PRESSURE_LEVEL,
    "isobaricInhPa": PRESSURE_LEVEL,
    "plev": PRESSURE_LEVEL,
}

STATIC = frozenset(
    name for known in TABLE if known.dimensions == "static" for name in (known.weatherbench, known.replay)
)
"""Fields that are the same at all times, although stores may repeat them."""

_ECMWF_ON_LEVELS = {
    "t": "temperature",
    "u": "u_component_of_wind",
    "v": "v_component_of_wind",
    "w": "vertical_velocity",
    "q": "specific_humidity",
    "z": "geopotential",
    "vo": "vorticity",
    "d": "divergence",
    "pv": "potential_vorticity",
    "o3": "ozone_mass_mixing_ratio",
    "cc": "fraction_of_cloud_cover",
    "clwc": "specific_cloud_liquid_water_content",
    "ciwc": "specific_cloud_ice_water_content",
    "crwc": "specific_rain_water_content",
    "cswc": "specific_snow_water_content",
}
_ECMWF_AT_SURFACE = {
    "t2m": "2m_temperature",
    "2t": "2m_temperature",
    "d2m": "2m_dewpoint_temperature",
    "2d": "2m_dewpoint_temperature",
    "u10": "10m_u_component_of_wind",
    "10u": "10m_u_component_of_wind",
    "v10": "10m_v_component_of_wind",
    "10v": "10m_v_component_of_wind",
    "u100": "100m_u_component_of_wind",
    "100u": "100m_u_component_of_wind",
    "v100": "100m_v_component_of_wind",
    "100v": "100m_v_component_of_wind",
    "msl": "mean_sea_level_pressure",
    "sp": "surface_pressure",
    "skt": "skin_temperature",
    "sst": "sea_surface_temperature",
    "siconc": "sea_ice_cover",
    "ci": "sea_ice_cover",
    "blh": "boundary_layer_height",
    "tcwv": "total_column_water_vapour",
    "tcc": "total_cloud_cover",
    "lsm": "land_sea_mask",
    "z": "geopotential_at_surface",
}
"""ECMWF's short names. An amount that is added up, such as tp, keeps its name: over how long, the name does not say."""

_ON_LEVEL = re.compile(r"(?P<name>.+)_(?P<level>\d+)")


def dimension_name(own: str) -> str:
    """WeatherBench2's name of a dimension; the name itself where it has no other."""
    return _DIMENSIONS.get(own, own)


def weatherbench_name_of(own: str, *, levels: bool) -> str:
    """WeatherBench2's name of a variable by ECMWF's short name, by Replay's or by its own; else the name itself."""
    short = _ECMWF_ON_LEVELS if levels else _ECMWF_AT_SURFACE
    if own in short:
        return short[own]
    known = BY_REPLAY.get(own)
    # of another scale it is another quantity
    return known.weatherbench if known and known.scale == 1.0 else own


def lies_on_levels(own: str) -> bool:
    """Whether a name is that of a quantity on levels, whose field at the ground has another name or none."""
    return own in _ECMWF_ON_LEVELS or any(
        own in (known.replay, known.weatherbench) for known in TABLE if known.dimensions == "levels"
    )


def name_and_level(own: str) -> tuple[str, int | None]:
    """A variable on one level, such as t_500, as its name and the level in hPa; another without level."""
    if (found := _ON_LEVEL.fullmatch(own)) and lies_on_levels(found["name"]):
        return found["name"], int(found["level"])
    return own, None
