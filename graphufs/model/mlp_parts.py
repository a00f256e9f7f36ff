"""An MLP in parts: shares of its first product, what follows them, and scale and offset where they are due.

The inputs of an MLP are never put side by side: each has its share of the first product, computed where it is cheapest.
Scale and offset of a LayerNorm may follow a sum of messages, or be folded into the next matrix. On a GPU with kernels
they do the same in fewer passes over memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax

from graphufs.model.arrangement import Arrangement
from graphufs.model.by_sample import shift_sums
from graphufs.model.kernels.by_row import layers_of_rows
from graphufs.model.layers import MLP, with_bias, with_scale
from graphufs.model.rows import add_static


class Part(NamedTuple):
    """A part of an MLP's input: rows [row, K] (or rows * scale), which begin at column `start`."""

    rows: jax.Array
    start: int
    scale: jax.Array | None = None
    """[K], or that of each sample [sample, K]."""


After = tuple[MLP, int, jax.Array | None]
"""An MLP that a result goes into, the column it begins at in the input, and what it is multiplied with there [L]."""


def embed_features(mlp: MLP, features: jax.Array, arrangement: Arrangement, *after: After) -> jax.Array:
    """Features [edge, feature] of edges embedded, [edge, L], without scale and offset; or their share `after`."""
    parts, bias = [Part(features, 0)], mlp.first.bias
    return layers_of(mlp, parts, bias, arrangement, affine=False, after=after, only_after=bool(after))[0]


def layers_of(
    mlp: MLP,
    parts: Sequence[Part],
    static: jax.Array,
    arrangement: Arrangement,
    *,
    affine: bool = True,
    residual: bool = False,
    after: Sequence[After] = (),
    only_after: bool = False,
) -> tuple[jax.Array, ...]:
    """What an MLP makes of one part or two, [row, L], and that result's shares of the first layers of others.

    With `only_after` only these.

    `static` [L], or [n, L] for rows [n * sample], is added to the parts' shares and has the first layer's bias. The
    LayerNorm's scale and offset are applied if `affine`, then the first part's rows are added if `residual`.
    """
    of_samples = any(scale is not None and scale.ndim == 2 for _, _, scale in parts)
    if mlp.norm is not None and affine:
        of_samples = of_samples or mlp.scale.ndim == 2
    if arrangement.kernels != "xla" and not of_samples:
        sources = [(part.rows, _weight(mlp, part.start, part.rows.shape[1], part.scale)) for part in parts]
        return layers_of_rows(
            mlp,
            sources,
            static,
            arrangement,
            samples=1 if static.ndim == 1 else parts[0].rows.shape[0] // static.shape[0],
            affine=affine,
            residual=residual,
            after=[_weight(other, start, mlp.linears[-1].weight.shape[1], scale) for other, start, scale in after],
            only_after=only_after,
        )
    z, *others = (mlp.part(*part, arrangement=arrangement) for part in parts)
    result = finish(
        mlp,
        z,
        static,
        arrangement,
        other=others[0] if others else None,
        affine=affine,
        residual=parts[0].rows if residual else None,
    )
    shares = (other.part(result, start, scale, arrangement=arrangement) for other, start, scale in after)
    return *(() if only_after else (result,)), *shares


def _weight(mlp: MLP, start: int, size: int, scale: jax.Array | None) -> jax.Array:
    weight = mlp.first.weight[start : start + size]
    return weight if scale is None else scale[:, None] * weight


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

    `static` and `affine` are those of `layers_of`.
    """
    if affine and mlp.norm is not None and mlp.scale.ndim == 2:  # each sample's own, after what is the same for all
        normal = finish(mlp, z, static, arrangement, other=other, affine=False)
        result = with_bias(with_scale(normal, mlp.scale, arrangement), mlp.offset, arrangement)
        return result if residual is None else residual + result
    if arrangement.kernels != "xla":
        terms = [(rows, None) for rows in (z, other) if rows is not None]
        samples = 1 if static.ndim == 1 else z.shape[0] // static.shape[0]
        (result,) = layers_of_rows(mlp, [], static, arrangement, terms=terms, samples=samples, affine=affine)
        return result if residual is None else residual + result
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
