"""Layers: the hand-written derivatives are those of the formulas, and split layers those of concatenated input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from graphufs.model.layers import MLP, Linear, add_bias, layer_norm, matmul, randomize, swish


def numbers(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def plain_layer_norm(x: jax.Array, scale: jax.Array, offset: jax.Array) -> jax.Array:
    return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5) * scale + offset


@pytest.mark.parametrize(
    ("function", "plain", "arguments"),
    [
        (matmul, lambda x, w: x @ w, (numbers(7, 3), numbers(3, 5))),
        (add_bias, lambda x, b: x + b, (numbers(7, 5), numbers(5))),
        (swish, lambda x: x / (1 + jnp.exp(-x)), (numbers(7, 5),)),
        (layer_norm, plain_layer_norm, (3 + numbers(7, 5), numbers(5, seed=1), numbers(5, seed=2))),
    ],
    ids=["matmul", "add_bias", "swish", "layer_norm"],
)
def test_value_and_derivatives_are_those_of_the_formula(
    function: Callable[..., Any], plain: Callable[..., Any], arguments: tuple[jax.Array, ...]
) -> None:
    value, pull = jax.vjp(function, *arguments)
    expected, pull_plain = jax.vjp(plain, *arguments)
    np.testing.assert_allclose(value, expected, atol=1e-5)
    direction = numbers(*value.shape, seed=3)
    for derivative, by_formula in zip(pull(direction), pull_plain(direction), strict=True):
        np.testing.assert_allclose(derivative, by_formula, atol=1e-5)


def test_parts_of_the_first_layer_add_up_to_the_concatenated_input() -> None:
    mlp = randomize(MLP.zeros(9, 6, 4, 2), jax.random.key(0))
    a, b = numbers(5, 2), numbers(5, 7, seed=1)
    split = mlp.finish(mlp.part(a, 0) + mlp.part(b, 2))
    np.testing.assert_allclose(split, mlp(jnp.concatenate([a, b], axis=1)), atol=1e-5)
    assert [linear.weight.shape for linear in mlp.linears] == [(9, 6), (6, 6), (6, 4)]


def test_initial_weights_are_cut_at_two_sigma_of_the_inverse_root_of_the_inputs() -> None:
    weight = np.asarray(randomize(Linear.zeros(400, 500), jax.random.key(1)).weight)
    assert np.abs(weight).max() <= 2 / 20
    assert weight.std() == pytest.approx(0.8796 / 20, rel=0.01)  # a normal distribution cut at 2 sigma
