"""Parameters as one vector, for a program that does the same to each of a hundred arrays."""

from __future__ import annotations

from typing import Any

import jax
from jax.flatten_util import ravel_pytree

from graphufs.model.network import GraphCast


def as_vectors(tree: Any) -> Any:
    """A pytree whose networks (parameters, or moments and gradients in their form) are each one vector.

    What an optimizer does to each of some hundred parameters is then one operation: on CPUs the program is traced,
    compiled and started faster. On GPUs it would be slower: to take a vector apart again is a kernel for each array.
    """
    return jax.tree.map(lambda part: ravel_pytree(part)[0] if is_network(part) else part, tree, is_leaf=is_network)


def as_networks(vectors: Any, tree: Any) -> Any:
    """What `as_vectors` made of a pytree like `tree` (float32 [parameter] each), as networks again."""
    unravel = ravel_pytree(next(filter(is_network, jax.tree.leaves(tree, is_leaf=is_network))))[1]
    return jax.tree.map(
        lambda before, after: unravel(after) if is_network(before) else after, tree, vectors, is_leaf=is_network
    )


def is_network(part: Any) -> bool:
    """Whether a part of a pytree is a whole network."""
    return isinstance(part, GraphCast)
