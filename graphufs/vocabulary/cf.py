"""How the CF conventions (cfconventions.org, version 1.11) describe forecasts: attributes of coordinates and variables.

Variables are called as in WeatherBench2. This module imports no array library.
"""

from __future__ import annotations

from collections.abc import Mapping

CONVENTIONS = "CF-1.11"

INITIAL_TIME = {"standard_name": "forecast_reference_time", "long_name": "initial time", "axis": "T"}
TIME = {"standard_name": "time", "long_name": "time", "axis": "T"}
LEAD_TIME = {"standard_name": "forecast_period", "long_name": "lead time"}
VALID_TIME = {"standard_name": "time", "long_name": "valid time"}
LATITUDE = {"standard_name": "latitude", "long_name": "latitude", "units": "degrees_north", "axis": "Y"}
LONGITUDE = {"standard_name": "longitude", "long_name": "longitude", "units": "degrees_east", "axis": "X"}
MEMBER = {"standard_name": "realization", "long_name": "ensemble member", "units": "1"}
HEIGHT = {"standard_name": "height", "long_name": "height above the ground", "units": "m", "positive": "up"}
CALENDAR = "proleptic_gregorian"
TIMES_SINCE = "hours since 1970-01-01"

PRESSURE, LAYERS, DEPTH = "pressure levels", "native model layers", "depths"
"""What the attribute `vertical` of a variable or of its levels calls them."""

VERTICAL: Mapping[str, Mapping[str, str]] = {
    PRESSURE: {"standard_name": "air_pressure", "long_name": "pressure", "units": "hPa"},
    LAYERS: {"long_name": "pressure that a native layer is called by", "units": "hPa"},
    DEPTH: {"standard_name": "depth", "long_name": "depth", "units": "m"},
}
"""By what levels are. A layer has no standard name by its pressure, as that varies with the surface pressure."""

STANDARD_NAMES: Mapping[str, str] = {
    "temperature": "air_temperature",
    "u_component_of_wind": "eastward_wind",
    "v_component_of_wind": "northward_wind",
    "specific_humidity": "specific_humidity",
    "geopotential": "geopotential",
    "ozone_mass_mixing_ratio": "mass_fraction_of_ozone_in_air",
    "surface_pressure": "surface_air_pressure",
    "10m_u_component_of_wind": "eastward_wind",
    "10m_v_component_of_wind": "northward_wind",
    "2m_temperature": "air_temperature",
    "total_column_water_vapour": "atmosphere_mass_content_of_water_vapor",
    "boundary_layer_height": "atmosphere_boundary_layer_thickness",
    "sea_ice_cover": "sea_ice_area_fraction",
    "skin_temperature": "surface_temperature",
    "total_precipitation_3hr": "lwe_thickness_of_precipitation_amount",
    "land_sea_mask": "land_area_fraction",
    "geopotential_at_surface": "surface_geopotential",
}

HEIGHTS: Mapping[str, float] = {"2m_temperature": 2.0, "10m_u_component_of_wind": 10.0, "10m_v_component_of_wind": 10.0}
"""Height above the ground in metres, of variables that their standard name does not tell from those on levels."""

AMOUNTS: Mapping[str, int] = {"total_precipitation_3hr": 3}
"""Hours that end at the valid time, of variables that are added up over them."""


def of_variable(name: str) -> dict[str, str]:
    """The attributes `standard_name` and `cell_methods` of a variable, as far as it has them."""
    found = {"standard_name": STANDARD_NAMES[name]} if name in STANDARD_NAMES else {}
    if name in AMOUNTS:
        found["cell_methods"] = f"time: sum (comment: over the {AMOUNTS[name]} hours that end at the valid time)"
    return found


def of_levels(vertical: str) -> dict[str, str]:
    """The attributes of the coordinate `level`, by what its values are."""
    return {**VERTICAL[vertical], "axis": "Z", "positive": "down"}
