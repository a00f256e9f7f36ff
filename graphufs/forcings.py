"""Forcings known in advance: progress of the year and the day, and the sun's radiation at the top of the atmosphere.

Everything is computed in float64 on the host and returned as float32.
"""

from __future__ import annotations

import numpy as np

from graphufs.errors import UserError
from graphufs.vocabulary.variables import DERIVED_FORCINGS

SECONDS_PER_DAY = 86400
DAYS_PER_YEAR = 365.24219
"""The mean tropical year, as in GraphCast."""

# Instants of the trapezoidal rule are this many bins apart, as in GraphCast.
_BINS = 360
# Points computed together near the terminator: points x instants stays within a processor's cache.
_POINTS = 512

# Total solar irradiance [W m-2 at 1 astronomical unit], yearly means from 1951.5 on: the series ECMWF used for ERA5
# (hard-coded in IFS cycle 41r2), after 1996 a repeated solar cycle; scaled by 0.9965 to newer observations, as in
# GraphCast's solar_radiation module, whose values these are.
_TSI_SCALE = 0.9965
_TSI_START = 1951.5
_TSI_OBSERVED = (  # 1951 to 1995
    1365.7765, 1365.7676, 1365.6284, 1365.6564, 1365.7773, 1366.3109, 1366.6681, 1366.6328, 1366.3828, 1366.2767,
    1365.9199, 1365.7484, 1365.6963, 1365.6976, 1365.7341, 1365.9178, 1366.1143, 1366.1644, 1366.2476, 1366.2426,
    1365.9580, 1366.0525, 1365.7991, 1365.7271, 1365.5345, 1365.6453, 1365.8331, 1366.2747, 1366.6348, 1366.6482,
    1366.6951, 1366.2859, 1366.1992, 1365.8103, 1365.6416, 1365.6379, 1365.7899, 1366.0826, 1366.6479, 1366.5533,
    1366.4457, 1366.3021, 1366.0286, 1365.7971, 1365.6996,
)  # fmt: skip
_TSI_CYCLE = (
    1365.6121, 1365.7399, 1366.1021, 1366.3851, 1366.6836, 1366.6022, 1366.6807, 1366.2300, 1366.0480, 1365.8545,
    1365.8107, 1365.7240, 1365.6918,
)  # fmt: skip
_TSI_TABLE = _TSI_OBSERVED + 3 * _TSI_CYCLE


def year_progress(stamps: np.ndarray) -> np.ndarray:
    """The fraction of the mean year since the UNIX epoch, in [0, 1), float64 [time]."""
    return np.mod(_seconds(stamps) / SECONDS_PER_DAY / DAYS_PER_YEAR, 1.0)


