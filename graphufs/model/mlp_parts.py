"""An MLP in parts: shares of its first product, what follows them, and scale and offset where they are due.

The inputs of an MLP are never put side by side: each has its share of the first product, computed where it is cheapest.
Scale and offset of a LayerNorm may follow a sum of messages, or be folded into the next matrix. On a GPU with kernels
they do the same in fewer passes over memory.
"""

from __future__ import annotations

import jax

from graphufs.model.arrangement import Arrangement
from graphufs.model.by_sample import shift_sums
from graphufs.model.kernels.branches import branches
from graphufs.model.kernels.by_row import finish as finish_rows
from graphufs.model.layers import MLP, with_bias, with_scale
from graphufs.model.rows import add_static


def embed_features(mlp: MLP, features: jax.Array, arrangement: Arrangement) -> jax.Array:
    """Features [edge, feature] of edges embedded, [edge, L], without scale and offset."""
    z = mlp.part(features, 0, arrangement=arrangement)
    return finish(mlp, z, mlp.first.bias, arrangement, affine=False)


def parts_of(x: jax.Array, arrangement: Arrangement, *parts: tuple[MLP, int]) -> tuple[jax.Array, ...]:
    """What x [row, L] is, for all further use, and its shares of the first layers of MLPs, each from a column on."""
    if arrangement.kernels != "xla":
        weights = tuple(mlp.first.weight[start : start + x.shape[1]] for mlp, start in parts)
        return branches(x, weights, arrangement)
    return x, *(mlp.part(x, start, arrangement=arrangement) for mlp, start in parts)


def finish(
    mlp: MLP,
    z: jax.Array,
    static: jax.Array,
    arrangement: Arrangement,
    *,
    other: jax.Array | None = None,
    affine: bool = True,
    residual: jax.Array | None = None,
) -> jax.Array:
    """What follows the products z (+ other) [row, L] of the first layer, and `residual` added to it.

    `static` [L], or [n, L] for rows [n * sample], is added to z and has the layer's bias. The LayerNorm's scale and
    offset are applied if `affine`.
    """
    if affine and mlp.scale.ndim == 2:  # each sample's own, after what is the same for all
        normal = finish(mlp, z, static, arrangement, other=other, affine=False)
        result = with_bias(with_scale(normal, mlp.scale, arrangement), mlp.offset, arrangement)
        return result if residual is None else residual + result
    if arrangement.kernels != "xla":
        return finish_rows(mlp, z, static, arrangement, other=other, affine=affine, residual=residual)
    z = z if other is None else z + other
    z = with_bias(z, static, arrangement) if static.ndim == 1 else add_static(z, static, arrangement)
    result = mlp.finish_with_bias(z, arrangement) if affine else mlp.normal(z, arrangement)
    return result if residual is None else residual + result


def bias_with_offset(mlp: MLP, offset: jax.Array, start: int = 0) -> jax.Array:
    """The first layer's bias and the share of an offset of the part of the input that begins at column `start`.

    [out]; for the offsets of each sample, [sample, L], [sample, out].
    """
    return mlp.first.bias + offset @ mlp.first.weight[start : start + offset.shape[-1]]


def scale_sums(mlp: MLP, sums: jax.Array, counts: jax.Array, arrangement: Arrangement) -> jax.Array:
    """Sums of messages, with scale and offset, from sums [node * sample, L] of `counts` [node] messages without."""
    scaled = with_scale(sums, mlp.scale, arrangement)
    if mlp.offset.ndim == 2:  # each sample's own
        return shift_sums(scaled, counts, mlp.offset)
    return add_static(scaled, counts[:, None] * mlp.offset, arrangement)
