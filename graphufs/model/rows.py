"""Rows of nodes, points or edges that hold several samples side by side: gathered, added to and added up.

All samples of one node lie together, so that its number is looked up once for them. Each function computes the same by
any arrangement, to rounding, and the way that the arrangement's devices do fastest.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from graphufs.model import gpu_layers
from graphufs.model.arrangement import Arrangement
from graphufs.model.layers import for_fusion


def add_static(rows: jax.Array, static: jax.Array, arrangement: Arrangement) -> jax.Array:
    """Rows [n * sample, L] + static, [n, L] for all samples or [n * sample, L]."""
    if for_fusion(arrangement):
        if rows.shape == static.shape:
            return rows + static
        return gpu_layers.add_static(rows.reshape(static.shape[0], -1, static.shape[1]), static).reshape(rows.shape)
    return (rows.reshape(static.shape[0], -1, static.shape[1]) + static[:, None]).reshape(rows.shape)


def take(
    rows: jax.Array, nodes: jax.Array, samples: int, arrangement: Arrangement, taken: jax.Array | None = None
) -> jax.Array:
    """Rows [n * sample, L] of `nodes` [n] from rows [node * sample, L]; all node numbers are known to be valid.

    `taken` [node, few]: the few rows of the result that each node is taken to, where known.
    """
    by_node = rows.reshape(rows.shape[0] // samples, -1)
    if for_fusion(arrangement):
        if taken is not None:
            return gpu_layers.take_by_table(by_node, nodes, taken).reshape(-1, rows.shape[1])
        return gpu_layers.take(by_node.shape[0], by_node, nodes).reshape(-1, rows.shape[1])
    # float32, so that the derivative, which sums over all that took a row, is
    wide = by_node.astype(jnp.float32)
    return wide.at[nodes].get(mode="promise_in_bounds").reshape(-1, rows.shape[1]).astype(rows.dtype)


def add_rows(total: jax.Array, nodes: jax.Array, rows: jax.Array, samples: int, arrangement: Arrangement) -> jax.Array:
    """Add rows [n * sample, L] to those of `nodes` [n, ascending] in total, float32 [node * sample, L]."""
    if for_fusion(arrangement):
        by_node = rows.reshape(rows.shape[0] // samples, -1)
        return total + gpu_layers.sum_rows(total.shape[0] // samples, by_node, nodes).reshape(total.shape)
    wide = total.reshape(total.shape[0] // samples, -1)
    added = rows.reshape(rows.shape[0] // samples, -1).astype(total.dtype)
    return wide.at[nodes].add(added, indices_are_sorted=True, mode="promise_in_bounds").reshape(total.shape)


def add_to_each(parts: jax.Array, common: jax.Array, arrangement: Arrangement) -> jax.Array:
    """Parts [part, row, L] + common [row, L]."""
    return gpu_layers.add_to_each(parts, common) if for_fusion(arrangement) else parts + common
