"""What a loss may look at besides the targets: quantities that several of them make. Imports no array library."""

from __future__ import annotations

LOSS_DIAGNOSTICS: dict[str, tuple[str, ...]] = {
    "wind_speed": ("u_component_of_wind", "v_component_of_wind"),
    "10m_wind_speed": ("10m_u_component_of_wind", "10m_v_component_of_wind"),
    "hydrostatic_thickness": ("surface_pressure", "temperature", "specific_humidity"),
    "hydrostatic_balance": ("geopotential", "temperature", "specific_humidity"),
}
"""The targets that each is made of, by WeatherBench2's names. The formulas are in graphufs.emulator.diagnosed."""
