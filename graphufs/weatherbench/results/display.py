"""How quantities are shown to people: names, units that give handy numbers, and lead times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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


FORECAST_NAMES = {
    "emulator": "Emulator",
    "persistence": "Persistence",
    "climatology": "Climatology",
    "damped_persistence": "Damped persistence",
    "replay": "Replay itself",
}

TRUTH_NAMES = {"replay": "Replay", "era5": "ERA5"}


def forecast_name(forecast: str) -> str:
    """A forecast's name for people."""
    return FORECAST_NAMES.get(forecast, forecast)


def truth_name(truth: str) -> str:
    """A truth's name for people."""
    return TRUTH_NAMES.get(truth, truth)


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
    hours = float(lead / np.timedelta64(1, "h"))
    return f"{hours:g} h" if hours < 24 else f"{hours / 24:g} d"


def number(value: float) -> str:
    """A number with three significant digits and no exponent where that reads well; a dash where there is none."""
    if not np.isfinite(value):
        return "–" if np.isnan(value) else "∞"
    magnitude = abs(float(f"{value:.2e}"))  # rounded first, or 9.999 would be shown as 10.00
    if magnitude and (magnitude >= 1e6 or magnitude < 1e-3):
        return f"{value:.2e}"
    decimals = 2 if magnitude == 0 else max(0, 2 - int(np.floor(np.log10(magnitude))))
    return f"{value:.{decimals}f}"
