"""Scales and offsets that differ between the samples of a batch, in rows of nodes, points or edges.

Rows are [n * sample, L], all samples of a node together. What belongs to samples is [sample, L]; in the derivative it
is added up in float32, whatever the precision of the rows.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


@jax.custom_vjp
def scale_rows(x: jax.Array, scale: jax.Array) -> jax.Array:
    """Rows x [n * sample, L] times scale [sample, L], in the precision of x."""
    return (_split(x, scale) * scale).astype(x.dtype).reshape(x.shape)


def _scale_rows_backward(saved: Any, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, scale = saved
    return scale_rows(g, scale), (_split(g, scale).astype(jnp.float32) * _split(x, scale)).sum(axis=0)


scale_rows.defvjp(lambda x, scale: (scale_rows(x, scale), (x, scale)), _scale_rows_backward)


@jax.custom_vjp
def shift_rows(x: jax.Array, offset: jax.Array) -> jax.Array:
    """Rows x [n * sample, L] plus offset [sample, L], in the precision of x."""
    return (_split(x, offset) + offset).astype(x.dtype).reshape(x.shape)


shift_rows.defvjp(
    lambda x, offset: (shift_rows(x, offset), offset),
    lambda offset, g: (g, _split(g, offset).astype(jnp.float32).sum(axis=0)),
)


def shift_sums(sums: jax.Array, counts: jax.Array, offset: jax.Array) -> jax.Array:
    """Sums [node * sample, L] of `counts` [node] messages, each shifted by offset [sample, L]."""
    return (_split(sums, offset) + counts[:, None, None] * offset).reshape(sums.shape)


def _split(x: jax.Array, of_samples: jax.Array) -> jax.Array:
    return x.reshape(-1, *of_samples.shape)
