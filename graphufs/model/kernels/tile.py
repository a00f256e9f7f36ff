"""What all kernels do with a tile: rows that are each one sample of one edge, its message and the way back.

    z = static[edge] + at_point[point, sample] (+ at_node[node, sample]);  h = z sigmoid(z);  x = h @ W + b
    message = (x - mean(x)) r,  r = 1/sqrt(var(x) + epsilon)

as `MLP.normal` has it for one hidden layer. Products have operands of the activations' type and float32 sums; all
else is float32. Nothing of this leaves the tile. The width L is gone through in chunks of columns where it is summed
over, so that a tile and a chunk of W fit a processor's registers and shared memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from graphufs.model.layers import EPSILON

PREFETCHED = 256


@dataclass(frozen=True)
class Sizes:
    """Of one call: points and nodes, edges, samples, the width L, the most edges of a point."""

    points: int
    nodes: int
    edges: int
    samples: int
    width: int
    places: int
    to_points: bool
    """Whether messages go from nodes to points, or the other way."""
    padded: bool = True
    """Whether there may be edges that only pad a block."""
    rows: int = 64
    """Of a tile, a power of two."""
    chunk: int = 64
    """Columns of a chunk at most, a power of two."""
    interpret: bool = False

    @property
    def chunks(self) -> list[int]:
        """Where the chunks begin."""
        return list(range(0, self.width, self.columns))

    @property
    def columns(self) -> int:
        """Of a chunk; all where they cannot be divided evenly."""
        return self.chunk if self.width % self.chunk == 0 else self.width


class Terms(NamedTuple):
    """References to the arrays that an edge's message is made of; `at_node` may be missing."""

    at_point: Any
    """[point * sample, L]"""
    at_node: Any | None
    """[node * sample, L]"""
    static: Any
    """[edge, L], the same for all samples; float32 or as the others."""
    weight: Any
    """[L, L]"""
    bias: Any
    """[L], float32."""


class Tile(NamedTuple):
    """The rows of a tile, int32 [row]; where there is no edge any valid number stands."""

    edge: jax.Array
    point: jax.Array
    """Of the array [point * sample, L]."""
    node: jax.Array
    """Of the array [node * sample, L]."""
    there: jax.Array
    """Whether the row is one, bool."""


def before(terms: Terms, tile: Tile, columns: jax.Array) -> jax.Array:
    """The term z before the activation, float32 [row, column]."""
    z = take(terms.static, tile.edge, columns).astype(jnp.float32)
    z = z + take(terms.at_point, tile.point, columns).astype(jnp.float32)
    return z if terms.at_node is None else z + take(terms.at_node, tile.node, columns).astype(jnp.float32)


