"""The kernel for the gradients of W and b: sums over all edges and samples.

Each program keeps the gradient of some columns of W and adds up a share of the tiles; the shares are added up at the
end, in their order. These columns of x are computed again; with the three numbers that `by_point` keeps of each
message, their gradient needs no other column.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from graphufs.model.kernels.by_point import Points, edges_at, most_edges
from graphufs.model.kernels.tile import Sizes, Terms, before, call, divided, product, remainder, take, unpacked

KEPT = 2**15
"""Numbers of W's gradient that a program keeps: 64 registers of each of its threads."""
SHARES = 64
WARPS = 16


def columns_kept(width: int) -> int:
    """How many columns of W's gradient a program keeps."""
    return min(width, KEPT // width) if KEPT % width == 0 else width


def gradients_of_weights(
    terms: Terms, of_point: jax.Array, node: jax.Array, gradient: jax.Array, of_x: jax.Array, sizes: Sizes
) -> tuple[jax.Array, jax.Array]:
    """The gradients of W [L, L] and b [L], float32, from that of the sums and `by_point.PointGradients.of_x`.

    `of_point` is [place, point], `node` [edge], `gradient` [point * sample, L] or [node * sample, L].
    """
    operands, unpack = unpacked(terms, of_point, node)
    width, rows = sizes.width, sizes.points * sizes.samples
    kept = columns_kept(width)
    groups, tiles = width // kept, pl.cdiv(rows, sizes.rows)
    shares = min(SHARES, tiles)

    def kernel(*refs: Any) -> None:
        terms, of_point, node, (gradient, of_x, by_weight, by_bias) = unpack(refs)
        share, start = divided(pl.program_id(0), groups), remainder(pl.program_id(0), groups) * kept
        everything, columns = (jnp.arange(size, dtype=jnp.int32) for size in (width, kept))
        columns = start + columns
        weight, bias = take(terms.weight, everything, columns), triton.load(terms.bias.at[columns])

        def add_tile(index: jax.Array, totals: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            row = (share + index * shares) * sizes.rows + jnp.arange(sizes.rows, dtype=jnp.int32)
            there, row = row < rows, jnp.minimum(row, rows - 1)
            points = Points(divided(row, sizes.samples), remainder(row, sizes.samples), there)

            def add(place: jax.Array, totals: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
                tile = edges_at(of_point, node, place, points, sizes)
                z = before(terms, tile, everything)
                h = (z * jax.nn.sigmoid(z)).astype(terms.weight.dtype)
                g = take(gradient, tile.point if sizes.to_points else tile.node, columns).astype(jnp.float32)
                of_g, of_value, rest = (triton.load(of_x.at[number, place, row])[:, None] for number in range(3))
                by_x = of_g * g + of_value * (product(h, weight) + bias[None, :]) + rest
                by_x = jnp.where(tile.there[:, None], by_x, 0).astype(h.dtype)
                return totals[0] + product(h, by_x, turned="a"), totals[1] + by_x.astype(jnp.float32).sum(0)

            return jax.lax.fori_loop(0, most_edges(of_point, points, sizes), add, totals)

        zeros = jnp.zeros((width, kept), jnp.float32), jnp.zeros(kept, jnp.float32)
        count = divided(tiles - share + shares - 1, shares)
        totals = jax.lax.fori_loop(0, count, add_tile, zeros)
        triton.store(by_weight.at[share, everything[:, None], columns[None, :]], totals[0])
        triton.store(by_bias.at[share, columns], totals[1])

    by_weight, by_bias = call(
        "gradients_of_weights",
        kernel,
        shares * groups,
        [jax.ShapeDtypeStruct((shares, *shape), jnp.float32) for shape in ((width, width), (width,))],
        [*operands, gradient, of_x],
        sizes,
        edges=sizes.points * sizes.places,
        products=2,
        loads=groups * sum(array is not None for array in terms[:3]) + 1,
        warps=WARPS,
    )
    return by_weight.sum(0), by_bias.sum(0)
