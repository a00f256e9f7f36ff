"""The layers as GPUs compute them: values and all derivatives are those of the formulas, whatever the sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from graphufs.model import gpu_layers, layers
from graphufs.model.arrangement import GPU
from graphufs.model.arrays import GraphArrays
from tests.support.rounding import assert_equal_to_rounding, rounding
from tests.support.small_model import graph


def numbers(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def normal(x: jax.Array, scale: jax.Array | float = 1.0, offset: jax.Array | float = 0.0) -> jax.Array:
    return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5) * scale + offset


NODES, EDGES = np.array([0, 2, 2, 0, 3]), np.array([[0, 3], [5, 5], [1, 2], [4, 5]])
TAKEN = (lambda rows: rows[NODES], (numbers(4, 6),))


@pytest.mark.parametrize("rows", [7, 384, 1155])  # in one part, in several, in parts of an odd length
@pytest.mark.parametrize(
    ("function", "plain", "arguments"),
    [
        (gpu_layers.matmul, lambda x, w: x @ w, ((3,), (3, 5))),
        (gpu_layers.add_bias, lambda x, b: x + b, ((5,), (5,))),
        (gpu_layers.scale_columns, lambda x, s: x * s, ((5,), (5,))),
        (gpu_layers.activate, lambda z, w, b: jax.nn.swish(z) @ w + b, ((3,), (3, 5), (5,))),
        (gpu_layers.activate, lambda z, w: jax.nn.swish(z) @ w, ((3,), (3, 5))),
        (lambda x, b: gpu_layers.normalize(x, b, 1e-5), lambda x, b: normal(x + b), ((6,), (6,))),
        (
            lambda x, b, s, o: gpu_layers.normalize(x, b, 1e-5, s, o),
            lambda x, b, s, o: normal(x + b, s, o),
            ((6,), (6,), (6,), (6,)),
        ),
    ],
    ids=["matmul", "add_bias", "scale_columns", "activate", "without_bias", "normalize", "normalize_and_scale"],
)
def test_layers_and_their_derivatives_are_those_of_the_formula(
    function: Callable[..., Any], plain: Callable[..., Any], arguments: tuple[tuple[int, ...], ...], rows: int
) -> None:
    first, *others = arguments
    compare(function, plain, numbers(rows, *first), *(numbers(*shape, seed=2 + len(shape)) for shape in others))


@pytest.mark.parametrize(
    ("function", "plain", "arguments"),
    [
        (gpu_layers.add_static, lambda x, y: x + y[:, None], (numbers(4, 3, 5), numbers(4, 5))),
        (gpu_layers.add_to_each, lambda x, y: x + y[None], (numbers(3, 4, 5), numbers(4, 5))),
        (lambda rows: gpu_layers.take(4, rows, jnp.asarray(NODES)), *TAKEN),
        (lambda rows: gpu_layers.take_by_table(rows, jnp.asarray(NODES), jnp.asarray(EDGES)), *TAKEN),
        (
            lambda rows: gpu_layers.sum_rows(4, rows, jnp.sort(NODES)),
            lambda rows: jnp.zeros((4, 6)).at[jnp.sort(NODES)].add(rows),
            (numbers(5, 6),),
        ),
    ],
    ids=["add_static", "add_to_each", "take", "take_by_table", "sum_rows"],
)
def test_sums_and_gathers_and_their_derivatives_are_those_of_the_formula(
    function: Callable[..., Any], plain: Callable[..., Any], arguments: tuple[jax.Array, ...]
) -> None:
    compare(function, plain, *arguments)


def compare(function: Callable[..., Any], plain: Callable[..., Any], *arguments: jax.Array) -> None:
    value, pull = jax.vjp(function, *arguments)
    expected, pull_plain = jax.vjp(plain, *arguments)
    bound = rounding(max(max(argument.shape) for argument in arguments), sums_in_a_row=16)
    assert_equal_to_rounding(value, expected, bound)
    direction = numbers(*value.shape, seed=3)
    for derivative, by_formula in zip(pull(direction), pull_plain(direction), strict=True):
        assert_equal_to_rounding(derivative, by_formula, bound)


def test_in_bfloat16_gradients_of_parameters_are_added_up_in_float32() -> None:
    ones, weight, vector = jnp.ones((4096, 8), jnp.bfloat16), jnp.zeros((8, 8)), jnp.zeros(8)
    for function, parameters in (
        (gpu_layers.matmul, (weight,)),
        (gpu_layers.add_bias, (vector,)),
        (gpu_layers.scale_columns, (vector,)),
        # swish(20) is 20
        (lambda x, w, b: gpu_layers.activate(20 * x, w / 20, b), (weight, vector)),
    ):
        value, pull = jax.vjp(function, ones, *parameters)
        assert value.dtype == jnp.bfloat16
        for gradient in pull(jnp.full(value.shape, 1.0078125, jnp.bfloat16))[1:]:
            assert gradient.dtype == jnp.float32
            # bfloat16 cannot add 1 to 256
            np.testing.assert_allclose(gradient, 4096 * 1.0078125, rtol=1e-6)


@pytest.mark.parametrize("blocks", [1, 3, 9])
def test_the_table_of_senders_names_each_edge_once(blocks: int) -> None:
    arrays = GraphArrays.from_graph(graph(), latent_size=8, blocks=blocks, arrangement=GPU)
    table, edges = np.asarray(arrays.grid2mesh_of_senders), arrays.grid2mesh
    real = np.asarray(edges.receivers) < arrays.reached_nodes
    for places, senders, counted in zip(table, np.asarray(edges.senders), real, strict=True):
        points, _ = np.nonzero(places < len(senders))
        named = places[places < len(senders)]
        assert sorted(named) == list(np.flatnonzero(counted))
        np.testing.assert_array_equal(senders[named], points)


def test_a_normalization_is_that_of_a_cpu_where_rows_have_a_mean() -> None:
    x = 3 + numbers(5, 64)
    assert_equal_to_rounding(gpu_layers.normalize(x, jnp.zeros(64), layers.EPSILON), normal(x), rounding(64))
