"""The long rollout of a challenger: finite, within the climatology's range, short waves neither lost nor blown up."""

from __future__ import annotations

import numpy as np
import xarray as xr

from graphufs.config.retraining import Stability
from graphufs.weatherbench.scoring.spectra import zonal_energy_spectrum


def instabilities(rollout: xr.Dataset, climatology: xr.Dataset, rule: Stability) -> list[str]:
    """What is wrong with a rollout in WeatherBench2's layout, in words; empty if nothing is.

    The climatology is of the same variables, in the same units.
    """
    found = []
    latitude = rollout["latitude"].values
    for name in map(str, rollout.data_vars):
        field = rollout[name].transpose(..., "latitude", "longitude")
        others = [dim for dim in field.dims if dim in ("time", "prediction_timedelta", "latitude", "longitude")]
        if not bool(np.isfinite(field).all()):
            found.append(f"{name} is not finite")
            continue
        if name in climatology:
            known = climatology[name]
            away = [dim for dim in known.dims if dim != "level"]
            low, high = known.min(away), known.max(away)
            room = rule.margin * (high - low)
            if bool(((field.min(others) < low - room) | (field.max(others) > high + room)).any()):
                found.append(f"{name} leaves the climatology's range by more than {rule.margin:g} times its width")
        first, last = (_short_waves(field.isel(prediction_timedelta=lead), latitude) for lead in (0, -1))
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = last / first
        for wrong, words in (((factor > rule.spectrum).any(), "grow"), ((factor < 1 / rule.spectrum).any(), "fade")):
            if wrong:
                found.append(f"the short waves of {name} {words} by more than a factor of {rule.spectrum:g}")
    return found


def _short_waves(field: xr.DataArray, latitude: np.ndarray) -> np.ndarray:
    """The energy in the shorter half of the zonal waves, by level."""
    spectrum = zonal_energy_spectrum(field.values, latitude)
    half = spectrum.shape[-1] // 2
    energy = spectrum[..., half:].sum(axis=(-2, -1))
    axis = tuple(index for index, dim in enumerate(field.dims[:-2]) if dim != "level")
    return np.asarray(energy.mean(axis=axis))
