"""The units that variables are prepared in, and wide bounds that no weather or model climate leaves.

The bounds are there to find what is no weather: other units without a word (Celsius, hPa, g/kg), packed integers,
broken chunks. So they lie well outside of what was ever observed or modelled. A variable whose label in Replay is a
placeholder or not to be trusted, or which holds what a model begins with at a forecast's start (the extremes of a time,
1e10 for a minimum), is not in the table and is not checked.

This module imports no array library.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphufs.vocabulary.variables import TABLE


@dataclass(frozen=True)
class Quantity:
    """The units a variable is prepared in, and the smallest and largest value that is believed, both included."""

    units: str
    low: float
    high: float


_WIND, _SURFACE_WIND = Quantity("m/s", -350, 350), Quantity("m/s", -150, 150)
_TEMPERATURE, _SURFACE_TEMPERATURE = Quantity("K", 80, 400), Quantity("K", 150, 370)
_HUMIDITY = Quantity("kg/kg", -1e-3, 0.1)
_FRACTION = Quantity("1", -0.01, 1.01)
_HEIGHT = Quantity("m", -1000, 9500)
_RAIN = Quantity("kg/m**2/s", -1e-4, 0.1)
_DOWNWARD_OR_UPWARD, _NET = Quantity("W/m**2", -5, 2000), Quantity("W/m**2", -5000, 5000)
_STRESS = Quantity("N/m**2", -100, 100)

_NAMES = {
    "ugrd vgrd": _WIND,
    "ugrd10m vgrd10m ugrd_hyblev1 vgrd_hyblev1": _SURFACE_WIND,
    "dzdt": Quantity("m/s", -100, 100),
    "tmp": _TEMPERATURE,
    "tmp2m tmpsfc": _SURFACE_TEMPERATURE,
    "tmp_hyblev1 soilt1 soilt2 soilt3 soilt4 tg3": Quantity("K", -1, 370),  # may be 0 where there is no soil
    "spfh spfh2m spfh_hyblev1 clwmr icmr rwmr snmr grle": _HUMIDITY,
    "o3mr": Quantity("kg/kg", -1e-4, 1e-3),
    "cldfra icec land_static": _FRACTION,
    "land": Quantity("1", -0.01, 2.01),
    "pressfc": Quantity("Pa", 30_000, 120_000),
    "dpres": Quantity("Pa", -1, 120_000),
    "delz": Quantity("m", -20_000, 20_000),
    "geopotential": Quantity("m**2/s**2", -2e4, 1.5e6),
    "hgtsfc hgtsfc_static orog": _HEIGHT,
    "hpbl": Quantity("m", -1, 20_000),
    "pwat": Quantity("kg/m**2", -1, 200),
    "weasd": Quantity("kg/m**2", -1, 1e6),
    "snod": Quantity("m", -0.01, 1000),
    "prate_ave prateb_ave cprat_ave cpratb_ave": _RAIN,
    "dswrf dswrf_ave dswrf_avetoa dlwrf dlwrf_ave ulwrf ulwrf_ave ulwrf_avetoa uswrf uswrf_ave uswrf_avetoa "
    "csdlf csdsf csulf csulftoa csusf csusftoa": _DOWNWARD_OR_UPWARD,
    "shtfl shtfl_ave lhtfl lhtfl_ave gflux gflux_ave": _NET,
    "uflx_ave vflx_ave": _STRESS,
    # the ocean
    "temp": Quantity("degC", -10, 60),
    "so": Quantity("psu", -1, 60),
    "SSH": Quantity("m", -30, 30),
    "uo vo": Quantity("m/s", -10, 10),
    "ho": Quantity("m", -1, 7000),
}

_ANALYSES = {
    "mean_sea_level_pressure": Quantity("Pa", 80_000, 115_000),
    "2m_dewpoint_temperature sea_surface_temperature": _SURFACE_TEMPERATURE,
    "vertical_velocity": Quantity("Pa/s", -200, 200),
    "vorticity divergence": Quantity("1/s", -0.05, 0.05),
    "potential_vorticity": Quantity("K*m**2/kg/s", -0.1, 0.1),
    "specific_cloud_liquid_water_content specific_cloud_ice_water_content "
    "specific_rain_water_content specific_snow_water_content": _HUMIDITY,
    "fraction_of_cloud_cover total_cloud_cover": _FRACTION,
    "100m_u_component_of_wind 100m_v_component_of_wind": _SURFACE_WIND,
    "total_precipitation total_precipitation_6hr total_precipitation_12hr total_precipitation_24hr":
        Quantity("m", -1e-3, 3),
}  # fmt: skip
"""By WeatherBench2's names, what Replay has not."""

_BY_REPLAY = {name: quantity for names, quantity in _NAMES.items() for name in names.split()}
_BY_WEATHERBENCH = {name: quantity for names, quantity in _ANALYSES.items() for name in names.split()} | {
    variable.weatherbench: Quantity(
        variable.units.replace(" ", "*").replace("m2", "m**2").replace("-2", "**-2").replace("-1", "**-1"),
        _BY_REPLAY[variable.replay].low * variable.scale,
        _BY_REPLAY[variable.replay].high * variable.scale,
    )
    for variable in TABLE
}
QUANTITIES: dict[str, Quantity] = _BY_WEATHERBENCH | _BY_REPLAY
"""By the variable's name, Replay's and WeatherBench2's."""

LEVELS: dict[str, Quantity] = {"fv3": Quantity("hPa", 0, 1200), "mom6": Quantity("m", -1, 12_000)}
"""What levels are in, by component: the pressure of the atmosphere's layers, the depth of the ocean's."""
