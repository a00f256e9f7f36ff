"""Zonal energy spectra: how much of a field's variance lies at which wavelength, by latitude.

For the values f_l, l = 0 .. L-1, on a circle of latitude of circumference C = 2 pi R cos(lat),

    F_k = (1/L) sum_l f_l exp(-2 pi i k l / L),    S_0 = C |F_0|^2,    S_k = 2 C |F_k|^2

(weatherbench2/derived_variables.py, `ZonalEnergySpectrum`; the Nyquist wavenumber is doubled too, as there). The
unit is that of the field squared times metres.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphufs.errors import UserError
from graphufs.grid.grid import Grid
from graphufs.vocabulary.conventions import EARTH_RADIUS
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.scoring.field_sums import FieldSums

TRUTH = "truth"
"""The name of the truth's own spectrum next to those of the forecasts."""


def circumference(latitude: np.ndarray) -> np.ndarray:
    """The circumference in metres of circles of latitude [lat] in degrees."""
    return 2 * np.pi * EARTH_RADIUS * np.cos(np.deg2rad(latitude))


def zonal_energy_spectrum(field: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    """The spectrum along longitude, float64 [..., lat, wavenumber], wavenumbers 0 to L // 2.

    `field` is [..., lat, lon] on evenly spaced longitudes all around, `latitude` [lat] in degrees.
    """
    amplitude = np.fft.rfft(np.asarray(field, np.float64), axis=-1, norm="forward")
    energy = amplitude.real**2 + amplitude.imag**2
    energy[..., 1:] *= 2
    return energy * circumference(latitude)[:, None]


def zonal_frequency(grid: Grid) -> np.ndarray:
    """The frequency of each wavenumber in cycles a metre, float64 [lat, wavenumber].

    Raises
    ------
    UserError
        If the longitudes are not evenly spaced.
    """
    spacing = np.diff(grid.longitude)
    if np.abs(spacing - spacing[0]).max() > 1e-3:
        raise UserError("a zonal spectrum needs evenly spaced longitudes; regrid the fields first")
    metres = circumference(grid.latitude) * spacing[0] / 360
    return np.fft.rfftfreq(len(grid.longitude)) / metres[:, None]


class Spectra:
    """Keeps spectra of forecasts and truth summed over initial times, by lead; an `Observer` of `score`."""

    def __init__(self, channels: Sequence[Channel], grid: Grid, leads: np.ndarray) -> None:
        self.frequency = zonal_frequency(grid)
        self.latitude = grid.latitude
        self.channels = tuple(channels)
        self.leads = np.asarray(leads, "timedelta64[ns]")
        self.sums: dict[str, FieldSums] = {}
        """By name of the forecast, [lead, channel, lat, wavenumber]."""

    def observe(
        self, name: str, time: np.datetime64, forecast: np.ndarray, truth: np.ndarray, climatology: np.ndarray
    ) -> None:
        """Add a forecast, and its truth where that is not in yet; arrays are [lead, channel, lat, lon]."""
        self._add(name, time, forecast)
        if TRUTH not in self.sums or time not in self.sums[TRUTH]:
            self._add(TRUTH, time, truth)

    def _add(self, name: str, time: np.datetime64, fields: np.ndarray) -> None:
        spectrum = zonal_energy_spectrum(fields, self.latitude)
        self.sums.setdefault(name, FieldSums(spectrum.shape)).update(time, spectrum)

    def mean(self, name: str) -> np.ndarray:
        """The mean spectrum over initial times, float64 [lead, channel, lat, wavenumber]."""
        return self.sums[name].mean()
