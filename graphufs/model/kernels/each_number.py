"""What is done to each number of many arrays, such as an optimizer's update of all parameters, in few kernels.

XLA has a kernel for each array, which takes longer to start than to run. Here a program has a block of one array. Only
loads and stores know of which: it is looked up among the arrays of the call, by halves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

BLOCK, WARPS = 1024, 4
MOST_ARRAYS = 480
"""Operands and results of a call at most: CUDA takes 4096 bytes of arguments, 8 for each."""

Place = Sequence[jax.Array]
"""Arrays of one shape, float32 [...]: a parameter, its gradient, and so on."""
Function = Callable[[Any, list[jax.Array]], Sequence[jax.Array]]
"""Of scalars and a block [n] of each of a place's arrays, makes the new blocks of the first ones."""


def change_each(
    function: Function, places: Sequence[Place], scalars: Any, changed: int, *, interpret: bool
) -> list[list[jax.Array]]:
    """`function` in place of the first `changed` arrays of each place, which are used up.

    `scalars` is a pytree of arrays [].
    """
    found: list[list[jax.Array]] = []
    for part in _parts(places, changed):
        found += _change(function, part, scalars, changed, interpret)
    return found


def _change(
    function: Function, places: Sequence[Place], scalars: Any, changed: int, interpret: bool
) -> list[list[jax.Array]]:
    """The same, of as many places as one call takes."""
    leaves, tree = jax.tree.flatten(scalars)
    each, starts = len(places[0]), _starts(places)

    def kernel(*refs: Any) -> None:
        arrays, out = refs[: each * len(places)], refs[each * len(places) + len(leaves) :]
        program = pl.program_id(0)  # interpreted, a branch does not know it

        def load(place: int, index: jax.Array) -> list[jax.Array]:
            return [_load(ref, index) for ref in arrays[each * place : each * (place + 1)]]

        given = jax.tree.unflatten(tree, [ref[0] for ref in refs[each * len(places) :][: len(leaves)]])
        values = function(given, _among(starts, program, load))

        def store(place: int, index: jax.Array) -> None:
            for ref, value in zip(out[changed * place : changed * (place + 1)], values, strict=True):
                triton.store(ref.at[index], value, mask=index < ref.shape[0])

        _among(starts, program, store)

    replaced = [(place, number) for place in range(len(places)) for number in range(changed)]
    sizes = [jax.ShapeDtypeStruct((places[place][number].size,), jnp.float32) for place, number in replaced]
    in_place = {each * place + number: result for result, (place, number) in enumerate(replaced)}
    flat = iter(_call("change_each", kernel, places, leaves, sizes, in_place, interpret))
    return [[next(flat).reshape(array.shape) for array in place[:changed]] for place in places]


def sum_of_squares(arrays: Sequence[jax.Array], *, interpret: bool) -> jax.Array:
    """Of all numbers of all arrays [...], []: of each block, and then of the blocks, in their order."""
    total = jnp.zeros((), jnp.float32)
    for part in _parts([[array] for array in arrays], 0):
        starts = _starts(part)

        def kernel(*refs: Any, starts: list[int] = starts) -> None:
            program = pl.program_id(0)
            numbers = _among(starts, program, lambda place, index: _load(refs[place], index))
            triton.store(refs[-1].at[program], (numbers * numbers).sum())

        blocks = jax.ShapeDtypeStruct((starts[-1],), jnp.float32)
        total = total + _call("sum_of_squares", kernel, part, [], [blocks], {}, interpret)[0].sum()
    return total


def _call(
    name: str,
    kernel: Callable[..., None],
    places: Sequence[Place],
    scalars: Sequence[jax.Array],
    out: Sequence[jax.ShapeDtypeStruct],
    in_place: dict[int, int],
    interpret: bool,
) -> list[jax.Array]:
    kernel.__name__ = name
    called = pl.pallas_call(
        kernel,
        out_shape=list(out),
        grid=(_starts(places)[-1],),
        input_output_aliases=in_place,
        interpret=interpret,
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=1),
    )
    arrays = [array.reshape(-1) for place in places for array in place]
    return list(called(*arrays, *(scalar.reshape(1) for scalar in scalars)))


def _parts(places: Sequence[Place], changed: int) -> list[Sequence[Place]]:
    """As many places as a call can have the arrays of."""
    most = max(1, MOST_ARRAYS // (len(places[0]) + changed))
    return [places[first : first + most] for first in range(0, len(places), most)]


def _starts(places: Sequence[Place]) -> list[int]:
    """The first program of each place, and the number of programs."""
    return [0, *np.cumsum([pl.cdiv(place[0].size, BLOCK) for place in places]).tolist()]


def _load(ref: Any, index: jax.Array) -> jax.Array:
    size = ref.shape[0]
    return triton.load(ref.at[jnp.minimum(index, size - 1)], mask=index < size, other=0)


def _among(starts: Sequence[int], program: jax.Array, use: Callable[[int, jax.Array], Any]) -> Any:
    """`use(place, index)` for the place that has this program, with the places [n] of the block's numbers in it."""

    def between(first: int, stop: int) -> Any:
        if stop - first == 1:
            return use(first, (program - starts[first]) * BLOCK + jnp.arange(BLOCK, dtype=jnp.int32))
        middle = (first + stop) // 2
        return jax.lax.cond(program < starts[middle], lambda: between(first, middle), lambda: between(middle, stop))

    return between(0, len(starts) - 1)
