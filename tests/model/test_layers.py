"""Layers: the hand-written derivatives are those of the formulas, and split layers those of concatenated input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from graphufs.model.layers import MLP, Linear, activate, add_bias, matmul, normalize_rows, randomize, scale_columns
from tests.support.rounding import assert_equal_to_rounding, rounding


def numbers(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def swish(x: jax.Array) -> jax.Array:
    return x / (1 + jnp.exp(-x))


def plain_normal(x: jax.Array) -> jax.Array:
    return x / jnp.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)


@pytest.mark.parametrize(
    ("function", "plain", "arguments"),
    [
        (matmul, lambda x, w: x @ w, (numbers(7, 3), numbers(3, 5))),
        (add_bias, lambda x, b: x + b, (numbers(7, 5), numbers(5))),
        (scale_columns, lambda x, s: x * s, (numbers(7, 5), numbers(5))),
        (activate, lambda z, w, b: swish(z) @ w + b, (numbers(7, 3), numbers(3, 5), numbers(5, seed=1))),
        (normalize_rows, plain_normal, (numbers(7, 5),)),
        # wider than what is summed at once
        (
            normalize_rows,
            lambda x, s, o: plain_normal(x) * s + o,
            (numbers(5, 192), numbers(192), numbers(192, seed=1)),
        ),
    ],
    ids=["matmul", "add_bias", "scale_columns", "activate", "normalize_rows", "normalize_and_scale_rows"],
)
def test_value_and_derivatives_are_those_of_the_formula(
    function: Callable[..., Any], plain: Callable[..., Any], arguments: tuple[jax.Array, ...]
) -> None:
    value, pull = jax.vjp(function, *arguments)
    expected, pull_plain = jax.vjp(plain, *arguments)
    bound = rounding(max(max(argument.shape) for argument in arguments), sums_in_a_row=4)
    assert_equal_to_rounding(value, expected, bound)
    direction = numbers(*value.shape, seed=3)
    for derivative, by_formula in zip(pull(direction), pull_plain(direction), strict=True):
        assert_equal_to_rounding(derivative, by_formula, bound)


def plain_mlp(mlp: MLP, x: jax.Array) -> jax.Array:
    for linear in mlp.linears[:-1]:
        x = swish(x @ linear.weight + linear.bias)
    x = x @ mlp.linears[-1].weight + mlp.linears[-1].bias
    if mlp.norm is None:
        return x
    return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5) * mlp.scale + mlp.offset


@pytest.mark.parametrize("hidden_layers", [1, 2])
@pytest.mark.parametrize("norm", [True, False])
def test_an_mlp_and_its_gradients_are_those_of_the_formula(hidden_layers: int, norm: bool) -> None:
    mlp = MLP.zeros(9, 8, 6, hidden_layers, norm=norm)
    leaves, tree = jax.tree.flatten(mlp)
    mlp = jax.tree.unflatten(tree, [0.5 + numbers(*leaf.shape, seed=seed) for seed, leaf in enumerate(leaves)])
    x, direction = numbers(7, 9), numbers(7, 6, seed=9)
    value, pull = jax.vjp(lambda mlp, x: mlp(x), mlp, x)
    expected, pull_plain = jax.vjp(plain_mlp, mlp, x)
    np.testing.assert_allclose(value, expected, atol=1e-5 * np.abs(expected).max())
    for derivative, by_formula in zip(*(jax.tree.leaves(p(direction)) for p in (pull, pull_plain)), strict=True):
        np.testing.assert_allclose(derivative, by_formula, atol=2e-5 * np.abs(by_formula).max() + 1e-5)


def test_parts_of_the_first_layer_add_up_to_the_concatenated_input() -> None:
    mlp = randomize(MLP.zeros(9, 6, 4, 2), jax.random.key(0))
    a, b, scale = numbers(5, 2), numbers(5, 7, seed=1), numbers(7, seed=2)
    split = mlp.finish(mlp.part(a, 0) + mlp.part(b, 2, scale))
    np.testing.assert_allclose(split, mlp(jnp.concatenate([a, b * scale], axis=1)), atol=1e-5)
    assert [linear.weight.shape for linear in mlp.linears] == [(9, 6), (6, 6), (6, 4)]


def test_scale_and_offset_may_be_applied_after_the_sum_over_rows() -> None:
    mlp = randomize(MLP.zeros(4, 6, 6, 1), jax.random.key(0))
    mlp = eqx.tree_at(lambda mlp: (mlp.norm.scale, mlp.norm.offset), mlp, (numbers(6), numbers(6, seed=1)))
    z = numbers(5, 6, seed=2)
    without = mlp.normal(z + mlp.first.bias).sum(0) * mlp.scale + 5 * mlp.offset
    np.testing.assert_allclose(without, mlp.finish(z).sum(0), atol=1e-5)


def test_initial_weights_are_cut_at_two_sigma_of_the_inverse_root_of_the_inputs() -> None:
    weight = np.asarray(randomize(Linear.zeros(400, 500), jax.random.key(1)).weight)
    assert np.abs(weight).max() <= 2 / 20
    assert weight.std() == pytest.approx(0.8796 / 20, rel=0.01)  # a normal distribution cut at 2 sigma
