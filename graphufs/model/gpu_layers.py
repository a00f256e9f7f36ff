"""What graphufs.model.layers computes, written for XLA on GPUs, where time is bytes moved and kernels started.

What XLA (jaxlib 0.10.2, for an H100) makes of a formula was found by compiling single formulas ahead of time:

- A matrix product reads its factors from memory, whatever made them: nothing is fused in front of it. Behind it, a
  sum with a bias or with an array of its shape is, but only one that the program is given as an argument: a parameter,
  and nothing that was computed. Else the product is stored, in float32 if that is what is added to.
- So the bias of a layer before a normalization is added in the normalization.
- A normalization by the plain formula, its row read once, is one kernel, its bias, scale, offset and residual
  included; so is its gradient, if that computes mean and deviation again, and XLA does not see that it does.
- A sum over rows or columns is one kernel with what is summed, if it is written as a sum. All sums are float32.
- Products over very many rows (gradients of weights) are split by XLA, which first copies both factors to a length
  that it can split; here they are given in parts of equal length, summed afterwards.
- Adding up in the order of a table (`take_by_table`) is as fast as adding up where it comes, and always gives the same.

Tests compare values and gradients with those of the other arrangement.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

MOST_PARTS, SHORTEST_PART = 64, 128
"""A gradient's product over rows has at most so many parts, of at least so many rows: enough to fill a card."""
EVEN = 128, 32, 16, 1
"""XLA copies factors to a length that it can split again, most often a multiple of the first of these."""


_stored = jax.lax.optimization_barrier
"""Arrays as they are, rounded: XLA would widen what is computed from float32 and read as float32, and store that."""


def _column_sums(x: jax.Array) -> jax.Array:
    return _stored(x.astype(jnp.float32).sum(axis=0))  # XLA would make a second pass over x for the sum of the sums


def weight_gradient(x: jax.Array, g: jax.Array) -> jax.Array:
    """The float32 product [in, out] of the transpose of x [row, in] with g [row, out]."""
    parts = _parts(x.shape[0])
    if parts == 1:
        return jax.lax.dot_general(x, g, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)
    x, g = (array.reshape(parts, -1, array.shape[1]) for array in (x, g))
    return jax.lax.dot_general(x, g, (((1,), (1,)), ((0,), (0,))), preferred_element_type=jnp.float32).sum(axis=0)


