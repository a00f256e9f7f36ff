"""Kernels that go row by row, interpreted, give what the plain formulas give, and so do all gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from graphufs.model.arrangement import GPU
from graphufs.model.compile import jit
from graphufs.model.kernels import weights
from graphufs.model.kernels.by_row import layers_of_rows
from graphufs.model.layers import EPSILON, MLP, LayerNorm, Linear
from tests.support.rounding import assert_equal_to_rounding, rounding

INTERPRETED = replace(GPU, kernels="interpreted")


class Asked(NamedTuple):
    """What rows are made of, and what is made of them."""

    edges: int
    samples: int
    width: int
    out: int
    inputs: tuple[int, ...]
    terms: int = 0
    """Of which the first has rows of nodes, gathered, the others a row for each."""
    bias: bool = True
    normal: bool = True
    affine: bool = True
    residual: bool = False
    both: bool = False
    after: int = 0
    only_after: bool = False


def both(asked: Asked, dtype: Any) -> tuple[Any, Any]:
    """(results, gradients by all that they are made of) of the kernels and of the plain formulas."""
    edges, samples, width, out = asked[:4]
    random, count, nodes = np.random.default_rng(0), edges * samples, 5
    node = jnp.asarray(random.integers(0, nodes, edges), jnp.int32)

    def array(*shape: int, kind: Any = jnp.float32) -> jax.Array:
        return jnp.asarray(random.normal(size=shape) / max(1, shape[0] if len(shape) == 2 else 1) ** 0.5, kind)

    def rows(number: int, columns: int) -> jax.Array:
        return jnp.asarray(random.normal(size=(number, columns)), dtype)

    arguments = {
        "mlp": MLP(
            (Linear.zeros(4, width), Linear(array(width, out), array(out))),
            LayerNorm(array(out), array(out)) if asked.normal else None,
        ),
        "sources": [(rows(count, size), array(size, width)) for size in asked.inputs],
        "terms": [rows(nodes * samples if place == 0 else count, width) for place in range(asked.terms)],
        "static": array(width) if asked.bias else rows(edges, width),
        "after": [array(out, width) for _ in range(asked.after)],
    }
    factors = [
        *([] if asked.only_after else [array(count, out) for _ in range(1 + asked.both)]),
        *(array(count, width) for _ in range(asked.after)),
    ]

    def weighed(results: tuple[jax.Array, ...]) -> Any:
        return sum((one.astype(jnp.float32) * factor).sum() for one, factor in zip(results, factors, strict=True))

    def fused(given: Any) -> Any:
        terms = [(term, node if place == 0 else None) for place, term in enumerate(given["terms"])]
        how = {"samples": samples, "affine": asked.affine, "residual": asked.residual, "after": given["after"]}
        how |= {"only_after": asked.only_after, "both": asked.both}
        results = layers_of_rows(given["mlp"], given["sources"], given["static"], INTERPRETED, terms=terms, **how)
        return weighed(results), results

    def plain(given: Any) -> Any:
        given = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), given)
        mlp, last = given["mlp"], given["mlp"].linears[-1]
        z = sum((source @ weight for source, weight in given["sources"]), start=jnp.zeros((count, width)))
        for place, term in enumerate(given["terms"]):
            z += term.reshape(nodes, samples, width)[node].reshape(count, width) if place == 0 else term
        z += given["static"] if asked.bias else jnp.repeat(given["static"], samples, axis=0)
        x = z * jax.nn.sigmoid(z) @ last.weight + last.bias
        if asked.normal:
            centred = x - x.mean(-1, keepdims=True)
            x = centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON)
            x = x * mlp.scale + mlp.offset if asked.affine else x
        x = x + given["sources"][0][0] if asked.residual else x
        sums = [x + given["sources"][0][0]] if asked.both else []
        results = x, *sums, *(x @ matrix for matrix in given["after"])
        results = results[asked.only_after :]
        return weighed(results), results

    found, expected = (jit(jax.value_and_grad(one, has_aux=True))(arguments) for one in (fused, plain))
    return (found[0][1], found[1]), (expected[0][1], expected[1])


CASES = {
    "two-sources-and-what-is-made-of-the-result": Asked(37, 3, 128, 128, (128, 128), residual=True, after=2),
    "few-channels-and-a-static-term": Asked(37, 2, 128, 128, (29,), bias=False, after=1, only_after=True),
    "a-few-columns-not-normalized": Asked(37, 3, 128, 6, (128,), normal=False),
    "gathered-and-other-terms": Asked(37, 3, 16, 16, (16,), terms=2, residual=True),
    "together-with-a-source": Asked(37, 3, 16, 16, (16,), terms=2, both=True, after=1),
    "terms-alone-not-scaled": Asked(37, 3, 16, 16, (), terms=2, affine=False, bias=False),
    "more-samples-than-a-tile-has-rows": Asked(3, 70, 16, 16, (3,), bias=False, after=1),
    "one-sample": Asked(130, 1, 16, 16, (16,), bias=False, residual=True),
}
FAST = ("two-sources-and-what-is-made-of-the-result",)


@pytest.mark.parametrize(
    "asked", [pytest.param(one, id=name, marks=[] if name in FAST else pytest.mark.long) for name, one in CASES.items()]
)
def test_results_and_all_gradients_are_those_of_the_formulas(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "KEPT", 2**13)  # several programs share the columns of W
    found, expected = both(asked, jnp.float32)
    bound = 4 * rounding(5 * asked.width + asked.edges * asked.samples)
    for value, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert_equal_to_rounding(value, other, bound)


@pytest.mark.long
@pytest.mark.parametrize("asked", [pytest.param(one, id=name) for name, one in CASES.items()])
def test_in_bfloat16_they_are_right_to_its_rounding(asked: Asked) -> None:
    inputs = tuple(16 if size == asked.width else size for size in asked.inputs)
    out = 16 if asked.normal else asked.out
    found, expected = both(asked._replace(width=16, out=out, inputs=inputs), jnp.bfloat16)
    for value, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        distance = np.linalg.norm(np.asarray(value, np.float64) - np.asarray(other, np.float64))
        assert distance <= 2**-6 * np.linalg.norm(np.asarray(other, np.float64))
