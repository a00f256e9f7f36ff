"""What follows the first product of an MLP of one hidden layer, row by row and differentiable, by kernels.

    z = row (+ other) + static;  x = (z sigmoid(z)) @ W + b
    xh = (x - mean(x)) r;  result = residual + xh * scale + offset

Only the rows, the result and their gradients are arrays over rows in memory: the way back keeps nothing but the
arguments, and computes the rest again.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from graphufs.model.arrangement import Arrangement
from graphufs.model.kernels.tile import (
    Sizes,
    Terms,
    Tile,
    back_to_z,
    before,
    before_normalization,
    call,
    divided,
    loads_of_message,
    message,
    past_the_end,
    product,
    remainder,
    store,
    take,
    unpacked,
)
from graphufs.model.kernels.weights import SHARES, WARPS, columns_kept
from graphufs.model.layers import MLP

NUMBERS = 4
"""What is kept of each row for the gradients of weights: r and the mean of x, the means of g' and g' xh."""


def finish(
    mlp: MLP,
    rows: jax.Array,
    static: jax.Array,
    arrangement: Arrangement,
    *,
    other: jax.Array | None = None,
    affine: bool = True,
    residual: jax.Array | None = None,
) -> jax.Array:
    """The sum of `residual` and mlp.finish_with_bias(rows + other + static), or mlp.normal, as precise as the rows.

    Parameters
    ----------
    mlp
        Of one hidden layer, with a LayerNorm.
    rows
        [n * sample, L], float32 or bfloat16, without the first layer's bias.
    static
        [n, L], the same for all samples, or a bias [L]; with the first layer's bias.
    arrangement
        Its kernels are `fused`, for a GPU, or `interpreted`.
    other
        [n * sample, L]
    affine
        Whether the LayerNorm's scale and offset are applied.
    residual
        [n * sample, L]

    Returns
    -------
    jax.Array
        [n * sample, L]
    """
    static = static if static.ndim == 2 else static[None]
    sizes = Sizes(
        points=static.shape[0],
        nodes=0,
        edges=static.shape[0],
        samples=rows.shape[0] // static.shape[0],
        width=rows.shape[1],
        places=1,
        to_points=True,
        interpret=arrangement.kernels == "interpreted",
    )
    last = mlp.linears[-1]
    scale_and_offset = (mlp.scale, mlp.offset) if affine else (None, None)
    return _finish(rows, other, static, last.weight, last.bias, *scale_and_offset, residual, sizes)


@partial(jax.custom_vjp, nondiff_argnums=(8,))
def _finish(
    rows: jax.Array,
    other: jax.Array | None,
    static: jax.Array,
    weight: jax.Array,
    bias: jax.Array,
    scale: jax.Array | None,
    offset: jax.Array | None,
    residual: jax.Array | None,
    sizes: Sizes,
) -> jax.Array:
    given = Terms(rows, other, static, weight.astype(rows.dtype), bias)
    operands, unpack = unpacked(given, scale, offset, residual)

    def kernel(*refs: Any) -> None:
        terms, scale, offset, residual, (out,) = unpack(refs)
        tile = _tile(pl.program_id(0), sizes)
        result = message(terms, tile, sizes)[0]
        if scale is not None:
            result = result * scale[...][None, :] + offset[...][None, :]
        if residual is not None:
            result = result + take(residual, tile.point, _everything(sizes)).astype(jnp.float32)
        store(out, tile.point, 0, result, tile.there)

    out, loads = jax.ShapeDtypeStruct(rows.shape, rows.dtype), loads_of_message(given, sizes) + (residual is not None)
    name, programs = "layers_of_rows", _programs(sizes)
    return call(name, kernel, programs, [out], operands, sizes, edges=sizes.edges, products=1, loads=loads)[0]


def _forward(*arguments: Any) -> tuple[jax.Array, Any]:
    *kept, scale, _, residual, _ = arguments
    return _finish(*arguments), (*kept, scale, residual is not None)


def _backward(sizes: Sizes, saved: Any, gradient: jax.Array) -> tuple[Any, ...]:
    rows, other, static, weight, bias, scale, has_residual = saved
    terms = Terms(rows, other, static, weight.astype(rows.dtype), bias)
    by_rows, numbers = _gradients_of_rows(terms, scale, gradient, sizes)
    by_weight, by_bias, by_scale, by_offset = _gradients_of_weights(terms, scale, gradient, numbers, sizes)
    by_static = by_rows.reshape(sizes.points, sizes.samples, sizes.width).astype(jnp.float32).sum(1)
    affine = (None, None) if scale is None else (by_scale, by_offset)
    return (
        by_rows,
        None if other is None else by_rows,
        by_static.astype(static.dtype),
        by_weight,
        by_bias,
        *affine,
        gradient if has_residual else None,
    )


_finish.defvjp(_forward, _backward)


def _gradients_of_rows(
    terms: Terms, scale: jax.Array | None, gradient: jax.Array, sizes: Sizes
) -> tuple[jax.Array, jax.Array]:
    """The gradient of the rows, and float32 [NUMBERS, row]."""
    operands, unpack = unpacked(terms, scale)

    def kernel(*refs: Any) -> None:
        terms, scale, (gradient, by_rows, numbers) = unpack(refs)
        tile = _tile(pl.program_id(0), sizes)
        normal, reciprocal, middle = message(terms, tile, sizes)
        g = _gradient(gradient, scale, tile, _everything(sizes))
        by_x, of_g, of_product = before_normalization(normal, reciprocal, g)
        for index, value in enumerate((reciprocal, middle, of_g, of_product)):
            where = numbers.at[index, past_the_end(tile.point, tile.there, numbers.shape[1])]
            triton.store(where, value.sum(1), mask=tile.there)
        by_x = by_x.astype(terms.weight.dtype)
        for start in sizes.chunks:
            store(by_rows, tile.point, start, back_to_z(by_x, terms, tile, start, sizes), tile.there)

    rows = terms.at_point.shape[0]
    found = call(
        "gradients_of_rows",
        kernel,
        _programs(sizes),
        [
            jax.ShapeDtypeStruct(terms.at_point.shape, terms.at_point.dtype),
            jax.ShapeDtypeStruct((NUMBERS, rows), jnp.float32),
        ],
        [*operands, gradient],
        sizes,
        edges=sizes.edges,
        products=2,
        loads=2 * loads_of_message(terms, sizes) + 1,
    )
    return found[0], found[1]


def _gradients_of_weights(
    terms: Terms, scale: jax.Array | None, gradient: jax.Array, numbers: jax.Array, sizes: Sizes
) -> list[jax.Array]:
    """The gradients of W [L, L], b [L], scale [L] and offset [L], float32.

    A program keeps those of some columns and adds up a share of the tiles; shares are added up at the end.
    """
    operands, unpack = unpacked(terms, scale)
    width, rows = sizes.width, terms.at_point.shape[0]
    kept = columns_kept(width)
    groups, tiles = width // kept, pl.cdiv(rows, sizes.rows)
    shares = min(SHARES, tiles)

    def kernel(*refs: Any) -> None:
        terms, scale, (gradient, numbers, by_weight, *others) = unpack(refs)
        share = divided(pl.program_id(0), groups)
        columns = remainder(pl.program_id(0), groups) * kept + jnp.arange(kept, dtype=jnp.int32)
        everything = _everything(sizes)
        weight, bias = take(terms.weight, everything, columns), triton.load(terms.bias.at[columns])

        def add(index: jax.Array, totals: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            tile = _tile(share + index * shares, sizes)
            z = before(terms, tile, everything)
            h = (z * jax.nn.sigmoid(z)).astype(terms.weight.dtype)
            reciprocal, middle, of_g, of_product = (
                triton.load(numbers.at[number, tile.point])[:, None] for number in range(NUMBERS)
            )
            normal = (product(h, weight) + bias[None, :] - middle) * reciprocal
            g = jnp.where(tile.there[:, None], _gradient(gradient, None, tile, columns), 0)
            scaled = g if scale is None else g * triton.load(scale.at[columns])[None, :]
            by_x = jnp.where(tile.there[:, None], reciprocal * (scaled - of_g - normal * of_product), 0)
            by_x = by_x.astype(h.dtype)
            sums = by_x.astype(jnp.float32).sum(0), (g * normal).sum(0), g.sum(0)
            found = product(h, by_x, turned="a"), *sums
            return tuple(total + one for total, one in zip(totals, found, strict=True))

        zeros = jnp.zeros((width, kept), jnp.float32), *(jnp.zeros(kept, jnp.float32) for _ in others)
        totals = jax.lax.fori_loop(0, divided(tiles - share + shares - 1, shares), add, zeros)
        triton.store(by_weight.at[share, everything[:, None], columns[None, :]], totals[0])
        for out, total in zip(others, totals[1:], strict=True):
            triton.store(out.at[share, columns], total)

    found = call(
        "gradients_of_layers",
        kernel,
        shares * groups,
        [jax.ShapeDtypeStruct((shares, *shape), jnp.float32) for shape in ((width, width), *[(width,)] * 3)],
        [*operands, gradient, numbers],
        sizes,
        edges=sizes.edges,
        products=2,
        loads=groups * (2 + (terms.at_node is not None)) + 1,
        warps=WARPS,
        stages=1,  # two of what it loads would not fit a processor's shared memory
    )
    return [one.sum(0) for one in found]


def _programs(sizes: Sizes) -> int:
    return pl.cdiv(sizes.points * sizes.samples, sizes.rows)


def _everything(sizes: Sizes) -> jax.Array:
    return jnp.arange(sizes.width, dtype=jnp.int32)


def _tile(index: jax.Array, sizes: Sizes) -> Tile:
    """The rows of a tile; their edge is that of the static term, their node that of the other one."""
    rows = sizes.points * sizes.samples
    row = index * sizes.rows + jnp.arange(sizes.rows, dtype=jnp.int32)
    there, row = row < rows, jnp.minimum(row, rows - 1)
    return Tile(divided(row, sizes.samples), row, row, there)


def _gradient(gradient: Any, scale: Any, tile: Tile, columns: jax.Array) -> jax.Array:
    g = take(gradient, tile.point, columns).astype(jnp.float32)
    return g if scale is None else g * triton.load(scale.at[columns])[None, :]
