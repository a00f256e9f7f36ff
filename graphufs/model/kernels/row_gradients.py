"""The way back of `by_row`: two kernels, one for all that goes along rows, one for the last layer's sums over them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from graphufs.model.kernels.row_tile import (
    CHUNK,
    Given,
    Rows,
    Tile,
    before,
    first,
    here,
    hidden,
    normalized,
    put,
    sources_of,
    wide,
)
from graphufs.model.kernels.tile import before_normalization, call, divided, past_the_end, product, remainder, take
from graphufs.model.kernels.weights import SHARES, WARPS, columns_kept

NUMBERS = 4
"""What is kept of each row for the gradients of weights: r and the mean of x, the means of g' and g' xh."""


class RowGradients(NamedTuple):
    """Gradients along rows, and what those of weights are made of."""

    z: jax.Array
    """[row, L], of what goes into the activation."""
    sources: tuple[jax.Array, ...]
    """[row, K]"""
    static: jax.Array
    """float32 [edge, L], or [1, L]."""
    result: jax.Array
    """[row, out], of the result, all that is made of it included."""
    value: jax.Array | None
    """[row, L], what goes into the activation itself; None where it is soon computed again, from a few channels."""
    numbers: jax.Array | None
    """float32 [NUMBERS, row], of rows that are normalized."""


def gradients_of_rows(
    given: Given,
    direct: jax.Array | None,
    of_both: jax.Array | None,
    of_products: tuple[jax.Array, ...],
    sizes: Rows,
) -> RowGradients:
    """The gradients along rows, from that of the result [row, out] (None: 0) and those of its products [row, L].

    `of_both` [row, out] is that of the result and the first source together; None where nobody asked for these.
    """
    leaves, tree = jax.tree.flatten((given, direct, of_both, of_products))
    dtype, count, width = given.weight.dtype, sizes.count, sizes.width
    summed = sizes.statics == 1
    in_tile = not summed and 1 < sizes.samples <= sizes.rows and sizes.rows % sizes.samples == 0
    out = {f"source {place}": (count, size) for place, size in enumerate(sizes.inputs)} | {"z": (count, width)}
    if not _few_channels(given, sizes):
        out["value"] = count, width
    shapes = {name: jax.ShapeDtypeStruct(shape, dtype) for name, shape in out.items()}
    together = bool(of_products) or of_both is not None
    if together:
        shapes["result"] = jax.ShapeDtypeStruct((count, sizes.out), dtype)
    if sizes.normal:
        shapes["numbers"] = jax.ShapeDtypeStruct((NUMBERS, count), jnp.float32)
    if summed or in_tile:
        shapes["static"] = jax.ShapeDtypeStruct((sizes.tiles if summed else sizes.statics, width), jnp.float32)

    def kernel(*refs: Any) -> None:
        given, direct, of_both, of_products = jax.tree.unflatten(tree, refs[: len(leaves)])
        out = dict(zip(shapes, refs[len(leaves) :], strict=True))
        program = pl.program_id(0)  # interpreted, a loop does not know it
        tile = here(program, sizes)
        tiles = sources_of(given, tile, sizes)
        g = _of_result(given, direct, of_products, tile, sizes)
        everything = jnp.arange(g.shape[1], dtype=jnp.int32)
        if of_both is not None:
            g = g + wide(of_both, tile.row, sizes.out, sizes).astype(jnp.float32)
        if together:
            put(out["result"], tile, everything, g)
        by_x = g if given.scale is None else g * given.scale[...][None, :]
        if sizes.normal:
            normal, reciprocal, middle = normalized(hidden(given, tiles, tile, sizes))
            by_x, of_g, of_product = before_normalization(normal, reciprocal, by_x)
            for index, value in enumerate((reciprocal, middle, of_g, of_product)):
                where = out["numbers"].at[index, past_the_end(tile.row, tile.there, count)]
                triton.store(where, value.sum(1), mask=tile.there)
        by_x = jnp.where(tile.there[:, None], by_x, 0).astype(dtype)

        def add(chunk: jax.Array, totals: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            columns = sizes.columns_of(chunk)
            z = before(given, tiles, tile, columns, sizes)
            s = jax.nn.sigmoid(z)
            by_z = product(by_x, wide(given.weight, columns, sizes.out, sizes), turned="b") * (s + z * s * (1 - s))
            if "value" in out:
                put(out["value"], tile, columns, z)
            put(out["z"], tile, columns, by_z)
            if summed:
                triton.store(out["static"].at[program, columns], by_z.sum(0))
            elif in_tile:
                _put_sums(out["static"], by_z, program, columns, sizes)
            by_z = by_z.astype(dtype)
            return tuple(
                total + product(by_z, first(weight, columns, size, sizes), turned="b")
                for total, weight, size in zip(totals, given.firsts, sizes.inputs, strict=True)
            )

        none = tuple(jnp.zeros((sizes.rows, sizes.padded(size)), jnp.float32) for size in sizes.inputs)
        if sizes.residual:
            none = g, *none[1:]
        elif of_both is not None:  # loaded again rather than kept
            none = wide(of_both, tile.row, sizes.out, sizes).astype(jnp.float32), *none[1:]
        totals = jax.lax.fori_loop(0, sizes.chunks, add, none)
        for place, total in enumerate(totals):
            put(out[f"source {place}"], tile, jnp.arange(total.shape[1], dtype=jnp.int32), total)

    found = call(
        "gradients_of_rows",
        kernel,
        sizes.tiles,
        list(shapes.values()),
        leaves,
        sizes,
        edges=count // sizes.samples,
        products=(2 + sizes.normal) * sizes.firsts + (1 + sizes.normal) * sizes.last + len(of_products) * sizes.last,
        loads=2 * sizes.loads
        + 2 * len(given.terms)
        + len(of_products) * (1 + sizes.loads_of_weight)
        + 1
        + 2 * sizes.both,
        warps=16,
        stages=1,
    )
    by_name = dict(zip(shapes, found, strict=True))
    static = by_name.get("static")
    if static is None:
        static = by_name["z"].reshape(sizes.statics, -1, width).astype(jnp.float32).sum(1)
    elif summed:
        static = static.sum(0, keepdims=True)
    return RowGradients(
        by_name["z"],
        tuple(by_name[f"source {place}"] for place in range(len(sizes.inputs))),
        static,
        by_name["result"] if together else direct,  # type: ignore[arg-type]
        by_name.get("value"),
        by_name.get("numbers"),
    )


def _few_channels(given: Given, sizes: Rows) -> bool:
    """Whether what goes into the activation is soon made again: of rows of a few channels and a small matrix."""
    channels = sum(map(sizes.padded, sizes.inputs))
    return not given.terms and 2 * channels <= sizes.width and channels * sizes.width * sizes.item <= CHUNK


def _of_result(given: Given, direct: Any, of_products: tuple[Any, ...], tile: Tile, sizes: Rows) -> jax.Array:
    """The gradient of the result, float32 [row, out], from that which it has directly and those of its products."""
    total = jnp.zeros((sizes.rows, sizes.padded(sizes.out)), jnp.float32)
    if direct is not None:
        total = wide(direct, tile.row, sizes.out, sizes).astype(jnp.float32)
    for gradient, weight in zip(of_products, given.after, strict=True):

        def add(chunk: jax.Array, total: jax.Array, gradient: Any = gradient, weight: Any = weight) -> jax.Array:
            columns = sizes.columns_of(chunk)
            return total + product(
                take(gradient, tile.row, columns), first(weight, columns, sizes.out, sizes), turned="b"
            )

        total = jax.lax.fori_loop(0, sizes.chunks, add, total)
    return total


def _put_sums(static: Any, by_z: jax.Array, program: jax.Array, columns: jax.Array, sizes: Rows) -> None:
    """Store the sums over an edge's samples of by_z [row, column], where a tile has whole edges."""
    edges = sizes.rows // sizes.samples
    edge = program * edges + jnp.arange(edges, dtype=jnp.int32)
    there = jnp.broadcast_to((edge < sizes.statics)[:, None], (edges, columns.size))
    sums = by_z.reshape(edges, sizes.samples, columns.size).sum(1)
    triton.store(static.at[edge[:, None], columns[None, :]], sums, mask=there)


