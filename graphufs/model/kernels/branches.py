"""The products of the same rows with several matrices, and the rows' gradient in one go, by kernels.

XLA adds nothing to a product but what a program is given: the gradient of rows that n products and a sum are made of
would be n arrays, read again to be added up.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from graphufs.model import gpu_layers
from graphufs.model.arrangement import Arrangement
from graphufs.model.kernels.tile import Sizes, call, product, store, take


def branches(rows: jax.Array, weights: tuple[jax.Array, ...], arrangement: Arrangement) -> tuple[jax.Array, ...]:
    """The rows [row, L] as they are, and their products with each of the weights [L, L], all as precise as the rows.

    Whatever else is made of the rows should be made of those returned. The arrangement's kernels are `fused`, for a
    GPU, or `interpreted`.
    """
    return _branches(rows, weights, _sizes(rows, arrangement.kernels == "interpreted"))


def _sizes(rows: jax.Array, interpret: bool) -> Sizes:
    count, width = rows.shape
    return Sizes(
        points=count,
        nodes=0,
        edges=count,
        samples=1,
        width=width,
        places=1,
        to_points=True,
        interpret=interpret,
    )


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _branches(rows: jax.Array, weights: tuple[jax.Array, ...], sizes: Sizes) -> tuple[jax.Array, ...]:
    def kernel(rows: Any, *refs: Any) -> None:
        row, there, everything = _rows(sizes)
        for weight, out in zip(refs[: len(weights)], refs[len(weights) :], strict=True):

            def add(chunk: jax.Array, total: jax.Array, weight: Any = weight) -> jax.Array:
                columns = _columns(chunk, sizes)
                return total + product(take(rows, row, columns), take(weight, columns, everything))

            zeros = jnp.zeros((sizes.rows, sizes.width), jnp.float32)
            store(out, row, 0, jax.lax.fori_loop(0, len(sizes.chunks), add, zeros), there)

    out = [jax.ShapeDtypeStruct(rows.shape, rows.dtype) for _ in weights]
    cast = [weight.astype(rows.dtype) for weight in weights]
    return rows, *_call("branches", kernel, out, [rows, *cast], len(weights), sizes)


def _forward(rows: jax.Array, weights: tuple[jax.Array, ...], sizes: Sizes) -> tuple[tuple[jax.Array, ...], Any]:
    return _branches(rows, weights, sizes), (rows, weights)


def _backward(sizes: Sizes, saved: Any, gradients: tuple[jax.Array, ...]) -> tuple[Any, ...]:
    rows, weights = saved
    others = gradients[1:]

    def kernel(direct: Any, *refs: Any) -> None:
        row, there, everything = _rows(sizes)
        total = take(direct, row, everything).astype(jnp.float32)
        for gradient, weight in zip(refs[: len(others)], refs[len(others) : -1], strict=True):

            def add(chunk: jax.Array, total: jax.Array, gradient: Any = gradient, weight: Any = weight) -> jax.Array:
                columns = _columns(chunk, sizes)
                return total + product(take(gradient, row, columns), take(weight, everything, columns), turned="b")

            total = jax.lax.fori_loop(0, len(sizes.chunks), add, total)
        store(refs[-1], row, 0, total, there)

    out = [jax.ShapeDtypeStruct(rows.shape, rows.dtype)]
    cast = [weight.astype(rows.dtype) for weight in weights]
    (by_rows,) = _call("gradient_of_branches", kernel, out, [*gradients, *cast], len(weights), sizes)
    return by_rows, tuple(gpu_layers.weight_gradient(rows, gradient) for gradient in others)


_branches.defvjp(_forward, _backward)


def _rows(sizes: Sizes) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A program's rows, whether there are such, and all columns."""
    row = pl.program_id(0) * sizes.rows + jnp.arange(sizes.rows, dtype=jnp.int32)
    return jnp.minimum(row, sizes.points - 1), row < sizes.points, jnp.arange(sizes.width, dtype=jnp.int32)


def _columns(chunk: jax.Array, sizes: Sizes) -> jax.Array:
    return chunk * sizes.columns + jnp.arange(sizes.columns, dtype=jnp.int32)


def _call(name: str, kernel: Any, out: Any, operands: list[jax.Array], products: int, sizes: Sizes) -> list[jax.Array]:
    loads = products * (1 + sizes.width / sizes.rows) + 1
    programs = pl.cdiv(sizes.points, sizes.rows)
    return call(name, kernel, programs, out, operands, sizes, edges=sizes.edges, products=products, loads=loads)
