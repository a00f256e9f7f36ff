"""Fused sums of messages, interpreted, are those of the plain formulas, and so are all gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from graphufs.model.arrangement import GPU
from graphufs.model.compile import jit
from graphufs.model.kernels import messages, weights
from graphufs.model.kernels.lists import EdgeLists
from graphufs.model.layers import EPSILON, MLP, Linear
from graphufs.train.loss import LossWeights, batch_loss_and_grads
from tests.support.rounding import assert_equal_to_rounding, of_network, rounding
from tests.support.small_model import CHANNELS, LATITUDE, LONGITUDE, network, samples, stepper

INTERPRETED = replace(GPU, kernels="interpreted")


class World(NamedTuple):
    """Edges between points and nodes, of which the last three only pad; the last node and some points have none."""

    points: int
    nodes: int
    point: np.ndarray
    node: np.ndarray

    @property
    def lists(self) -> EdgeLists:
        lists = EdgeLists.build(self.point[None], self.node[None], self.points, self.nodes)
        return jax.tree.map(lambda part: part[0], lists)


def world(points: int, nodes: int, edges: int) -> World:
    random = np.random.default_rng(0)
    node = random.integers(0, nodes - 1, edges, np.int32)
    node[-3:] = nodes
    return World(points, nodes, random.integers(0, points, edges, np.int32), node)


def plain(last: Linear, at_point: Any, at_node: Any, static: Any, world: World, count: int) -> jax.Array:
    """The formulas as they are written, in float32."""
    at_point, at_node, static = (
        None if one is None else one.astype(jnp.float32) for one in (at_point, at_node, static)
    )
    width, real = static.shape[1], np.arange(len(world.node) - 3)
    point, node = world.point[real], world.node[real]
    z = static[real][:, None] + at_point.reshape(-1, count, width)[point]
    z = z if at_node is None else z + at_node.reshape(-1, count, width)[node]
    x = z * jax.nn.sigmoid(z) @ last.weight + last.bias
    centred = x - x.mean(-1, keepdims=True)
    message = centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON)
    receivers, there = (node, world.nodes) if at_node is None else (point, world.points)
    return jnp.zeros((there, count, width)).at[receivers].add(message).reshape(-1, width)


def both(here: World, count: int, width: int, dtype: Any, to_points: bool) -> tuple[Any, Any]:
    """(sums, gradients by all that they are made of) of the kernels and of the plain formulas."""
    random = np.random.default_rng(1)

    def rows(number: int) -> jax.Array:
        return jnp.asarray(random.normal(size=(number, width)), dtype)

    last = Linear(random.normal(size=(width, width)) / width**0.5, random.normal(size=width))
    last = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), last)
    terms = rows(here.points * count), (rows(here.nodes * count) if to_points else None), rows(len(here.node))
    factors = random.normal(size=((here.points if to_points else here.nodes) * count, width)).astype(np.float32)
    lists = here.lists

    def fused(last: Linear, *terms: Any) -> Any:
        mlp = MLP((Linear.zeros(4, width), last), None)
        sums = messages.sums_of_messages(mlp, *terms, lists, count, INTERPRETED)
        return (sums.astype(jnp.float32) * factors).sum(), sums

    def exact(last: Linear, *terms: Any) -> Any:
        sums = plain(last, *terms, here, count)
        return (sums * factors).sum(), sums

    found, expected = (
        jit(jax.value_and_grad(function, (0, 1, 2, 3), has_aux=True))(last, *terms) for function in (fused, exact)
    )
    return (found[0][1], found[1]), (expected[0][1], expected[1])


@pytest.mark.parametrize(
    ("to_points", "count", "width"),
    [
        pytest.param(True, 3, 128, id="to-points"),
        pytest.param(False, 3, 128, id="to-nodes"),
        pytest.param(True, 70, 16, id="to-points-more-samples-than-a-tile-has-rows", marks=pytest.mark.long),
        pytest.param(False, 70, 16, id="to-nodes-more-samples-than-a-tile-has-rows", marks=pytest.mark.long),
        pytest.param(True, 1, 16, id="to-points-one-sample", marks=pytest.mark.long),
        pytest.param(False, 1, 16, id="to-nodes-one-sample", marks=pytest.mark.long),
    ],
)
def test_sums_and_all_gradients_are_those_of_the_formulas(
    to_points: bool, count: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "KEPT", 2**13)  # several programs share the columns of W
    found, expected = both(world(37, 5, 203), count, width, jnp.float32, to_points)
    bound = 4 * rounding(3 * width + 203 * count)
    for value, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.abs(other).max() > 0
        assert_equal_to_rounding(value, other, bound)


@pytest.mark.long
@pytest.mark.parametrize("to_points", [True, False])
def test_in_bfloat16_they_are_right_to_its_rounding(to_points: bool) -> None:
    found, expected = both(world(21, 4, 60), 2, 16, jnp.bfloat16, to_points)
    for value, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        distance = np.linalg.norm(np.asarray(value, np.float64) - np.asarray(other, np.float64))
        assert distance <= 2**-6 * np.linalg.norm(np.asarray(other, np.float64))


def test_the_network_computes_the_same_with_kernels_in_blocks_that_are_padded() -> None:
    inputs, _, forcings = samples(2, 1)
    here, there = (
        jit(lambda net, step, inputs, forcings: step.apply(net, inputs, forcings))(
            network(), stepper(arrangement=one, blocks=3), inputs, forcings
        )
        for one in (GPU, INTERPRETED)
    )
    for name in here:
        assert_equal_to_rounding(there[name], here[name], of_network(8, 1))


@pytest.mark.long
def test_so_are_loss_and_gradients() -> None:
    weights = LossWeights.build(CHANNELS, LATITUDE, LONGITUDE)

    @jit
    def gradients(net: Any, step: Any, inputs: Any, targets: Any, forcings: Any) -> Any:
        return batch_loss_and_grads(net, step, weights, inputs, targets, forcings, device_batch_size=2)

    here, there = (
        gradients(network(), stepper(arrangement=one, blocks=3), *samples(2, 1)) for one in (GPU, INTERPRETED)
    )
    bound = 4 * (rounding(LATITUDE.size * LONGITUDE.size) + of_network(8, 1))
    for value, other in zip(jax.tree.leaves(there), jax.tree.leaves(here), strict=True):
        assert_equal_to_rounding(value, other, bound)
