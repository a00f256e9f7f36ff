"""What the kernels that go row by row do with a tile of rows: what goes into the activation, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from graphufs.model.kernels.tile import divided, mean, past_the_end, product, remainder, take
from graphufs.model.layers import EPSILON

SOURCES, CHUNK = 2**16, 2**15
"""Bytes of a tile's sources, and of a chunk of a matrix: a few of each fit a processor's shared memory."""
LEAST = 16
"""Of rows, columns and what is summed over in a product on tensor cores."""


@dataclass(frozen=True)
class Rows:
    """Of one call: rows, samples of each edge, the hidden layer's width, columns of the result and of the sources."""

    count: int
    samples: int
    width: int
    out: int
    inputs: tuple[int, ...]
    statics: int
    """Rows of the static term; one where it is a bias."""
    item: int
    """Bytes of a number."""
    normal: bool
    """Whether rows are normalized."""
    residual: bool
    """Whether the first source is added to the result."""
    interpret: bool
    both: bool = False
    """Whether the result and the first source together are a second result."""
    hidden: bool = False
    """Whether the result itself is not asked for, but only its products."""

    @property
    def rows(self) -> int:
        """Of a tile, a power of two."""
        wanted = SOURCES // (max(1, sum(map(self.padded, self.inputs))) * self.item)
        return max(LEAST, min(64, 2 ** (wanted.bit_length() - 1)))

    @property
    def columns(self) -> int:
        """Of a chunk; all where they cannot be divided evenly."""
        columns = max(LEAST, min(64, CHUNK // (self.width * self.item)))
        return columns if self.width % columns == 0 else self.width

    @property
    def chunks(self) -> int:
        """Of the hidden layer's columns."""
        return self.width // self.columns

    @property
    def tiles(self) -> int:
        """Of the rows."""
        return pl.cdiv(self.count, self.rows)

    @property
    def warps(self) -> int:
        """Of a program: 64 numbers of a row's hidden layer for each thread."""
        return 16 if self.rows * self.width > 2**14 else 8

    @property
    def firsts(self) -> float:
        """Products with the first layers, in those of a row and an [L, L] matrix."""
        return sum(self.inputs) / self.width

    @property
    def last(self) -> float:
        """The product with W, likewise."""
        return self.out / self.width

    @property
    def loads_of_weight(self) -> float:
        """Rows of a matrix [L, L] that are loaded for a row."""
        return self.width / self.rows

    @property
    def loads(self) -> float:
        """Rows of L numbers that are loaded for a row: sources, and the matrices."""
        return self.firsts + (self.firsts + self.last) * self.loads_of_weight

    def padded(self, size: int) -> int:
        """The columns of an array that is multiplied: a power of two."""
        return max(1 if self.interpret else LEAST, pl.next_power_of_2(size))

    def columns_of(self, chunk: Any) -> jax.Array:
        """The columns int32 [column] of a chunk."""
        return chunk * self.columns + jnp.arange(self.columns, dtype=jnp.int32)


class Given(NamedTuple):
    """What rows are computed from: arrays, or references to them."""

    sources: tuple[Any, ...]
    """[row, K]"""
    firsts: tuple[Any, ...]
    """[K, L], of each source."""
    terms: tuple[Any, ...]
    """[node * sample, L]"""
    nodes: tuple[Any, ...]
    """int32 [edge], of each term; None where it has a row for each."""
    static: Any
    """[edge, L], or [1, L]."""
    weight: Any
    """[L, out]"""
    bias: Any
    """float32 [out]"""
    scale: Any | None
    offset: Any | None
    after: tuple[Any, ...]
    """[out, L]"""


class Tile(NamedTuple):
    """The rows of a tile, int32 [row], and the rows of the static term and of the terms."""

    row: jax.Array
    there: jax.Array
    """Whether the row is one, bool."""
    edge: jax.Array
    sample: jax.Array


def rounded(given: Given, dtype: Any) -> Given:
    """With matrices as precise as the rows."""
    firsts, after = (tuple(weight.astype(dtype) for weight in some) for some in (given.firsts, given.after))
    return given._replace(firsts=firsts, after=after, weight=given.weight.astype(dtype))


def here(index: jax.Array, sizes: Rows) -> Tile:
    """The rows of the tile with a number, a scalar; arrays are [row]."""
    row = index * sizes.rows + jnp.arange(sizes.rows, dtype=jnp.int32)
    there, row = row < sizes.count, jnp.minimum(row, sizes.count - 1)
    return Tile(row, there, divided(row, sizes.samples), remainder(row, sizes.samples))


def sources_of(given: Given, tile: Tile, sizes: Rows) -> list[jax.Array]:
    """The sources' rows, [row, K], zeros in columns that only pad."""
    return [wide(source, tile.row, size, sizes) for source, size in zip(given.sources, sizes.inputs, strict=True)]


def wide(array: Any, rows: jax.Array, size: int, sizes: Rows) -> jax.Array:
    """Rows of an array [row, size], zeros in columns past the last."""
    columns = jnp.arange(sizes.padded(size), dtype=jnp.int32)
    if columns.size == size:
        return take(array, rows, columns)
    inside = jnp.broadcast_to((columns < size)[None, :], (rows.shape[0], columns.size))
    return triton.load(array.at[rows[:, None], jnp.minimum(columns, size - 1)[None, :]], mask=inside, other=0)


def first(weight: Any, columns: jax.Array, size: int, sizes: Rows) -> jax.Array:
    """Some columns of a matrix [size, L], zeros in rows past the last."""
    rows = jnp.arange(sizes.padded(size), dtype=jnp.int32)
    if rows.size == size:
        return take(weight, rows, columns)
    inside = jnp.broadcast_to((rows < size)[:, None], (rows.size, columns.size))
    return triton.load(weight.at[jnp.minimum(rows, size - 1)[:, None], columns[None, :]], mask=inside, other=0)


def put(array: Any, tile: Tile, columns: jax.Array, values: jax.Array) -> None:
    """Store values [row, column] in a tile's rows of an array, but for columns past its last."""
    inside = tile.there[:, None] & (columns < array.shape[1])[None, :]
    where = array.at[past_the_end(tile.row, tile.there, array.shape[0])[:, None], columns[None, :]]
    triton.store(where, values.astype(array.dtype), mask=inside)


def before(given: Given, tiles: list[jax.Array], tile: Tile, columns: jax.Array, sizes: Rows) -> jax.Array:
    """The term z before the activation, float32 [row, column]."""
    if sizes.statics == 1:
        z = jnp.broadcast_to(
            triton.load(given.static.at[0, columns]).astype(jnp.float32)[None, :], (sizes.rows, columns.size)
        )
    else:
        z = take(given.static, tile.edge, columns).astype(jnp.float32)
    for term, nodes in zip(given.terms, given.nodes, strict=True):
        row = tile.row if nodes is None else triton.load(nodes.at[tile.edge]) * sizes.samples + tile.sample
        z = z + take(term, row, columns).astype(jnp.float32)
    for source, weight, size in zip(tiles, given.firsts, sizes.inputs, strict=True):
        z = z + product(source, first(weight, columns, size, sizes))
    return z


def hidden(given: Given, tiles: list[jax.Array], tile: Tile, sizes: Rows) -> jax.Array:
    """The last layer's x, float32 [row, out], zeros (or anything) in columns that only pad."""

    def add(chunk: jax.Array, x: jax.Array) -> jax.Array:
        columns = sizes.columns_of(chunk)
        z = before(given, tiles, tile, columns, sizes)
        h = (z * jax.nn.sigmoid(z)).astype(given.weight.dtype)
        return x + product(h, wide(given.weight, columns, sizes.out, sizes))

    x = jax.lax.fori_loop(0, sizes.chunks, add, jnp.zeros((sizes.rows, sizes.padded(sizes.out)), jnp.float32))
    return x + vector(given.bias, sizes.out, sizes)[None, :]


def vector(array: Any, size: int, sizes: Rows) -> jax.Array:
    """An array [size], zeros past its end."""
    places = jnp.arange(sizes.padded(size), dtype=jnp.int32)
    if places.size == size:
        return triton.load(array.at[places])
    return triton.load(array.at[jnp.minimum(places, size - 1)], mask=places < size, other=0)


def normalized(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Each row of x [row, L] normalized, and its factor r and its mean, [row, 1]."""
    middle = mean(x)
    centred = x - middle
    reciprocal = jax.lax.rsqrt(mean(centred * centred) + EPSILON)
    return centred * reciprocal, reciprocal, middle
