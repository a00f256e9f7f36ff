"""Where the sun stands: calendar angles, declination and the mean cosine of the zenith angle over an interval.

Angles are in radians. The year angle runs from 0 to 2 pi over the actual calendar year, leap or not, so that seasons
never drift against the dates; the day angle runs from 0 to 2 pi over the UTC day.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpy.typing import NDArray

SOLAR_CONSTANT = 1361.0
"""Total solar irradiance at 1 astronomical unit [W/m2]."""

OBLIQUITY = np.deg2rad(23.45)
EQUINOX_DAY = 80.0
"""Day of the year of the northern spring equinox."""

PERIHELION_DAY = 3.0
YEAR_DAYS = 365.25


def year_angle(times: NDArray[np.datetime64]) -> NDArray[np.float32]:
    """2 pi times the fraction of its calendar year that has passed at each time, in the shape of `times`."""
    years = times.astype("datetime64[Y]")
    start = years.astype("datetime64[s]")
    length = (years + 1).astype("datetime64[s]") - start
    fraction = (times.astype("datetime64[s]") - start) / length
    return np.asarray(2 * np.pi * fraction, np.float32)


def day_angle(times: NDArray[np.datetime64]) -> NDArray[np.float32]:
    """2 pi times the fraction of its UTC day that has passed at each time, in the shape of `times`."""
    fraction = (times.astype("datetime64[s]") - times.astype("datetime64[D]")) / np.timedelta64(1, "D")
    return np.asarray(2 * np.pi * fraction, np.float32)


def season(year: jax.Array, lag_days: float) -> jax.Array:
    """A sine over year angles of any shape, in [-1, 1], that peaks `lag_days` after the northern summer solstice."""
    return jnp.sin(year - 2 * jnp.pi * (EQUINOX_DAY + lag_days) / YEAR_DAYS)


def declination(year: jax.Array) -> jax.Array:
    """Declination of the sun on a circular orbit [rad]."""
    return OBLIQUITY * season(year, 0.0)


def distance_factor(year: jax.Array) -> jax.Array:
    """Irradiance over that at the mean distance, at year angles of any shape, to first order in the eccentricity.

    The eccentricity is 0.0167, and the factor twice that.
    """
    return 1 + 0.0334 * jnp.cos(year - 2 * jnp.pi * PERIHELION_DAY / YEAR_DAYS)


def _sunset(latitude: ArrayLike, sun: jax.Array) -> jax.Array:
    """Hour angle of sunset: 0 in the polar night, pi in the polar day."""
    return jnp.arccos(jnp.clip(-jnp.tan(latitude) * jnp.tan(sun), -1.0, 1.0))


def daily_mean_cosine(latitude: ArrayLike, year: jax.Array) -> jax.Array:
    """Daily mean of max(0, cos z) for the zenith angle z, with the declination d and the sunset hour angle h0.

    (h0 sin(lat) sin(d) + cos(lat) cos(d) sin(h0)) / pi; Hartmann, Global Physical Climatology (1994), eq. 2.17.
    Latitude and year angle are broadcast against each other.
    """
    sun = declination(year)
    sunset = _sunset(latitude, sun)
    return (sunset * jnp.sin(latitude) * jnp.sin(sun) + jnp.cos(latitude) * jnp.cos(sun) * jnp.sin(sunset)) / jnp.pi


def mean_cosine(
    latitude: ArrayLike, longitude: ArrayLike, year: jax.Array, start: jax.Array, length: float
) -> jax.Array:
    """Mean of max(0, cos z) over the interval of day angle from `start` to `start + length`, exactly.

    With the hour angle h, cos z = a + b cos(h), a = sin(lat) sin(d), b = cos(lat) cos(d). Its integral from noon,
    with h held within sunrise and sunset, is C(h) = n D + a h' + b sin(h'), where n counts whole turns, h' is the
    hour angle of this turn clipped to [-h0, h0], and D is the integral over a whole day. The mean is a difference of
    two values of C; both are the same number throughout a night, so that nights are exactly zero. Angles are broadcast
    against each other.
    """
    sun = declination(year)
    sunset = _sunset(latitude, sun)
    a = jnp.sin(latitude) * jnp.sin(sun)
    b = jnp.cos(latitude) * jnp.cos(sun)
    whole_day = 2 * (a * sunset + b * jnp.sin(sunset))

    def integral_from_noon(hour_angle: jax.Array) -> jax.Array:
        turns = jnp.round(hour_angle / (2 * jnp.pi))
        lit = jnp.clip(hour_angle - 2 * jnp.pi * turns, -sunset, sunset)
        return turns * whole_day + a * lit + b * jnp.sin(lit)

    first = start + longitude - jnp.pi
    return jnp.maximum(0.0, integral_from_noon(first + length) - integral_from_noon(first)) / length
