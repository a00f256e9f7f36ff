"""The embedded world's physics: relaxation to a seasonal climate, a land slab, surface exchange, moisture.

Pure functions of columns [level, lon, lat] in SI units, levels from the top down. The large-scale forcing follows
Held and Suarez (Bull. Amer. Meteor. Soc. 75, 1994, 1825-1830), with a thermal equator that moves with the season;
the rest is as simple as gives land and sea, day and night, and weather-like amplitudes. The constants without a
source are tuned to that end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpy.typing import NDArray

from graphufs.replay.synthetic import astronomy

DAY = 86400.0
HOUR = 3600.0
KAPPA = 2 / 7
GRAVITY = 9.80616
"""As in the dynamical core [m/s2]."""

GAS_CONSTANT = 1004 * KAPPA
"""Of dry air, as in the dynamical core [J/(kg K)]."""

REFERENCE_PRESSURE = 1e5


@dataclass(frozen=True)
class Geometry:
    """Where the columns stand: radians, land fraction and height [m] on [lon, lat]; sigma and thickness by level."""

    longitude: NDArray[Any]
    latitude: NDArray[Any]
    land: NDArray[Any]
    height: NDArray[Any]
    sigma: NDArray[Any]
    thickness: NDArray[Any]

    @property
    def degrees_north(self) -> NDArray[Any]:
        """Latitude in degrees."""
        return np.rad2deg(self.latitude)

    @property
    def boundary_layer(self) -> NDArray[Any]:
        """Held and Suarez' boundary layer: rises linearly from 0 at sigma 0.7 to 1 at the ground."""
        return np.maximum(0.0, (self.sigma - 0.7) / 0.3)


class Columns(NamedTuple):
    """Winds [m/s], temperature [K], specific humidity [kg/kg] on [level, lon, lat]; surface pressure [1, lon, lat]."""

    u: jax.Array
    v: jax.Array
    temperature: jax.Array
    humidity: jax.Array
    surface_pressure: jax.Array


class Clock(NamedTuple):
    """Year angle and day angle [rad] at the start of a step, scalars (graphufs.replay.synthetic.astronomy)."""

    year: jax.Array
    day: jax.Array


def saturation_humidity(temperature: jax.Array, pressure: ArrayLike) -> jax.Array:
    """Specific humidity at saturation over water [kg/kg], with Bolton's vapour pressure; K and Pa, which are broadcast.

    Bolton, Mon. Wea. Rev. 108 (1980), 1046-1053, eq. 10. The denominator is kept positive where the vapour pressure
    nears the total pressure.
    """
    vapour_pressure = 611.2 * jnp.exp(17.67 * (temperature - 273.15) / (temperature - 29.65))
    return 0.622 * vapour_pressure / jnp.maximum(pressure - 0.378 * vapour_pressure, 0.3 * pressure)


def sea_ice(geometry: Geometry, year: jax.Array) -> jax.Array:
    """Fraction of the sea under ice [lon, lat]: an edge at 66 degrees that moves 5 degrees with the season."""
    season = astronomy.season(year, 45.0) * np.sign(geometry.latitude)
    return jax.nn.sigmoid((np.abs(geometry.degrees_north) - 66.0 - 5.0 * season) / 3.0)


def sea_surface_temperature(geometry: Geometry, year: jax.Array) -> jax.Array:
    """Prescribed temperature [K] of the sea or its ice [lon, lat]: zonal, with a warm pool and North Atlantic."""
    latitude, longitude = geometry.latitude, geometry.longitude
    thermal_equator = np.deg2rad(6.0) * astronomy.season(year, 45.0)
    zonal = 29.5 * jnp.maximum(0.0, 1 - (jnp.sin(latitude - thermal_equator) / 0.95) ** 2)
    warm_pool = 1.5 * np.cos(longitude - np.deg2rad(140.0)) * np.exp(-((latitude / 0.35) ** 2))
    north_atlantic = (
        4.0
        * np.exp(-(((geometry.degrees_north - 52) / 14) ** 2))
        * (np.cos(longitude - np.deg2rad(345.0)) * 0.5 + 0.5) ** 3
    )
    water = 271.5 + zonal + warm_pool + north_atlantic
    ice = sea_ice(geometry, year)
    return (1 - ice) * water + ice * jnp.minimum(water, _sea_level_land_temperature(geometry, year) - 6.0)


def _sea_level_land_temperature(geometry: Geometry, year: jax.Array) -> jax.Array:
    sine = np.sin(geometry.latitude)
    antarctic = 10 * np.exp(-(((geometry.degrees_north + 85) / 15) ** 2))
    return 302.0 - 50.0 * sine**2 + 24.0 * astronomy.season(year, 20.0) * sine - antarctic


def land_equilibrium_temperature(geometry: Geometry, year: jax.Array) -> jax.Array:
    """Temperature [K] the land relaxes to over days, on [lon, lat]; 4.5 K colder for each kilometre of height."""
    return _sea_level_land_temperature(geometry, year) - 0.0045 * geometry.height


def equilibrium_temperature(geometry: Geometry, year: jax.Array, surface_pressure: jax.Array) -> jax.Array:
    """Radiative-equilibrium temperature [K] on [level, lon, lat].

    Held and Suarez' profile, max(T_min, (p/p0)^kappa (T_max - dT_y x^2 - dTheta ln(p/p0) cos^2(lat))), with
    dT_y = 72 K, dTheta = 10 K and T_max = 313 K. Their x = sin(lat) is displaced by the season here, and the
    stratosphere T_min is warmer over the summer pole.
    """
    pressure = geometry.sigma * surface_pressure / REFERENCE_PRESSURE
    season = astronomy.season(year, 30.0)
    sine = np.sin(geometry.latitude)
    displaced = sine - 0.18 * season
    troposphere = pressure**KAPPA * (
        313.0 - 72.0 * displaced**2 - 10.0 * jnp.log(pressure) * np.cos(geometry.latitude) ** 2
    )
    return jnp.maximum(205.0 + 8.0 * season * sine, troposphere)


