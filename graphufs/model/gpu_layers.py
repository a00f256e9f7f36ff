"""What graphufs.model.layers computes, written for XLA on GPUs, where time is bytes moved and kernels started.

What XLA (jaxlib 0.10.2, for an H100) makes of a formula was found by compiling single formulas ahead of time:

- A matrix product reads its factors from memory, whatever made them: nothing is fused in front of it. Behind it, a
  float32 sum with a bias before rounding is, and in bfloat16 the sum or product with an array of its own shape. Such an
  array in float32 is not: then the product is stored in float32.
- So `activate` keeps swish and its derivative, rounded, instead of what they are of: its gradient is one product.
- A sum over rows or columns is one kernel with what is summed, if it is written as a sum. All sums are float32.
- Products over very many rows (gradients of weights) are split by XLA, which first copies both factors to a length
  that it can split; here they are given in parts of equal length, summed afterwards.
- The gradient of a normalization whose mean and deviation are kept, a number a row each, is one kernel.
- Adding up in the order of a table (`take_by_table`) is as fast as adding up where it comes, and always gives the same.

Tests compare values and gradients with those of the other arrangement.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

MOST_PARTS, SHORTEST_PART = 64, 128
"""A gradient's product over rows has at most so many parts, of at least so many rows: enough to fill a card."""


_stored = jax.lax.optimization_barrier
"""Arrays as they are, rounded: XLA would widen what is computed from float32 and read as float32, and store that."""


def _column_sums(x: jax.Array) -> jax.Array:
    return x.astype(jnp.float32).sum(axis=0)


def _weight_gradient(x: jax.Array, g: jax.Array) -> jax.Array:
    """The float32 product [in, out] of the transpose of x [row, in] with g [row, out]."""
    most = min(MOST_PARTS, x.shape[0] // SHORTEST_PART)
    parts = next((count for count in range(most, 1, -1) if x.shape[0] % count == 0), 1)
    if parts == 1:
        return jax.lax.dot_general(x, g, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)
    x, g = (array.reshape(parts, -1, array.shape[1]) for array in (x, g))
    return jax.lax.dot_general(x, g, (((1,), (1,)), ((0,), (0,))), preferred_element_type=jnp.float32).sum(axis=0)


@jax.custom_vjp
def matmul(x: jax.Array, weight: jax.Array) -> jax.Array:
    """The product of x [row, in] and weight [in, out], in the precision of x."""
    return x @ weight.astype(x.dtype)


matmul.defvjp(
    lambda x, weight: (matmul(x, weight), (x, weight)),
    lambda saved, g: (g @ saved[1].astype(g.dtype).T, _weight_gradient(saved[0], g)),
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


@jax.custom_vjp
def activate(z: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
    """swish(z) @ weight + bias, [row, out], of z [row, in], weight [in, out] and bias [out]."""
    return _activate_forward(z, weight, bias)[0]


def _activate_forward(z: jax.Array, weight: jax.Array, bias: jax.Array) -> tuple[jax.Array, Any]:
    wide = z.astype(jnp.float32)
    s = jax.nn.sigmoid(wide)
    swish = (wide * s).astype(z.dtype)
    derivative = (s + wide * s * (1 - s)).astype(z.dtype)
    swish, derivative = _stored((swish, derivative))
    product = jnp.dot(swish, weight.astype(z.dtype), preferred_element_type=jnp.float32)
    return _stored((product + bias).astype(z.dtype)), (swish, derivative, weight)


def _activate_backward(saved: Any, g: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    swish, derivative, weight = saved
    return (g @ weight.astype(g.dtype).T) * derivative, _weight_gradient(swish, g), _column_sums(g)


activate.defvjp(_activate_forward, _activate_backward)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def normalize(
    x: jax.Array, epsilon: float, scale: jax.Array | None = None, offset: jax.Array | None = None
) -> jax.Array:
    """The product xh = (x - mean) r with r = 1/sqrt(var + epsilon) by row of x [row, L], or xh * scale + offset.

    Inside all is float32, the result is as precise as x. The variance is mean(x^2) - mean^2, so that x is read once:
    give it rows whose mean is small. With g' = g * scale, or g, the derivative of x is
    r (g' - mean(g') - xh mean(g' xh)).
    """
    return _normalize_forward(x, epsilon, scale, offset)[0]


def _normalize_forward(
    x: jax.Array, epsilon: float, scale: jax.Array | None, offset: jax.Array | None
) -> tuple[jax.Array, Any]:
    wide = x.astype(jnp.float32)
    mean = wide.mean(axis=-1, keepdims=True)
    variance = jnp.maximum((wide * wide).mean(axis=-1, keepdims=True) - mean * mean, 0)
    reciprocal = jax.lax.rsqrt(variance + epsilon)
    normal = (wide - mean) * reciprocal
    result = normal if scale is None or offset is None else normal * scale + offset
    return result.astype(x.dtype), (x, mean, reciprocal, scale)


def _normalize_backward(
    epsilon: float, saved: Any, g: jax.Array
) -> tuple[jax.Array, jax.Array | None, jax.Array | None]:
    x, mean, reciprocal, scale = saved
    g = _stored(g)
    wide = g.astype(jnp.float32)
    normal = (x.astype(jnp.float32) - mean) * reciprocal
    scaled = wide if scale is None else wide * scale
    means = scaled.mean(axis=-1, keepdims=True), (scaled * normal).mean(axis=-1, keepdims=True)
    by_x = _stored((reciprocal * (scaled - means[0] - normal * means[1])).astype(x.dtype))
    return (by_x, None, None) if scale is None else (by_x, _column_sums(wide * normal), _column_sums(wide))


normalize.defvjp(_normalize_forward, _normalize_backward)


@jax.custom_vjp
def add_static(rows: jax.Array, static: jax.Array) -> jax.Array:
    """Rows [n, sample, L] + static [n, L]; the latter's gradient is added up in float32."""
    return rows + static[:, None]


add_static.defvjp(
    lambda rows, static: (add_static(rows, static), None),
    lambda saved, g: (g, g.astype(jnp.float32).sum(axis=1).astype(g.dtype)),
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