def gradients_of_layers(given: Given, found: RowGradients, sizes: Rows) -> list[jax.Array | None]:
    """The gradients of W [L, out], b [out], scale [out] and offset [out], float32.

    A program keeps those of some columns and adds up a share of the tiles; shares are added up at the end.
    """
    width = sizes.width
    out = sizes.padded(sizes.out)
    kept = min(out, columns_kept(width))
    groups, tiles = out // kept, sizes.tiles
    shares = min(SHARES, tiles)
    few = given._replace(after=(), weight=None, bias=None, scale=None, offset=None) if found.value is None else None
    arrays = few, given.weight, given.bias, given.scale, found.value, found.result, found.numbers
    leaves, tree = jax.tree.flatten(arrays)

    def kernel(*refs: Any) -> None:
        few, weight, bias, scale, value, result, numbers = jax.tree.unflatten(tree, refs[: len(leaves)])
        (sums,) = refs[len(leaves) :]
        share = divided(pl.program_id(0), groups)
        columns = remainder(pl.program_id(0), groups) * kept + jnp.arange(kept, dtype=jnp.int32)
        everything = jnp.arange(width, dtype=jnp.int32)
        matrix, constant = _columns(weight, everything, columns, sizes), _of_columns(bias, columns, sizes)

        def add(index: jax.Array, totals: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            tile = here(share + index * shares, sizes)
            if few is None:
                z = take(value, tile.row, everything).astype(jnp.float32)
            else:
                z = before(few, sources_of(few, tile, sizes), tile, everything, sizes)
            h = (z * jax.nn.sigmoid(z)).astype(weight.dtype)
            g = _columns(result, tile.row, columns, sizes).astype(jnp.float32)
            g = jnp.where(tile.there[:, None], g, 0)
            if numbers is None:
                return totals[0] + product(h, g.astype(h.dtype), turned="a"), totals[1] + g.sum(0)
            reciprocal, middle, of_g, of_product = (
                triton.load(numbers.at[number, tile.row])[:, None] for number in range(NUMBERS)
            )
            normal = (product(h, matrix) + constant[None, :] - middle) * reciprocal
            scaled = g if scale is None else g * triton.load(scale.at[columns])[None, :]
            by_x = jnp.where(tile.there[:, None], reciprocal * (scaled - of_g - normal * of_product), 0)
            by_x = by_x.astype(h.dtype)
            of_tile = product(h, by_x, turned="a"), by_x.astype(jnp.float32).sum(0), (g * normal).sum(0), g.sum(0)
            return tuple(total + part for total, part in zip(totals, of_tile, strict=True))

        zeros = jnp.zeros((width, kept), jnp.float32), *(jnp.zeros(kept, jnp.float32) for _ in range(vectors))
        totals = jax.lax.fori_loop(0, divided(tiles - share + shares - 1, shares), add, zeros)
        triton.store(sums.at[share, everything[:, None], columns[None, :]], totals[0])
        for place, total in enumerate(totals[1:]):
            triton.store(sums.at[share, width + place, columns], total)

    vectors = 3 if sizes.normal else 1
    (sums,) = call(
        "gradients_of_layers",
        kernel,
        shares * groups,
        [jax.ShapeDtypeStruct((shares, width + vectors, out), jnp.float32)],
        leaves,
        sizes,
        edges=sizes.count // sizes.samples,
        products=(1 + sizes.normal) * sizes.last + (groups * sizes.firsts if few else 0),
        loads=groups * ((sizes.firsts if few else 1) + sizes.last),
        warps=WARPS,
        stages=1,
    )
    return [*_added_up(sums, sizes), *[None] * (3 - vectors)]


def _added_up(sums: jax.Array, sizes: Rows) -> list[jax.Array]:
    """The sums over shares of [share, L + vectors, out]: a matrix [L, out], vectors [out]; not slices of an array.

    XLA would have a kernel for each slice.
    """
    shares, rows, out = sums.shape
    vectors = rows - sizes.width
    places = pl.next_power_of_2(shares)

    def kernel(sums: Any, matrix: Any, *others: Any) -> None:
        row, columns = pl.program_id(0), jnp.arange(out, dtype=jnp.int32)
        share = jnp.arange(places, dtype=jnp.int32)
        there = jnp.broadcast_to((share < shares)[:, None], (places, out))
        given = sums.at[jnp.minimum(share, shares - 1)[:, None], row, columns[None, :]]
        total = triton.load(given, mask=there, other=0).sum(0)
        inside = columns < sizes.out
        for place, ref in enumerate(others):
            wanted = inside & (row == sizes.width + place)
            triton.store(ref.at[past_the_end(columns, wanted, sizes.out)], total, mask=wanted)
        wanted = inside & (row < sizes.width)
        of_matrix = jnp.full(out, row, jnp.int32)
        triton.store(matrix.at[past_the_end(of_matrix, wanted, sizes.width), columns], total, mask=wanted)

    shapes = [(sizes.width, sizes.out), *[(sizes.out,)] * vectors]
    called = pl.pallas_call(
        kernel,
        name="added_up",
        out_shape=[jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes],
        grid=(rows,),
        interpret=sizes.interpret,
        compiler_params=triton.CompilerParams(num_warps=8, num_stages=1),
    )
    return list(called(sums))


def _columns(array: Any, rows: jax.Array, columns: jax.Array, sizes: Rows) -> jax.Array:
    """Some columns of rows of an array [row, out], zeros past the last."""
    if sizes.padded(sizes.out) == sizes.out:
        return take(array, rows, columns)
    inside = jnp.broadcast_to((columns < sizes.out)[None, :], (rows.size, columns.size))
    return triton.load(array.at[rows[:, None], jnp.minimum(columns, sizes.out - 1)[None, :]], mask=inside, other=0)


def _of_columns(array: Any, columns: jax.Array, sizes: Rows) -> jax.Array:
    """Of an array [out] likewise."""
    if sizes.padded(sizes.out) == sizes.out:
        return triton.load(array.at[columns])
    return triton.load(array.at[jnp.minimum(columns, sizes.out - 1)], mask=columns < sizes.out, other=0)
