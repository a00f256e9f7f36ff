"""Kernels that go from mesh node to mesh node and through the many edges of each: messages to nodes, and gradients.

A program has one sample of one node and adds up its edges, a tile of them at a time, in their order. The programs of
a node's samples follow each other, so that what they share is read from memory once, and then from the cache.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from graphufs.model.kernels.tile import (
    Sizes,
    Terms,
    Tile,
    back_to_z,
    before_normalization,
    call,
    divided,
    loads_of_message,
    message,
    remainder,
    take,
    unpacked,
)


def sums_at_nodes(terms: Terms, of_node: jax.Array, starts: jax.Array, point: jax.Array, sizes: Sizes) -> jax.Array:
    """The sum of the messages of each node's edges, float32 [node * sample, L].

    `of_node` and `point` are [edge], `starts` [node + 1].
    """
    operands, unpack = unpacked(terms, of_node, starts, point)

    def kernel(*refs: Any) -> None:
        terms, of_node, starts, point, (out,) = unpack(refs)

        def add(tile: Tile, total: jax.Array) -> jax.Array:
            return total + jnp.where(tile.there[:, None], message(terms, tile, sizes)[0], 0)

        total = _through_edges(add, jnp.zeros((sizes.rows, sizes.width), jnp.float32), of_node, starts, point, sizes)
        out[pl.program_id(0), :] = total.sum(0)

    return call(
        "sums_at_nodes",
        kernel,
        sizes.nodes * sizes.samples,
        [_of_nodes(sizes)],
        operands,
        sizes,
        edges=sizes.edges,
        products=1,
        loads=loads_of_message(terms, sizes),
    )[0]


def gradients_at_nodes(
    terms: Terms, of_node: jax.Array, starts: jax.Array, point: jax.Array, gradient: jax.Array, sizes: Sizes
) -> jax.Array:
    """The gradient of the nodes' term, float32 [node * sample, L], from that of the sums, [point * sample, L]."""
    operands, unpack = unpacked(terms, of_node, starts, point)

    def kernel(*refs: Any) -> None:
        terms, of_node, starts, point, (gradient, out) = unpack(refs)
        everything = jnp.arange(sizes.width, dtype=jnp.int32)

        chunks = jnp.arange(len(sizes.chunks), dtype=jnp.int32)[:, None]

        def add(tile: Tile, total: jax.Array) -> jax.Array:
            normal, reciprocal, _ = message(terms, tile, sizes)
            g = take(gradient, tile.point, everything).astype(jnp.float32)
            by_x, _, _ = before_normalization(normal, reciprocal, g)
            by_x = jnp.where(tile.there[:, None], by_x, 0).astype(terms.weight.dtype)

            # a loop, as chunks of W that are the same for all tiles would all be kept in shared memory
            def add_chunk(chunk: jax.Array, total: jax.Array) -> jax.Array:
                of_chunk = back_to_z(by_x, terms, tile, chunk * sizes.columns, sizes).sum(0)
                return total + jnp.where(chunks == chunk, of_chunk[None, :], 0)

            return jax.lax.fori_loop(0, len(sizes.chunks), add_chunk, total)

        zeros = jnp.zeros((len(sizes.chunks), sizes.columns), jnp.float32)
        total = _through_edges(add, zeros, of_node, starts, point, sizes)
        columns = chunks * sizes.columns + jnp.arange(sizes.columns, dtype=jnp.int32)[None, :]
        triton.store(out.at[pl.program_id(0), columns], total)

    loads = 2 * loads_of_message(terms, sizes) + 1
    programs = sizes.nodes * sizes.samples
    return call(
        "gradients_at_nodes",
        kernel,
        programs,
        [_of_nodes(sizes)],
        [*operands, gradient],
        sizes,
        edges=sizes.edges,
        products=2,
        loads=loads,
    )[0]


def _of_nodes(sizes: Sizes) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((sizes.nodes * sizes.samples, sizes.width), jnp.float32)


def _through_edges(add: Any, total: Any, of_node: Any, starts: Any, point: Any, sizes: Sizes) -> Any:
    """`total` after add(tile, total) for each tile of the edges of this program's node."""
    node, sample = (part(pl.program_id(0), sizes.samples) for part in (divided, remainder))
    first, stop = starts[node], starts[node + 1]

    def of_tile(index: jax.Array, total: Any) -> Any:
        place = first + index * sizes.rows + jnp.arange(sizes.rows, dtype=jnp.int32)
        edge = triton.load(of_node.at[jnp.minimum(place, sizes.edges - 1)])
        at_point = triton.load(point.at[edge]) * sizes.samples + sample
        at_node = jnp.full(place.shape, node * sizes.samples + sample)
        return add(Tile(edge, at_point, at_node, place < stop), total)

    return jax.lax.fori_loop(0, divided(stop - first + sizes.rows - 1, sizes.rows), of_tile, total)