def _parts(rows: int) -> int:
    """How many parts of equal length; of a multiple of EVEN rows where they can be."""
    most = min(MOST_PARTS, rows // SHORTEST_PART)
    for even in EVEN:
        for count in range(most, max(1, most // 2), -1):
            if rows % (count * even) == 0:
                return count
    return next((count for count in range(most, 1, -1) if rows % count == 0), 1)


@jax.custom_vjp
def matmul(x: jax.Array, weight: jax.Array) -> jax.Array:
    """The product of x [row, in] and weight [in, out], in the precision of x."""
    return x @ weight.astype(x.dtype)


matmul.defvjp(
    lambda x, weight: (matmul(x, weight), (x, weight)),
    lambda saved, g: (g @ saved[1].astype(g.dtype).T, weight_gradient(saved[0], g)),
)


@jax.custom_vjp
def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """The sum of x [row, out] and bias [out], in the precision of x."""
    return (x.astype(jnp.float32) + bias).astype(x.dtype)


add_bias.defvjp(lambda x, bias: (add_bias(x, bias), None), lambda saved, g: (g, _column_sums(g)))


@jax.custom_vjp
def scale_columns(x: jax.Array, scale: jax.Array) -> jax.Array:
    """The product of x [row, L] and scale [L], column by column, in the precision of x."""
    return (x * scale).astype(x.dtype)


scale_columns.defvjp(
    lambda x, scale: (scale_columns(x, scale), (x, scale)),
    lambda saved, g: ((g * saved[1]).astype(g.dtype), _column_sums(g.astype(jnp.float32) * saved[0])),
)


KEPT = "swish", "product"
"""Of `activate`, on the way back of `made_again`."""


def made_again(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """`function` so that of what it computes only what `activate` keeps [row, out] is stored for its gradient.

    For what is gathered, which is more than what it is gathered from, and costs nothing but that to gather again.
    """
    policy = jax.checkpoint_policies.save_only_these_names(*KEPT)
    return jax.checkpoint(function, policy=policy)


@jax.custom_vjp
def activate(z: jax.Array, weight: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    """swish(z) @ weight + bias, [row, out], of z [row, in], weight [in, out] and bias [out]."""
    return _activate_forward(z, weight, bias)[0]


def _activate_forward(z: jax.Array, weight: jax.Array, bias: jax.Array | None) -> tuple[jax.Array, Any]:
    wide = z.astype(jnp.float32)
    swish = checkpoint_name(_stored((wide * jax.nn.sigmoid(wide)).astype(z.dtype)), "swish")
    product = jnp.dot(swish, weight.astype(z.dtype), preferred_element_type=jnp.float32)
    product = product if bias is None else product + bias
    return checkpoint_name(_stored(product.astype(z.dtype)), "product"), (z, swish, weight, bias is not None)


def _activate_backward(saved: Any, g: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    z, swish, weight, has_bias = saved
    wide = z.astype(jnp.float32)
    s = jax.nn.sigmoid(wide)
    derivative = s + wide * s * (1 - s)
    # stored, as XLA would compute it again for each sum that it goes into, or store the derivative, in float32
    by_z = _stored(((g @ weight.astype(g.dtype).T).astype(jnp.float32) * derivative).astype(g.dtype))
    return by_z, weight_gradient(swish, g), _column_sums(g) if has_bias else None


activate.defvjp(_activate_forward, _activate_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def normalize(
    product: jax.Array,
    bias: jax.Array,
    epsilon: float,
    scale: jax.Array | None = None,
    offset: jax.Array | None = None,
) -> jax.Array:
    """By row of x = product + bias [row, L], xh = (x - mean) r with r = 1/sqrt(var + epsilon); or xh * scale + offset.

    Inside all is float32, the result is as precise as the product. With g' = g * scale, or g, the derivative of x is
    r (g' - mean(g') - xh mean(g' xh)).
    """
    return _normalize_forward(product, bias, epsilon, scale, offset)[0]


def _statistics(product: jax.Array, bias: jax.Array, epsilon: float) -> tuple[jax.Array, jax.Array]:
    """The mean and r of each row, [row, 1]."""
    x = product.astype(jnp.float32) + bias
    mean = x.mean(axis=-1, keepdims=True)
    centred = x - mean
    return mean, jax.lax.rsqrt((centred * centred).mean(axis=-1, keepdims=True) + epsilon)


def _stored_statistics(product: jax.Array, bias: jax.Array, epsilon: float) -> tuple[jax.Array, jax.Array]:
    """The same, read once and stored."""
    x = product.astype(jnp.float32) + bias
    mean, square = x.mean(axis=-1, keepdims=True), (x * x).mean(axis=-1, keepdims=True)
    return _stored((mean, jax.lax.rsqrt(jnp.maximum(square - mean * mean, 0) + epsilon)))


def _normalize_forward(
    product: jax.Array, bias: jax.Array, epsilon: float, scale: jax.Array | None, offset: jax.Array | None
) -> tuple[jax.Array, Any]:
    mean, reciprocal = _statistics(product, bias, epsilon)
    normal = (product.astype(jnp.float32) + bias - mean) * reciprocal
    result = normal if scale is None or offset is None else normal * scale + offset
    return result.astype(product.dtype), (product, bias, scale)


def _normalize_backward(
    epsilon: float, saved: Any, g: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array | None, jax.Array | None]:
    product, bias, scale = saved
    bias = _stored(bias)  # or XLA would find that the statistics are those of the way there, and store them
    if scale is None:
        mean, reciprocal = _statistics(product, bias, epsilon)
    else:  # sums over rows need them too
        mean, reciprocal = _stored_statistics(product, bias, epsilon)
    normal = (product.astype(jnp.float32) + bias - mean) * reciprocal
    wide = g.astype(jnp.float32)
    scaled = wide if scale is None else wide * scale
    means = scaled.mean(axis=-1, keepdims=True), (scaled * normal).mean(axis=-1, keepdims=True)
    by_x = _stored((reciprocal * (scaled - means[0] - normal * means[1])).astype(product.dtype))
    if scale is None:
        return by_x, _column_sums(by_x), None, None
    return by_x, _column_sums(by_x), _column_sums(wide * normal), _column_sums(wide)


normalize.defvjp(_normalize_forward, _normalize_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def sum_normalized(product: jax.Array, bias: jax.Array, epsilon: float, parts: int) -> jax.Array:
    """The sums [row, L] over parts of what `normalize` makes of a product [part * row, L], which is not stored."""
    # rows are read twice, once for their mean and r; normalized rows would be read, written and read
    mean, reciprocal = _stored_statistics(product, bias, epsilon)
    normal = (product.astype(jnp.float32) + bias - mean) * reciprocal
    return normal.reshape(parts, -1, product.shape[1]).sum(axis=0).astype(product.dtype)


def _sum_normalized_backward(epsilon: float, parts: int, saved: Any, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    of_each = jnp.broadcast_to(g, (parts, *g.shape)).reshape(-1, g.shape[1])
    return _normalize_backward(epsilon, (*saved, None), of_each)[:2]


sum_normalized.defvjp(
    lambda product, bias, epsilon, parts: (sum_normalized(product, bias, epsilon, parts), (product, bias)),
    _sum_normalized_backward,
)


@jax.custom_vjp
def add_static(rows: jax.Array, static: jax.Array) -> jax.Array:
    """Rows [n, sample, L] + static [n, L]; the latter's gradient is added up in float32."""
    return rows + static[:, None]


add_static.defvjp(
    lambda rows, static: (add_static(rows, static), None),
    lambda saved, g: (g, g.astype(jnp.float32).sum(axis=1).astype(g.dtype)),
)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def sum_rows(count: int, rows: jax.Array, nodes: jax.Array) -> jax.Array:
    """The float32 sums [node, L] of rows [n, L] by their `nodes` [n, ascending]; gradients are as precise as rows."""
    total = jnp.zeros((count, rows.shape[1]), jnp.float32)
    return total.at[nodes].add(rows.astype(jnp.float32), indices_are_sorted=True, mode="promise_in_bounds")


sum_rows.defvjp(
    lambda count, rows, nodes: (sum_rows(count, rows, nodes), (nodes, jnp.zeros((), rows.dtype))),
    # rounded before they are gathered, of which XLA would store the outcome in float32
    lambda count, saved, g: (_stored(g.astype(saved[1].dtype)).at[saved[0]].get(mode="promise_in_bounds"), None),
)


@jax.custom_vjp
def add_to_each(parts: jax.Array, common: jax.Array) -> jax.Array:
    """Parts [part, row, L] + common [row, L]; the latter's gradient is added up in float32."""
    return parts + common


add_to_each.defvjp(
    lambda parts, common: (add_to_each(parts, common), None),
    lambda saved, g: (g, g.astype(jnp.float32).sum(axis=0).astype(g.dtype)),
)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def take(count: int, rows: jax.Array, nodes: jax.Array) -> jax.Array:
    """Rows [n, L] of `nodes` [n] from `count` rows [node, L]; the derivative is added up in float32."""
    return rows.at[nodes].get(mode="promise_in_bounds")


def _take_backward(count: int, nodes: jax.Array, g: jax.Array) -> tuple[jax.Array, None]:
    total = jnp.zeros((count, g.shape[1]), jnp.float32)
    return total.at[nodes].add(g.astype(jnp.float32), mode="promise_in_bounds").astype(g.dtype), None


take.defvjp(lambda count, rows, nodes: (take(count, rows, nodes), nodes), _take_backward)


@jax.custom_vjp
def take_by_table(rows: jax.Array, nodes: jax.Array, taken: jax.Array) -> jax.Array:
    """As `take`, where the few rows of the result that a node was taken to are known: taken [node, few].

    Places of `taken` that mean none hold a number past the last.
    """
    return rows.at[nodes].get(mode="promise_in_bounds")


def _take_by_table_backward(taken: jax.Array, g: jax.Array) -> tuple[jax.Array, None, None]:
    parts = (g.at[places].get(mode="fill", fill_value=0).astype(jnp.float32) for places in taken.T)
    return sum(parts, start=jnp.float32(0)).astype(g.dtype), None, None


take_by_table.defvjp(lambda rows, nodes, taken: (take_by_table(rows, nodes, taken), taken), _take_by_table_backward)