def take(array: Any, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Some columns of some rows, [row, column]."""
    return triton.load(array.at[rows[:, None], columns[None, :]])


def store(array: Any, rows: jax.Array, start: int, values: jax.Array, there: jax.Array) -> None:
    """Store values [row, column], from a column on, to those rows [row] of an array that are there."""
    columns = start + jnp.arange(values.shape[1], dtype=jnp.int32)
    where = array.at[past_the_end(rows, there, array.shape[0])[:, None], columns[None, :]]
    triton.store(where, values.astype(array.dtype), mask=jnp.broadcast_to(there[:, None], values.shape))


def past_the_end(rows: jax.Array, there: jax.Array, length: int) -> jax.Array:
    """Rows [row], none where there is none: interpreted, a store writes back what stands in a masked one."""
    return jnp.where(there, rows, length)


def message(terms: Terms, tile: Tile, sizes: Sizes) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The message of each row, float32 [row, L], and the factor r and the mean of x, [row, 1]."""
    dtype = terms.weight.dtype

    def add(chunk: jax.Array, x: jax.Array) -> jax.Array:
        columns = chunk * sizes.columns + jnp.arange(sizes.columns, dtype=jnp.int32)
        z = before(terms, tile, columns)
        h = (z * jax.nn.sigmoid(z)).astype(dtype)
        weight = take(terms.weight, columns, jnp.arange(sizes.width, dtype=jnp.int32))
        return x + product(h, weight)

    x = jax.lax.fori_loop(0, len(sizes.chunks), add, jnp.zeros((tile.edge.shape[0], sizes.width), jnp.float32))
    x = x + terms.bias[...][None, :]
    middle = mean(x)
    centred = x - middle
    reciprocal = jax.lax.rsqrt(mean(centred * centred) + EPSILON)
    return centred * reciprocal, reciprocal, middle


def mean(x: jax.Array) -> jax.Array:
    """The mean of each row, [row, 1]."""
    return jnp.sum(x, axis=1, keepdims=True) * (1 / x.shape[1])


def product(a: jax.Array, b: jax.Array, *, turned: str = "") -> jax.Array:
    """The product [row, column] of two matrices, the first ("a") or second ("b") transposed or none, in float32."""
    contracted = (0 if turned == "a" else 1,), (1 if turned == "b" else 0,)
    return jax.lax.dot_general(a, b, (contracted, ((), ())), preferred_element_type=jnp.float32)


def before_normalization(normal: jax.Array, reciprocal: jax.Array, g: jax.Array) -> tuple[jax.Array, ...]:
    """The gradient of x, r (g - mean(g) - xh mean(g xh)), and the two means [row, 1]; g is the message's [row, L]."""
    of_g, of_product = mean(g), mean(g * normal)
    return reciprocal * (g - of_g - normal * of_product), of_g, of_product


def back_to_z(by_x: jax.Array, terms: Terms, tile: Tile, start: int | jax.Array, sizes: Sizes) -> jax.Array:
    """The gradient of the columns of z that begin at `start`, float32 [row, column], from that of x [row, L]."""
    columns = start + jnp.arange(sizes.columns, dtype=jnp.int32)
    weight = take(terms.weight, columns, jnp.arange(sizes.width, dtype=jnp.int32))
    z = before(terms, tile, columns)
    s = jax.nn.sigmoid(z)
    return product(by_x, weight, turned="b") * (s + z * s * (1 - s))


def divided(number: jax.Array, by: int) -> jax.Array:
    """The quotients of int32 [...] that are not negative, rounded down."""
    return jax.lax.div(number, np.int32(by))


def remainder(number: jax.Array, by: int) -> jax.Array:
    """The remainders of that division, [...]."""
    return jax.lax.rem(number, np.int32(by))


def unpacked(
    terms: Terms, *others: jax.Array | None
) -> tuple[list[jax.Array], Callable[[tuple[Any, ...]], tuple[Any, ...]]]:
    """The arrays [...] there are, and what makes of a kernel's references terms, the others, and all that follows."""
    arrays = [*terms, *others]
    there = [array is not None for array in arrays]

    def unpack(refs: tuple[Any, ...]) -> tuple[Any, ...]:
        given = iter(refs)
        found = [next(given) if one else None for one in there]
        return Terms(*found[: len(terms)]), *found[len(terms) :], tuple(given)

    return [array for array in arrays if array is not None], unpack


def loads_of_message(terms: Terms, sizes: Sizes) -> float:
    """Rows of L numbers that are loaded for one row of a tile: its terms, and its share of W."""
    return sum(array is not None for array in terms[:3]) + sizes.width / sizes.rows


def samples_together(samples: int, rows: int) -> int:
    """How many samples of a point a tile has side by side: a power of two."""
    return min(rows, pl.next_power_of_2(samples))


class Called(Protocol):
    """What a call needs to know of its sizes."""

    @property
    def samples(self) -> int:
        """Of each edge."""
        ...

    @property
    def width(self) -> int:
        """Of a row."""
        ...

    @property
    def interpret(self) -> bool:
        """Whether to do without a GPU."""
        ...


def call(
    name: str,
    kernel: Callable[..., None],
    programs: int,
    out: Sequence[jax.ShapeDtypeStruct],
    operands: Sequence[jax.Array],
    sizes: Called,
    *,
    edges: int,
    products: float,
    loads: float,
    warps: int = 8,
    stages: int | None = None,
) -> list[jax.Array]:
    """Run `programs` instances of a kernel over arrays [...] in device memory, kernel(*operands, *results).

    It goes through `edges` edges at most, and for a sample of each makes `products` products of its row with an [L, L]
    matrix and loads `loads` rows, most of them from a cache. The FLOP and the bytes that are loaded stand in the name
    of the scope, and so in the compiled program's text, for graphufs.plan. What the next turn of a loop multiplies is
    loaded meanwhile (`stages`), where a processor's shared memory has room for both: of rows of PREFETCHED numbers at
    most.
    """
    stages = stages or (2 if sizes.width <= PREFETCHED else 1)
    rows, dtype = edges * sizes.samples, operands[0].dtype
    kernel.__name__ = name
    kind = "f32" if dtype == jnp.float32 else "bf16"
    loaded = int(rows * loads * sizes.width * dtype.itemsize)
    with jax.named_scope(f"kernel_{kind}_flop_{int(2 * rows * products * sizes.width**2)}_loads_{loaded}"):
        return pl.pallas_call(
            kernel,
            out_shape=list(out),
            grid=(programs,),
            interpret=sizes.interpret,
            compiler_params=triton.CompilerParams(num_warps=warps, num_stages=stages),
        )(*operands)
