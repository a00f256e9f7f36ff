"""The compiler options do what they are there for."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from graphufs.model.compile import jit


def test_sums_of_short_products_are_right() -> None:
    """The example of jax issue 39103."""
    count = 32_769
    ascending = jnp.arange(count, dtype=jnp.float32)
    x = jnp.stack([ascending, jnp.zeros(count), jnp.zeros(count)], axis=1)
    matrix = jnp.eye(3)
    norms = jit(lambda x: jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2))(x))(x)
    np.testing.assert_allclose(norms, np.arange(count, dtype=np.float64) ** 2, rtol=1e-6)


def test_options_of_jit_are_passed_on() -> None:
    function = jit(lambda x, power: x**power, static_argnames="power")
    assert function(jnp.float32(3), power=2) == 9
