"""The one table between Replay's names and WeatherBench2's, with the conversion of units where they differ.

A Replay variable is in the table only where the two names mean the same physical quantity. So `delz` (a layer's
thickness) is never "geopotential", `dzdt` [m/s] is no "vertical_velocity" [Pa/s], and `dswrf_avetoa`, a mean over
three hours, is no "toa_incident_solar_radiation", a sum over one. Variables outside the table keep their Replay name.

This module imports no array library.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from graphufs.errors import UserError, did_you_mean

STANDARD_GRAVITY = 9.80665
"""m/s2; turns a height in geopotential metres into a geopotential."""


@dataclass(frozen=True)
class Variable:
    """A quantity both sides know: value in WeatherBench2's `units` = `scale` times the value in Replay."""

    replay: str
    weatherbench: str
    long_name: str
    units: str
    dimensions: Literal["levels", "surface", "static"]
    scale: float = 1.0


TABLE: tuple[Variable, ...] = (
    Variable("tmp", "temperature", "temperature", "K", "levels"),
    Variable("ugrd", "u_component_of_wind", "eastward wind", "m s-1", "levels"),
    Variable("vgrd", "v_component_of_wind", "northward wind", "m s-1", "levels"),
    Variable("spfh", "specific_humidity", "specific humidity", "kg kg-1", "levels"),
    Variable("geopotential", "geopotential", "geopotential", "m2 s-2", "levels"),
    Variable("o3mr", "ozone_mass_mixing_ratio", "ozone mass mixing ratio", "kg kg-1", "levels"),
    Variable("pressfc", "surface_pressure", "surface pressure", "Pa", "surface"),
    Variable("ugrd10m", "10m_u_component_of_wind", "eastward wind at 10 m", "m s-1", "surface"),
    Variable("vgrd10m", "10m_v_component_of_wind", "northward wind at 10 m", "m s-1", "surface"),
    Variable("tmp2m", "2m_temperature", "temperature at 2 m", "K", "surface"),
    Variable("pwat", "total_column_water_vapour", "column water vapour", "kg m-2", "surface"),
    Variable("hpbl", "boundary_layer_height", "boundary layer height", "m", "surface"),
    Variable("icec", "sea_ice_cover", "sea ice fraction", "1", "surface"),
    Variable("tmpsfc", "skin_temperature", "surface temperature", "K", "surface"),
    # A mean rate over the three hours ending at the stamp [kg m-2 s-1]: three hours of it, as metres of water.
    Variable(
        "prateb_ave", "total_precipitation_3hr", "precipitation of 3 hours", "m", "surface", scale=3 * 3600 / 1000.0
    ),
    Variable("land_static", "land_sea_mask", "land fraction", "1", "static"),
    Variable(
        "hgtsfc_static",
        "geopotential_at_surface",
        "geopotential of the surface",
        "m2 s-2",
        "static",
        scale=STANDARD_GRAVITY,
    ),
)

LAND_STATIC, LAND_SEA_MASK = "land_static", "land_sea_mask"
"""Replay's land mask, the same whatever the sea ice (0 is water, 1 land, 2 ice), and that of analyses, a fraction."""

BY_REPLAY: dict[str, Variable] = {variable.replay: variable for variable in TABLE}
BY_WEATHERBENCH: dict[str, Variable] = {variable.weatherbench: variable for variable in TABLE}


def weatherbench_name(replay: str) -> str:
    """WeatherBench2's name of a Replay variable; the name itself where WeatherBench2 has no such quantity."""
    return BY_REPLAY[replay].weatherbench if replay in BY_REPLAY else replay


def replay_name(weatherbench: str) -> str:
    """Replay's name of a WeatherBench2 variable; the name itself where Replay has no such quantity."""
    return BY_WEATHERBENCH[weatherbench].replay if weatherbench in BY_WEATHERBENCH else weatherbench


def weatherbench_scale(replay: str) -> float:
    """The factor from Replay's units to WeatherBench2's; 1 where they agree or the variable is outside the table."""
    return BY_REPLAY[replay].scale if replay in BY_REPLAY else 1.0


PRESSURE_LEVEL = "level"
"""What WeatherBench2 calls the dimension of pressure levels; on Replay's own layers it is called otherwise."""


class OtherName(NamedTuple):
    """What a name stands for: a variable that is stored by another, and the factor to the units that go with it."""

    stored: str
    factor: float


def other_names(stored: Iterable[str]) -> dict[str, OtherName]:
    """The other of its two names for each stored variable of the table; none where both are stored."""
    stored, found = set(stored), {}
    for variable in TABLE:
        if variable.replay == variable.weatherbench or {variable.replay, variable.weatherbench} <= stored:
            continue
        if variable.weatherbench in stored:
            found[variable.replay] = OtherName(variable.weatherbench, 1 / variable.scale)
        elif variable.replay in stored:
            found[variable.weatherbench] = OtherName(variable.replay, variable.scale)
    return found


Naming = Literal["Replay", "WeatherBench2"]


def naming(names: Iterable[str]) -> Naming | None:
    """Whose names these are; None where no name is of one side alone.

    Raises
    ------
    ValueError
        If some are Replay's and some WeatherBench2's.
    """
    names = sorted(names)
    replay = [name for name in names if name in BY_REPLAY and name not in BY_WEATHERBENCH]
    weatherbench = [name for name in names if name in BY_WEATHERBENCH and name not in BY_REPLAY]
    if replay and weatherbench:
        raise ValueError(
            f"{replay[0]} is Replay's name and {weatherbench[0]} WeatherBench2's; name all variables alike: "
            f"{', '.join(map(weatherbench_name, replay))}, or else {', '.join(map(replay_name, weatherbench))}"
        )
    return "Replay" if replay else "WeatherBench2" if weatherbench else None


DERIVED_FORCINGS = (
    "day_progress_cos",
    "day_progress_sin",
    "toa_incident_solar_radiation",
    "year_progress_cos",
    "year_progress_sin",
)
"""Variables computed from time and place, found in no store (graphufs.forcings)."""


def check_variables(names: Iterable[str], available: Iterable[str], where: str) -> None:
    """Refuse names that are not available, with the nearest that are.

    Raises
    ------
    UserError
        Naming every unknown variable.
    """
    available = set(available)
    complaints = []
    for name in names:
        if name in available:
            continue
        translated = replay_name(name)
        known = sorted(available | set(DERIVED_FORCINGS))
        first = [translated] if translated in available else []
        complaints.append(f"{name!r}" + did_you_mean(name, known, first=first, most=3))
    if complaints:
        shown = ", ".join(sorted(available)) if len(available) <= 40 else f"{len(available)} variables"
        raise UserError(f"{where} has no variable {', no variable '.join(complaints)}. It has {shown}")
