"""What an optimizer does to each number of a hundred arrays, as each kind of device does it fastest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from graphufs.model.arrangement import Arrangement
from graphufs.model.kernels.each_number import change_each, sum_of_squares
from graphufs.model.network import GraphCast

Change = Callable[[Any, Any, Any, jax.Array | None], Any]
"""Of a state, a gradient, a pytree of scalars and the gradient's norm, or None, makes the next state.

The state is a pytree of networks and of arrays []; in place of all networks, the gradient too, there may be vectors of
their numbers, or of a part of them, and then the norm of the whole gradient is given.
"""


def changed(
    change: Change, state: Any, gradient: GraphCast, scalars: Any, arrangement: Arrangement, *, apart: bool = False
) -> tuple[Any, jax.Array]:
    """The next state, and the norm of the gradient, a scalar; with `apart`, `change` is given networks in any case."""
    if arrangement.kernels != "xla" and not apart:
        return _in_few_kernels(change, state, gradient, scalars, interpret=arrangement.kernels == "interpreted")
    if arrangement.for_fusion or apart:
        return change(state, gradient, scalars, None), optax.tree.norm(gradient)
    vector = _as_vectors(gradient)
    return _as_networks(change(_as_vectors(state), vector, scalars, None), state), optax.tree.norm(vector)


def _as_vectors(tree: Any) -> Any:
    """A pytree whose networks (parameters, or moments and gradients in their form) are each one vector.

    What is done to each of some hundred parameters is then one operation: on CPUs the program is traced, compiled and
    started faster. On GPUs it would be slower: to take a vector apart again is a kernel for each array.
    """
    return jax.tree.map(lambda part: ravel_pytree(part)[0] if _is_network(part) else part, tree, is_leaf=_is_network)


def _as_networks(vectors: Any, tree: Any) -> Any:
    """What `_as_vectors` made of a pytree like `tree` (float32 [parameter] each), as networks again."""
    unravel = ravel_pytree(next(filter(_is_network, jax.tree.leaves(tree, is_leaf=_is_network))))[1]
    return jax.tree.map(
        lambda before, after: unravel(after) if _is_network(before) else after, tree, vectors, is_leaf=_is_network
    )


def _in_few_kernels(
    change: Change, state: Any, gradient: GraphCast, scalars: Any, *, interpret: bool
) -> tuple[Any, jax.Array]:
    """What `changed` says, of blocks [n] of numbers in kernels; the state given is used up."""
    norm = jnp.sqrt(sum_of_squares(jax.tree.leaves(gradient), interpret=interpret))
    parts, tree = jax.tree.flatten(state, is_leaf=_is_network)
    networks = [place for place, part in enumerate(parts) if _is_network(part)]
    others = {place: part for place, part in enumerate(parts) if place not in networks}

    def of_blocks(given: Any, numbers: list[jax.Array]) -> list[Any]:
        others, scalars, norm = given
        blocks = others | dict(zip(networks, numbers[:-1], strict=True))
        old = jax.tree.unflatten(tree, [blocks[place] for place in range(len(parts))])
        new: list[Any] = jax.tree.leaves(change(old, numbers[-1], scalars, norm))
        return new

    given = jax.tree.map(jnp.asarray, (others, scalars, norm))
    leaves = [jax.tree.leaves(part) for part in (*(parts[place] for place in networks), gradient)]
    found = change_each(
        lambda given, numbers: [of_blocks(given, numbers)[place] for place in networks],
        list(zip(*leaves, strict=True)),
        given,
        len(networks),
        interpret=interpret,
    )
    # what is no network is the same whatever the blocks are
    new = of_blocks(given, [jnp.zeros(1, jnp.float32)] * len(leaves))
    for number, place in enumerate(networks):
        new[place] = jax.tree.unflatten(jax.tree.structure(parts[place]), [arrays[number] for arrays in found])
    return jax.tree.unflatten(tree, new), norm


def _is_network(part: Any) -> bool:
    return isinstance(part, GraphCast)
