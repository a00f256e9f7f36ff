"""What Earth2Studio calls our fields: one name a horizontal field, level included, in the units of WeatherBench2.

Its names are those of its lexicon (t2m, sp, u10m, t500). "t500" there is the temperature where the pressure is 500
hPa, so layers that follow the ground have another ending, that of hybrid levels, after the number they are called by:
t500hl. Depths of the ocean end in m. What its lexicon does not know keeps our name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from graphufs.data.channels import PreparedChannel
from graphufs.vocabulary.variables import weatherbench_name, weatherbench_scale

Vertical = Literal["pressure", "layers", "depths"]
"""What the levels of a grid are."""

SHORT_NAMES = {
    "temperature": "t",
    "u_component_of_wind": "u",
    "v_component_of_wind": "v",
    "vertical_velocity": "w",
    "specific_humidity": "q",
    "geopotential": "z",
    "surface_pressure": "sp",
    "mean_sea_level_pressure": "msl",
    "10m_u_component_of_wind": "u10m",
    "10m_v_component_of_wind": "v10m",
    "2m_temperature": "t2m",
    "total_column_water_vapour": "tcwv",
    "boundary_layer_height": "blh",
    "sea_ice_cover": "sic",
    "skin_temperature": "skt",
    "total_precipitation_3hr": "tp03",
    "total_precipitation_6hr": "tp06",
    "land_sea_mask": "lsm",
    "geopotential_at_surface": "z",
}
"""Earth2Studio's name by WeatherBench2's; a level's number follows where there are levels."""
ENDINGS: dict[Vertical, str] = {"pressure": "", "layers": "hl", "depths": "m"}


class Field(NamedTuple):
    """A horizontal field: Earth2Studio's name, and the factor from our units to those it has under this name."""

    name: str
    scale: float


def field_of(variable: str, level: float | None = None, vertical: Vertical = "pressure") -> Field:
    """The field of a variable, at one of its levels where it has any."""
    name = weatherbench_name(variable)
    short = SHORT_NAMES.get(name, name)
    return Field(short if level is None else f"{short}{level:g}{ENDINGS[vertical]}", weatherbench_scale(variable))


def fields_of(channels: Sequence[PreparedChannel], vertical: Vertical) -> tuple[Field, ...]:
    """The field of each channel."""
    return tuple(field_of(channel.variable, channel.level, vertical) for channel in channels)


def vertical_of(component: str, on_pressure_levels: bool) -> Vertical:
    """What the levels of a component of the UFS are: fv3, the atmosphere, or an ocean."""
    if component != "fv3":
        return "depths"
    return "pressure" if on_pressure_levels else "layers"
