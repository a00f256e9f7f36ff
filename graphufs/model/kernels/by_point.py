"""Kernels that go from point to point and through the few edges of each: messages to points, and gradients.

A program has the rows of a few points with their samples, and takes the edges at each place of the points' lists in
turn. What is added up at a point stays in the program, so there is nothing that others could add to.
"""

from __future__ import annotations

from typing import Any, NamedTuple

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
    past_the_end,
    remainder,
    samples_together,
    store,
    take,
    unpacked,
)


class Points(NamedTuple):
    """The rows of a program, int32 [row]: points with some samples of each side by side."""

    point: jax.Array
    sample: jax.Array
    there: jax.Array
    """Whether there are such a point and sample, bool."""


def sums_at_points(terms: Terms, of_point: jax.Array, node: jax.Array, sizes: Sizes) -> jax.Array:
    """The sum of the messages of each point's edges, [point * sample, L] in the precision of `terms.at_point`.

    `of_point` is [place, point], `node` [edge].
    """
    operands, unpack = unpacked(terms, of_point, node)

    def kernel(*refs: Any) -> None:
        terms, of_point, node, (out,) = unpack(refs)
        points = _points(sizes)

        def add(place: jax.Array, total: jax.Array) -> jax.Array:
            tile = edges_at(of_point, node, place, points, sizes)
            return total + jnp.where(tile.there[:, None], message(terms, tile, sizes)[0], 0)

        zeros = jnp.zeros((sizes.rows, sizes.width), jnp.float32)
        total = jax.lax.fori_loop(0, most_edges(of_point, points, sizes), add, zeros)
        store(out, _rows(points, sizes), 0, total, points.there)

    rows = jax.ShapeDtypeStruct((sizes.points * sizes.samples, sizes.width), terms.at_point.dtype)
    edges, loads = sizes.points * sizes.places, loads_of_message(terms, sizes)
    return call(
        "sums_at_points", kernel, _programs(sizes), [rows], operands, sizes, edges=edges, products=1, loads=loads
    )[0]


class PointGradients(NamedTuple):
    """Gradients of what the messages were made of, and what the gradient of W is made of."""

    at_point: jax.Array
    """[point * sample, L], in the precision of the points' term."""
    static: jax.Array
    """[edge, L], in that of the static term. Of edges that only pad a block it is anything."""
    of_x: jax.Array
    """float32 [3, place, point * sample]: three numbers a, b, c of each message with which the gradient of x is
    a g + b x + c, column by column."""