def day_progress(stamps: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """The fraction of the local mean solar day, in [0, 1), float64 [time, lon]; longitude in degrees east."""
    utc = np.mod(_seconds(stamps), SECONDS_PER_DAY) / SECONDS_PER_DAY
    return np.mod(utc[:, None] + np.asarray(longitude, np.float64) / 360.0, 1.0)


def derived_forcing(
    name: str, stamps: np.ndarray, latitude: np.ndarray, longitude: np.ndarray, tisr_period_hours: float = 1
) -> np.ndarray:
    """A variable of DERIVED_FORCINGS, float32 [time, 1, lat or 1, lon or 1], on a grid in degrees.

    `toa_incident_solar_radiation` is integrated over `tisr_period_hours`, which end at the stamp (UTC).

    Raises
    ------
    UserError
        If the name is none of them.
    """
    stamps = np.atleast_1d(stamps)
    if name == "toa_incident_solar_radiation":
        values = toa_incident_solar_radiation(stamps, latitude, longitude, tisr_period_hours)
    elif name.startswith("year_progress"):
        values = _wave(name, year_progress(stamps))[:, None, None]
    elif name.startswith("day_progress"):
        values = _wave(name, day_progress(stamps, longitude))[:, None, :]
    else:
        raise UserError(f"{name} cannot be computed from time and place; {', '.join(DERIVED_FORCINGS)} can")
    return values[:, None].astype(np.float32)


def toa_incident_solar_radiation(
    stamps: np.ndarray, latitude: np.ndarray, longitude: np.ndarray, period_hours: float = 1
) -> np.ndarray:
    """Solar energy on a horizontal plane at the top of the atmosphere during the `period_hours` before each stamp.

    The integral over the period, by the trapezoidal rule with 360 bins, float64 [time, lat, lon] in J m-2, of

        tsi / distance^2 * max(0, cos(lat) cos(declination) cos(hour angle) + sin(lat) sin(declination))

    with the orbit of ECMWF's IFS as GraphCast has it (its solar_radiation module).

    Raises
    ------
    UserError
        If the period is not positive.
    """
    if period_hours <= 0:
        raise UserError(f"the period of toa_incident_solar_radiation is {period_hours} h; it must be positive")
    phi, theta = np.deg2rad(np.asarray(latitude, np.float64)), np.deg2rad(np.asarray(longitude, np.float64))
    # sin(altitude) = place . sun, with the longitude's and the hour angle's cosine and sine multiplied out
    place = np.stack(
        [
            np.outer(np.cos(phi), np.cos(theta)),
            -np.outer(np.cos(phi), np.sin(theta)),
            np.outer(np.sin(phi), np.ones_like(theta)),
        ],
        axis=-1,
    ).reshape(-1, 3)
    weights = np.full(_BINS + 1, period_hours * 3600.0 / _BINS)
    weights[[0, -1]] /= 2
    # During the period sin(altitude) departs from a straight line by less than (change of hour angle)^2 / 8.
    bend = 1.05 * (2 * np.pi * period_hours / 24) ** 2 / 8
    energy = np.empty((len(stamps), len(place)))
    for index, (days, tsi) in enumerate(zip(_days_since_2000(stamps), total_solar_irradiance(stamps), strict=True)):
        sun, distance = _sun(days + np.linspace(-period_hours / 24, 0.0, _BINS + 1))
        flux = weights * tsi / distance**2
        first, last = place @ sun[:, 0], place @ sun[:, -1]
        # where the sun is up all the time nothing needs to be cut off and the sum over instants can be taken first
        energy[index] = place @ (sun @ flux)
        energy[index, np.maximum(first, last) < -bend] = 0.0
        terminator = np.flatnonzero((np.minimum(first, last) <= bend) & (np.maximum(first, last) >= -bend))
        for start in range(0, len(terminator), _POINTS):
            points = terminator[start : start + _POINTS]
            energy[index, points] = np.maximum(place[points] @ sun, 0.0) @ flux
    return energy.reshape(len(stamps), len(phi), len(theta))


def total_solar_irradiance(stamps: np.ndarray) -> np.ndarray:
    """The sun's irradiance [W m-2] at 1 astronomical unit, float64 [time], from yearly means centred in the years."""
    years = np.asarray(stamps).astype("datetime64[Y]")
    start, end = years.astype("datetime64[ns]"), (years + 1).astype("datetime64[ns]")
    fraction = (np.asarray(stamps).astype("datetime64[ns]") - start) / (end - start)
    table = _TSI_SCALE * np.array(_TSI_TABLE)
    return np.interp(years.astype(np.int64) + 1970 + fraction, _TSI_START + np.arange(len(table)), table)


def _sun(days: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(cos d cos H, cos d sin H, sin d) [3, time] with declination d and Greenwich hour angle H, and distance [au].

    `days` counts from 2000-01-01T12. The polynomials are those of the IFS (ECMWF, IFS documentation, Part IV) as
    GraphCast has them.
    """
    years = days / 365.25
    orbit = 1.7535 + 6.283076 * years
    mean = 6.240041 + 6.283020 * years
    solar = 4.8951 + 6.283076 * years
    ecliptic = (
        4.8952
        + 6.283320 * years
        - 0.0075 * np.sin(orbit)
        - 0.0326 * np.cos(orbit)
        - 0.0003 * np.sin(2 * orbit)
        + 0.0002 * np.cos(2 * orbit)
    )
    sin_declination = np.sin(0.409093) * np.sin(ecliptic)
    cos_declination = np.sqrt(1 - sin_declination**2)
    equation_of_time = (
        591.8 * np.sin(2 * solar)
        - 459.4 * np.sin(mean)
        + 39.5 * np.sin(mean) * np.cos(2 * solar)
        - 12.7 * np.sin(4 * solar)
        - 4.8 * np.sin(2 * mean)
    )
    hour_angle = 2 * np.pi * (np.mod(days, 1.0) + equation_of_time / SECONDS_PER_DAY)
    distance = 1.0001 - 0.0163 * np.sin(orbit) + 0.0037 * np.cos(orbit)
    sun = np.stack([cos_declination * np.cos(hour_angle), cos_declination * np.sin(hour_angle), sin_declination])
    return sun, distance


def _wave(name: str, progress: np.ndarray) -> np.ndarray:
    if name.endswith("_sin"):
        return np.sin(2 * np.pi * progress)
    if name.endswith("_cos"):
        return np.cos(2 * np.pi * progress)
    return progress


def _seconds(stamps: np.ndarray) -> np.ndarray:
    """UNIX seconds, float64."""
    return np.asarray(stamps).astype("datetime64[ns]").astype(np.int64) / 1e9


def _days_since_2000(stamps: np.ndarray) -> np.ndarray:
    """Julian date minus 2451545, float64."""
    return _seconds(stamps) / SECONDS_PER_DAY - 10957.5
