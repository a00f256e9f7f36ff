"""Kernels that go row by row, interpreted, give what the plain formulas give, and so do all gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from graphufs.model.arrangement import GPU
from graphufs.model.compile import jit
from graphufs.model.kernels import weights
from graphufs.model.kernels.branches import branches
from graphufs.model.kernels.by_row import finish
from graphufs.model.layers import EPSILON, MLP, LayerNorm, Linear
from tests.support.rounding import assert_equal_to_rounding, rounding

INTERPRETED = replace(GPU, kernels="interpreted")


def both(points: int, count: int, width: int, dtype: Any, *, bias: bool, affine: bool) -> tuple[Any, Any]:
    """(result, gradients by all that it is made of) of the kernels and of the plain formulas."""
    random = np.random.default_rng(0)

    def array(*shape: int) -> jax.Array:
        return jnp.asarray(random.normal(size=shape), jnp.float32)

    rows, other, residual, factors = (array(points * count, width) for _ in range(4))
    last = Linear(array(width, width) / width**0.5, array(width))
    arguments = (
        MLP((Linear.zeros(4, width), last), LayerNorm(array(width), array(width))),
        rows.astype(dtype),
        other.astype(dtype) if affine else None,
        array(width) if bias else array(points, width).astype(dtype),
        residual.astype(dtype) if affine else None,
    )

    def fused(mlp: MLP, rows: Any, other: Any, static: Any, residual: Any) -> Any:
        result = finish(mlp, rows, static, INTERPRETED, other=other, affine=affine, residual=residual)
        return (result.astype(jnp.float32) * factors).sum(), result

    def plain(mlp: MLP, rows: Any, other: Any, static: Any, residual: Any) -> Any:
        z = rows.astype(jnp.float32) + (0 if other is None else other.astype(jnp.float32))
        z = z.reshape(-1, count, width)
        z = (z + (static if bias else static.astype(jnp.float32)[:, None])).reshape(rows.shape)
        x = z * jax.nn.sigmoid(z) @ mlp.linears[-1].weight + mlp.linears[-1].bias
        centred = x - x.mean(-1, keepdims=True)
        result = centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON)
        if affine:
            result = residual.astype(jnp.float32) + result * mlp.scale + mlp.offset
        return (result * factors).sum(), result

    found, expected = (
        jit(jax.value_and_grad(function, (0, 1, 2, 3, 4), has_aux=True))(*arguments) for function in (fused, plain)
    )
    return (found[0][1], found[1]), (expected[0][1], expected[1])


@pytest.mark.parametrize(
    ("points", "count", "width", "bias", "affine"),
    [
        pytest.param(37, 3, 128, True, True, id="two-terms-bias-scale-and-residual"),
        pytest.param(37, 3, 128, False, False, id="static-and-nothing-more"),
        pytest.param(3, 70, 16, False, True, id="more-samples-than-a-tile-has-rows", marks=pytest.mark.long),
        pytest.param(130, 1, 16, False, True, id="one-sample", marks=pytest.mark.long),
    ],
)
def test_the_result_and_all_gradients_are_those_of_the_formulas(
    points: int, count: int, width: int, bias: bool, affine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "KEPT", 2**13)  # several programs share the columns of W
    found, expected = both(points, count, width, jnp.float32, bias=bias, affine=affine)
    bound = 4 * rounding(3 * width + points * count)
    for value, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert_equal_to_rounding(value, other, bound)


@pytest.mark.long
@pytest.mark.parametrize("affine", [True, False])
def test_in_bfloat16_they_are_right_to_its_rounding(affine: bool) -> None:
    found, expected = both(21, 2, 16, jnp.bfloat16, bias=affine, affine=affine)
    for value, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        distance = np.linalg.norm(np.asarray(value, np.float64) - np.asarray(other, np.float64))
        assert distance <= 2**-6 * np.linalg.norm(np.asarray(other, np.float64))


@pytest.mark.parametrize("dtype", [jnp.float32, pytest.param(jnp.bfloat16, marks=pytest.mark.long)])
def test_branches_and_their_gradients_are_products(dtype: Any) -> None:
    random = np.random.default_rng(0)
    rows, *directions = (jnp.asarray(random.normal(size=(70, 128)), dtype) for _ in range(4))
    weights = tuple(jnp.asarray(random.normal(size=(128, 128)), jnp.float32) for _ in range(2))

    def plain(rows: Any, weights: Any) -> Any:
        return rows, *((rows.astype(jnp.float32) @ weight.astype(dtype)).astype(dtype) for weight in weights)

    def found(function: Any) -> Any:
        value, pull = jax.vjp(function, rows, weights)
        return value, pull(tuple(directions))

    here, there = found(lambda rows, weights: branches(rows, weights, INTERPRETED)), found(plain)
    for value, other in zip(jax.tree.leaves(here), jax.tree.leaves(there), strict=True):
        if dtype == jnp.float32:
            assert_equal_to_rounding(value, other, rounding(3 * 128))
        else:
            distance = np.linalg.norm(np.asarray(value, np.float64) - np.asarray(other, np.float64))
            assert distance <= 2**-6 * np.linalg.norm(np.asarray(other, np.float64))
