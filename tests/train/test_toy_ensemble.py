"""A linear system whose noise is the same everywhere: by the fair score the network learns how wide it is.

For the other losses see test_members, where the model is a single number.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from graphufs.config.training import StageLoss
from graphufs.emulator.draws import TRAINING, batch_noise
from graphufs.emulator.rollout import rollout
from graphufs.graph import build_graph
from graphufs.model.channels import ChannelMap
from graphufs.model.compile import jit
from graphufs.model.network import GraphCast
from graphufs.model.one_step import Stepper
from graphufs.train.loss import LossWeights, batch_loss_and_grads

DECAY, TRUTH, CHANNELS = 0.8, 0.6, 8
STATIONARY = TRUTH / np.sqrt(1 - DECAY**2)
LATITUDE, LONGITUDE = np.linspace(60, -60, 3), np.arange(4) * 90.0
MAP = ChannelMap.build(["x"], ["x"], [], levels={}, input_frames=1)
BATCH, UPDATES = 64, 1500


def stepper() -> Stepper:
    one = {"x": np.array([1.0])}
    graph = build_graph(LATITUDE, LONGITUDE, mesh_size=0)
    return Stepper.build(
        MAP, graph, mean={"x": np.zeros(1)}, std={"x": STATIONARY * one["x"]}, diffs_std={"x": TRUTH * one["x"]},
        latent_size=8,
    )  # fmt: skip


def everywhere(values: jax.Array) -> jax.Array:
    """Values [batch, time] as fields."""
    return jnp.broadcast_to(values[:, :, None, None, None], (*values.shape, 1, 3, 4))


@pytest.mark.long
def test_the_network_learns_the_spread_of_a_linear_system() -> None:
    step, weights = stepper(), LossWeights.build(MAP, LATITUDE, LONGITUDE)
    network = GraphCast.init(
        inputs=1, outputs=1, latent_size=8, message_steps=1, hidden_layers=1, key=jax.random.key(0), noise=CHANNELS
    )
    optimizer = optax.adam(optax.cosine_decay_schedule(5e-3, UPDATES))
    loss = StageLoss(kind="crps")

    def update(carry: tuple[Any, Any], number: jax.Array) -> tuple[tuple[Any, Any], jax.Array]:
        network, state = carry
        x, w = jax.random.normal(jax.random.fold_in(jax.random.key(1), number), (2, BATCH, 1))
        x = STATIONARY * x
        inputs, targets = {"x": everywhere(x)}, {"x": everywhere(DECAY * x + TRUTH * w)}
        noise = batch_noise(np.uint32(0), TRAINING, number, (BATCH, 2, 1, CHANNELS))
        (found, _), gradients = batch_loss_and_grads(
            network, step, weights, inputs, targets, {}, loss=loss, noise=noise, device_batch_size=BATCH
        )
        updates, state = optimizer.update(gradients, state)
        return (optax.apply_updates(network, updates), state), found

    train = jit(lambda carry: jax.lax.scan(update, carry, jnp.arange(UPDATES)))
    (network, _), losses = train((network, optimizer.init(network)))
    # the score of a calibrated forecast, in units of the noise
    assert float(losses[-300:].mean()) == pytest.approx(1 / np.sqrt(np.pi), rel=0.05)

    x = jnp.repeat(jnp.linspace(-STATIONARY, STATIONARY, 8)[:, None], 128, axis=0)
    steps = 4
    noise = jax.random.normal(jax.random.key(2), (len(x), steps, CHANNELS))
    found = jit(lambda network: rollout(network, step, {"x": everywhere(x)}, {}, steps=steps, noise=noise))(network)
    spread = np.asarray(found["x"][:, :, 0, 1, 2]).reshape(8, 128, steps).std(axis=1, ddof=1)
    of_steps = np.sqrt((spread**2).mean(axis=0))
    assert of_steps[0] == pytest.approx(TRUTH, rel=0.05)
    expected = TRUTH * np.sqrt((1 - DECAY ** (2 * np.arange(1, steps + 1))) / (1 - DECAY**2))
    np.testing.assert_allclose(of_steps, expected, rtol=0.1)
    mean = np.asarray(found["x"][:, 0, 0, 1, 2]).reshape(8, 128).mean(axis=1)
    np.testing.assert_allclose(mean, DECAY * np.linspace(-STATIONARY, STATIONARY, 8), atol=0.4 * TRUTH)  # of 128 draws
