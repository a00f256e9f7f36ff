"""How channels and lead times are called, and the units that give handy numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphufs.vocabulary.labels import hours_name
from graphufs.vocabulary.variables import BY_WEATHERBENCH
from graphufs.weatherbench.inputs.channels import Channel


@dataclass(frozen=True)
class Unit:
    """A unit for display: shown value = `scale` times the stored value."""

    name: str
    scale: float = 1.0


_HANDY = {
    "Pa": Unit("hPa", 1e-2),
    "kg kg-1": Unit("g/kg", 1e3),
    "m s-1": Unit("m/s"),
    "m/s": Unit("m/s"),
    "m/sec": Unit("m/s"),
    "m2 s-2": Unit("m²/s²"),
    "m**2/s**2": Unit("m²/s²"),
    "kg m-2": Unit("kg/m²"),
    "kg kg-1 s-1": Unit("kg/kg/s"),
    "W/m**2": Unit("W/m²"),
    "1": Unit(""),
}


def unit(units: str) -> Unit:
    """The unit to show values in that are stored in `units`."""
    return _HANDY.get(units, Unit(units))


def channel_name(channel: Channel, vertical: str = "pressure levels", level_units: str = "hPa") -> str:
    """A channel's name for people, such as "Temperature, 500 hPa", or "layer ~500 hPa" on native layers."""
    known = BY_WEATHERBENCH.get(channel.variable)
    name = known.long_name if known else channel.variable.replace("_", " ")
    name = name[:1].upper() + name[1:]
    if channel.level is None:
        return name
    layer = "" if vertical == "pressure levels" else "layer ~"
    return f"{name}, {layer}{channel.level:g} {level_units}"


def lead_name(lead: np.timedelta64) -> str:
    """A lead time for people: 6 h, 1 d, 2.5 d."""
    return hours_name(float(lead / np.timedelta64(1, "h")))
