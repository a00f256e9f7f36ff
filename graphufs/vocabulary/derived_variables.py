"""What derived variables are made of. Imports no array library: experiments name them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from graphufs.errors import UserError, did_you_mean

U, V, PHI, T, Q = "u_component_of_wind", "v_component_of_wind", "geopotential", "temperature", "specific_humidity"


@dataclass(frozen=True)
class DerivedVariable:
    """What a derived variable is made of."""

    inputs: tuple[str, ...]
    units: str
    on_levels: bool = True
    """Whether it has levels."""
    column: bool = False
    """Whether it needs the levels above each other."""
    pressure: bool = False
    """Whether it takes levels for surfaces of constant pressure: it then means nothing on native layers."""
    hours: int = 0
    """For precipitation, the hours that are added up along a forecast's leads."""
    source_hours: int = 0
    """The hours that each of its input's amounts is of; 0 for a running total."""
    variable: str = ""
    """What the variable is called: as it is asked for, or without what it is made from."""


def _accumulated(source: str, hours: int, source_hours: int = 0) -> DerivedVariable:
    name = f"total_precipitation_{hours}hr"
    return DerivedVariable((source,), "m", on_levels=False, hours=hours, source_hours=source_hours, variable=name)


def _column(inputs: tuple[str, ...], units: str) -> DerivedVariable:
    return DerivedVariable(inputs, units, on_levels=False, column=True, pressure=True)


_TABLE = {
    "wind_speed": DerivedVariable((U, V), "m s-1"),
    "10m_wind_speed": DerivedVariable((f"10m_{U}", f"10m_{V}"), "m s-1", on_levels=False),
    "divergence": DerivedVariable((U, V), "s-1"),
    "vorticity": DerivedVariable((U, V), "s-1"),
    "vertical_velocity": DerivedVariable((U, V), "Pa s-1", column=True, pressure=True),
    "eddy_kinetic_energy": _column((U, V), "m2 s-2 hPa"),
    "geostrophic_wind_speed": DerivedVariable((PHI,), "m s-1", pressure=True),
    "u_component_of_geostrophic_wind": DerivedVariable((PHI,), "m s-1", pressure=True),
    "v_component_of_geostrophic_wind": DerivedVariable((PHI,), "m s-1", pressure=True),
    "ageostrophic_wind_speed": DerivedVariable((U, V, PHI), "m s-1", pressure=True),
    "u_component_of_ageostrophic_wind": DerivedVariable((U, V, PHI), "m s-1", pressure=True),
    "v_component_of_ageostrophic_wind": DerivedVariable((U, V, PHI), "m s-1", pressure=True),
    "lapse_rate": DerivedVariable((T, PHI), "K m-1", column=True, pressure=True),
    "total_column_vapor": _column((Q,), "hPa s2 m-1"),
    "total_column_liquid": _column(("specific_cloud_liquid_water_content",), "hPa s2 m-1"),
    "total_column_ice": _column(("specific_cloud_ice_water_content",), "hPa s2 m-1"),
    "integrated_vapor_transport": _column((U, V, Q), "hPa s"),
    "relative_humidity": DerivedVariable((T, Q), "1", pressure=True),
    "total_precipitation_6hr": _accumulated("total_precipitation", 6),
    "total_precipitation_24hr": _accumulated("total_precipitation", 24),
    "total_precipitation_24hr_from_6hr": _accumulated("total_precipitation_6hr", 24, 6),
    "total_precipitation_6hr_from_3hr": _accumulated("total_precipitation_3hr", 6, 3),
    "total_precipitation_24hr_from_3hr": _accumulated("total_precipitation_3hr", 24, 3),
}

DERIVED_VARIABLES: dict[str, DerivedVariable] = {
    name: replace(derived, variable=derived.variable or name) for name, derived in _TABLE.items()
}
"""The derived variables by the name they are asked for by; those that WeatherBench2 has are called as there."""


def check_names(names: Iterable[str]) -> None:
    """Check that all are known.

    Raises
    ------
    UserError
        If one is not, naming the nearest, or if two would make the same variable.
    """
    made: dict[str, str] = {}
    for name in names:
        if name not in DERIVED_VARIABLES:
            hint = did_you_mean(name, DERIVED_VARIABLES)
            raise UserError(f"there is no derived variable {name}{hint}; there are {', '.join(DERIVED_VARIABLES)}")
        variable = DERIVED_VARIABLES[name].variable
        if variable in made:
            raise UserError(f"{made[variable]} and {name} are both {variable}; keep one of them")
        made[variable] = name