def insolation(geometry: Geometry, clock: Clock, step: float) -> jax.Array:
    """Mean downward solar flux at the top of the atmosphere over a step of `step` seconds [W/m2], [lon, lat]."""
    cosine = astronomy.mean_cosine(
        geometry.latitude, geometry.longitude, clock.year, clock.day, 2 * math.pi * step / DAY
    )
    return astronomy.SOLAR_CONSTANT * astronomy.distance_factor(clock.year) * cosine


SLAB_HEAT_CAPACITY = 5e5
"""Of the land [J/(m2 K)]."""

SLAB_ABSORPTION = 0.55
"""Part of the solar flux at the top of the atmosphere that heats the land."""


def warm_land(
    geometry: Geometry, clock: Clock, step: float, land_temperature: jax.Array, lowest: jax.Array, sunshine: jax.Array
) -> jax.Array:
    """Temperature of the land slab [K] on [lon, lat] after a step.

    It relaxes to its seasonal equilibrium over 5 days and to the lowest layer over 1 day, and follows the insolation's
    departure from its daily mean: the equilibrium already holds the daily mean.
    """
    daily_mean = (
        astronomy.SOLAR_CONSTANT
        * astronomy.distance_factor(clock.year)
        * astronomy.daily_mean_cosine(geometry.latitude, clock.year)
    )
    climate = (land_equilibrium_temperature(geometry, clock.year) - land_temperature) / (5 * DAY)
    diurnal = SLAB_ABSORPTION * (sunshine - daily_mean) / SLAB_HEAT_CAPACITY
    exchange = (lowest - land_temperature) / DAY
    return land_temperature + step * (climate + diurnal + exchange)


def surface_temperature(geometry: Geometry, year: jax.Array, land_temperature: jax.Array) -> jax.Array:
    """Temperature [K] of the surface on [lon, lat], land and sea averaged by their fractions."""
    sea = sea_surface_temperature(geometry, year)
    return geometry.land * land_temperature + (1 - geometry.land) * sea


def _exchange_rate(geometry: Geometry) -> NDArray[Any]:
    """Rate [1/s] at which the surface renews the air above it, by level."""
    return np.maximum(0.0, (geometry.sigma - 0.75) / 0.25) ** 1.5 / (2 * DAY)


def heat(geometry: Geometry, year: jax.Array, step: float, columns: Columns, surface: jax.Array) -> jax.Array:
    """Temperature [K] on [level, lon, lat] after radiation and surface exchange, each an implicit Euler step.

    Radiation relaxes at 1/30 to 1/5 per day (Held and Suarez' k_T with a faster interior). Surface air, brought up dry
    adiabatically, replaces the boundary layer's; a third as fast where the layer is stable.
    """
    slow, fast = 1 / (30 * DAY), 1 / (5 * DAY)
    rate = slow + (fast - slow) * geometry.boundary_layer * np.cos(geometry.latitude) ** 4
    target = equilibrium_temperature(geometry, year, columns.surface_pressure)
    temperature = (columns.temperature + step * rate * target) / (1 + step * rate)

    parcel = surface * geometry.sigma**KAPPA
    mixing = step * _exchange_rate(geometry) * jnp.where(parcel > temperature, 1.0, 0.35)
    return (temperature + mixing * parcel) / (1 + mixing)


def drag(geometry: Geometry, step: float) -> NDArray[Any]:
    """Factor on both winds [level, lon, lat] of an implicit step of friction, 1/day at the ground, more over land."""
    rate = geometry.boundary_layer / DAY * (0.8 + 0.6 * geometry.land)
    return 1 / (1 + step * rate)


def moisten(
    geometry: Geometry, step: float, columns: Columns, temperature: jax.Array, surface: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Specific humidity [kg/kg] on [level, lon, lat] after a step, and its rain [kg/m2] on [1, lon, lat].

    Evaporation draws the boundary layer towards 80 % of saturation at the surface, falling off as sigma^3. What
    exceeds 90 % relative humidity rains out over 3 hours. Over warm surfaces, shallow convection keeps the free
    troposphere from drying below about half saturation. Moisture is passive: no latent heat.
    """
    sigma = geometry.sigma
    humidity = jnp.maximum(columns.humidity, 0.0)
    over_surface = 0.8 * saturation_humidity(surface, columns.surface_pressure) * sigma**3
    evaporation = 2.5 * _exchange_rate(geometry) * (1.0 - 0.65 * geometry.land)
    humidity = humidity + (jnp.maximum(humidity, over_surface) - humidity) * (1 - jnp.exp(-step * evaporation))

    limit = 0.9 * saturation_humidity(temperature, sigma * columns.surface_pressure)
    condensed = jnp.maximum(0.0, humidity - limit) * (1 - math.exp(-step / (3 * HOUR)))
    humidity = humidity - condensed
    rain = (condensed * geometry.thickness * columns.surface_pressure / GRAVITY).sum(axis=0, keepdims=True)

    warmth = jnp.clip((surface - 285.0) / 15.0, 0.0, 1.0)
    convective = 0.55 * limit * warmth * (sigma > 0.25)
    humidity = humidity + jnp.maximum(convective - humidity, 0.0) * (1 - math.exp(-step / (4 * DAY)))
    return humidity, rain
