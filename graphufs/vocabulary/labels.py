"""Forecasts, truths, lead times and numbers as people read them. Imports no array library."""

from __future__ import annotations

import math

FORECAST_NAMES = {
    "emulator": "Emulator",
    "persistence": "Persistence",
    "climatology": "Climatology",
    "damped_persistence": "Damped persistence",
    "replay": "Replay itself",
    "probabilistic_climatology": "Probabilistic climatology",
}

TRUTH_NAMES = {"replay": "Replay", "era5": "ERA5"}


def forecast_name(forecast: str) -> str:
    """A forecast's name for people."""
    return FORECAST_NAMES.get(forecast, forecast)


def truth_name(truth: str) -> str:
    """A truth's name for people."""
    return TRUTH_NAMES.get(truth, truth)


def hours_name(hours: float) -> str:
    """A lead time in hours for people: 6 h, 1 d, 2.5 d."""
    return f"{hours:g} h" if hours < 24 else f"{hours / 24:g} d"


def number(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, no exponent where that reads well; a dash where there is none."""
    if not math.isfinite(value):
        return "–" if math.isnan(value) else "∞"
    magnitude = abs(float(f"{value:.{digits - 1}e}"))  # rounded first, or 9.999 would be shown as 10.00
    if magnitude and (magnitude >= 1e6 or magnitude < 1e-3):
        return f"{value:.{digits - 1}e}"
    decimals = digits - 1 if magnitude == 0 else max(0, digits - 1 - math.floor(math.log10(magnitude)))
    return f"{value:.{decimals}f}"


def json_number(value: float) -> float | None:
    """A number with six significant digits; None for NaN and infinity, which JSON does not have."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