def gradients_at_points(
    terms: Terms, of_point: jax.Array, node: jax.Array, gradient: jax.Array, sizes: Sizes
) -> PointGradients:
    """The way back from the gradient of the sums, [point * sample, L] or [node * sample, L]."""
    operands, unpack = unpacked(terms, of_point, node)
    together = samples_together(sizes.samples, sizes.rows)
    parts = pl.cdiv(sizes.samples, together)

    def kernel(*refs: Any) -> None:
        terms, of_point, node, (gradient, at_point, static, of_x) = unpack(refs)
        points, everything = _points(sizes), jnp.arange(sizes.width, dtype=jnp.int32)
        part = remainder(pl.program_id(0), parts)

        def add(place: jax.Array, totals: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            tile = edges_at(of_point, node, place, points, sizes)
            normal, reciprocal, middle = message(terms, tile, sizes)
            g = take(gradient, tile.point if sizes.to_points else tile.node, everything).astype(jnp.float32)
            by_x, of_g, of_product = before_normalization(normal, reciprocal, g)
            by_x = jnp.where(tile.there[:, None], by_x, 0).astype(terms.weight.dtype)
            slope = -reciprocal * reciprocal * of_product
            for index, value in enumerate((reciprocal, slope, -reciprocal * of_g - slope * middle)):
                where = of_x.at[index, place, past_the_end(_rows(points, sizes), points.there, of_x.shape[2])]
                triton.store(where, value.sum(1), mask=points.there)
            # the samples of a point lie side by side and have the same edge, which gets the sum over them
            edges, there = _one_for_all(tile.edge, together), _one_for_all(tile.there.astype(jnp.int32), together) > 0
            sums = []
            for start, total in zip(sizes.chunks, totals, strict=True):
                by_z = back_to_z(by_x, terms, tile, start, sizes)
                of_edge = by_z.reshape(-1, together, sizes.columns).sum(1)
                store(static, part * sizes.edges + edges, start, of_edge, there)
                sums.append(total + by_z)
            return tuple(sums)

        zeros = jnp.zeros((sizes.rows, sizes.columns), jnp.float32)
        longest = most_edges(of_point, points, sizes)
        totals = jax.lax.fori_loop(0, longest, add, tuple(zeros for _ in sizes.chunks))
        for start, total in zip(sizes.chunks, totals, strict=True):
            store(at_point, _rows(points, sizes), start, total, points.there)

    rows = sizes.points * sizes.samples
    found = call(
        "gradients_at_points",
        kernel,
        _programs(sizes),
        [
            jax.ShapeDtypeStruct((rows, sizes.width), terms.at_point.dtype),
            jax.ShapeDtypeStruct((parts * sizes.edges, sizes.width), terms.static.dtype if parts == 1 else jnp.float32),
            jax.ShapeDtypeStruct((3, sizes.places, rows), jnp.float32),
        ],
        [*operands, gradient],
        sizes,
        edges=sizes.points * sizes.places,
        products=2,
        loads=2 * loads_of_message(terms, sizes) + 1,
    )
    of_samples = found[1].reshape(parts, sizes.edges, sizes.width)
    static = of_samples[0] if parts == 1 else of_samples.sum(0).astype(terms.static.dtype)
    return PointGradients(found[0], static, found[2])


def _programs(sizes: Sizes) -> int:
    together = samples_together(sizes.samples, sizes.rows)
    return pl.cdiv(sizes.points, sizes.rows // together) * pl.cdiv(sizes.samples, together)


def _points(sizes: Sizes) -> Points:
    """The rows of this program; samples of the same points are next to each other in the order of programs."""
    together = samples_together(sizes.samples, sizes.rows)
    parts = pl.cdiv(sizes.samples, together)
    program, row = pl.program_id(0), jnp.arange(sizes.rows, dtype=jnp.int32)
    point = divided(program, parts) * (sizes.rows // together) + divided(row, together)
    sample = remainder(program, parts) * together + remainder(row, together)
    there = (point < sizes.points) & (sample < sizes.samples)
    return Points(jnp.minimum(point, sizes.points - 1), jnp.minimum(sample, sizes.samples - 1), there)


def _rows(points: Points, sizes: Sizes) -> jax.Array:
    return points.point * sizes.samples + points.sample


def edges_at(of_point: Any, node: Any, place: jax.Array, points: Points, sizes: Sizes) -> Tile:
    """The edges at a scalar place of the points' lists `of_point` [place, point]; `node` is [edge]."""
    edge = triton.load(of_point.at[place, points.point])
    there, edge = points.there & (edge >= 0), jnp.maximum(edge, 0)
    of_node = jnp.minimum(triton.load(node.at[edge]), sizes.nodes - 1)
    return Tile(edge, _rows(points, sizes), of_node * sizes.samples + points.sample, there)


def most_edges(of_point: Any, points: Points, sizes: Sizes) -> Any:
    """The most edges that a point of this program has."""
    places = range(sizes.places)
    return sum(jnp.max((triton.load(of_point.at[place, points.point]) >= 0).astype(jnp.int32)) for place in places)


def _one_for_all(rows: jax.Array, together: int) -> jax.Array:
    """The greatest of each group of rows, [row / together]."""
    return rows.reshape(-1, together).max(1)
