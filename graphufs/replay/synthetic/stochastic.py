"""Stochastic physics of the embedded world: what its physics changes, multiplied by a random pattern.

As in ECMWF's scheme of perturbed tendencies (Palmer et al. 2009, ECMWF Technical Memorandum 598), the increments of
winds, temperature and humidity are multiplied by 1 + r, the same r for all of them at all levels. r is random on the
sphere and correlated over a distance L and a time tau: each of its spectral coefficients is a process of first order,

    c(t + dt) = phi c(t) + sqrt(1 - phi^2) s_n e,   phi = exp(-dt / tau),   s_n^2 ~ exp(-L^2 n (n + 1) / (2 a^2)),

with e standard normal, n the total wavenumber and a the Earth's radius. What is drawn is a function of the seed and the
time, so that a world which goes on from a stored state is the same as one made in one call.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from dinosaur import spherical_harmonic

CORRELATION_TIME = 6.0
"""tau [h]: as long as a stamp, so that two states in a row hardly tell how the next one is perturbed."""

CORRELATION_LENGTH = 1000.0
"""L [km]."""

EARTH_RADIUS = 6371.0
"""a [km]."""

LARGEST = 1.0
"""Of |r|: more would turn the physics' sign."""


class TendencyPattern:
    """The pattern r of one seed: how it begins, goes on and acts. Patterns are spectral, [1, zonal, total].

    Parameters
    ----------
    grid
        The world's grid.
    amplitude
        Standard deviation of r at each point.
    seed
        Each is another pattern.
    hours
        Between two steps.
    """

    def __init__(self, grid: spherical_harmonic.Grid, amplitude: float, seed: int, hours: int) -> None:
        self._grid, self._seed = grid, seed
        self._kept = math.exp(-hours / CORRELATION_TIME)
        _, total = np.meshgrid(*grid.modal_axes, indexing="ij")
        chosen = grid.mask & (total >= 1) & (total < total.max())  # the last one is never resolved
        width = (CORRELATION_LENGTH / EARTH_RADIUS) ** 2 / 2
        shape = chosen * np.exp(-width * total * (total + 1) / 2)
        # the harmonics are orthonormal: the variance at a point is the sum of all coefficients', over the sphere's area
        self._size = (amplitude * shape / math.sqrt((shape**2).sum() / (4 * math.pi))).astype(np.float32)

    def start(self) -> jax.Array:
        """A pattern of the process in its stationary state."""
        return self._draw(0)

    def advance(self, pattern: jax.Array, hour: jax.Array) -> jax.Array:
        """The pattern after the step that begins so many hours after 1970 began."""
        return self._kept * pattern + math.sqrt(1 - self._kept**2) * self._draw(hour)

    def factor(self, pattern: jax.Array) -> jax.Array:
        """1 + r on [1, lon, lat], from 0 to 2."""
        return 1 + jnp.clip(self._grid.to_nodal(pattern), -LARGEST, LARGEST)

    def _draw(self, hour: jax.Array | int) -> jax.Array:
        key = jax.random.fold_in(jax.random.key(np.uint32(self._seed)), hour)
        return self._size * jax.random.normal(key, (1, *self._size.shape), jnp.float32)
