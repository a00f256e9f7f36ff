"""An optimizer's step is the same whether it is given networks, one vector, or blocks of numbers in kernels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from graphufs.config.training import Optimizer
from graphufs.model.arrangement import CPU, GPU, Arrangement
from graphufs.model.network import GraphCast
from graphufs.train.optimizer import optimizer, split
from graphufs.train.vectors import changed

WHOLE = GraphCast.init(inputs=3, outputs=2, latent_size=8, message_steps=1, hidden_layers=1, key=jax.random.key(0))
NETWORK, _ = split(WHOLE, ["processor.*", "encoder.*", "decoder.*nodes.*", "decoder.edges.*"])
"""Few arrays learn, which is all that kernels are made of."""


def steps(arrangement: Arrangement, clip: float | None) -> tuple[Any, list[float]]:
    """The state after two steps with a clipped gradient and an average, and the norms of the gradients."""
    settings = Optimizer(clip=clip)

    def change(old: Any, gradient: Any, rate: jax.Array, norm: jax.Array | None) -> Any:
        network, moments, average = old
        updates, moments = optimizer(settings, lambda count: rate / (1 + count), norm).update(
            gradient, moments, network
        )
        network = optax.apply_updates(network, updates)
        return network, moments, jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, average, network)

    state: Any = NETWORK, optimizer(settings, lambda _: 1.0).init(NETWORK), NETWORK
    norms = []
    for number in (1, 2):
        gradient = jax.tree.map(lambda array, number=number: jnp.cos(7 * array) * number, NETWORK)
        state, norm = jax.jit(changed, static_argnums=(0, 4))(change, state, gradient, jnp.float32(0.1), arrangement)
        norms.append(float(norm))
    return state, norms


@pytest.mark.parametrize("clip", [None, 0.5])
def test_all_ways_are_the_same_to_rounding(clip: float | None) -> None:
    wanted, norms = steps(GPU, clip)

    for arrangement in (CPU, replace(GPU, kernels="interpreted")):
        found, others = steps(arrangement, clip)

        assert str(jax.tree.structure(found)) == str(jax.tree.structure(wanted))
        np.testing.assert_allclose(others, norms, rtol=1e-6)
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)
