"""Layers: linear, layer normalization with its own derivative, and the multilayer perceptron all parts are made of."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from graphufs.model import by_sample, gpu_layers
from graphufs.model.arrangement import Arrangement, arrangement_for

Module = TypeVar("Module", bound=eqx.Module)

EPSILON = 1e-5
"""Added to the variance in layer normalization, as in Haiku."""


class Linear(eqx.Module):
    """x @ weight + bias for x [row, in], with weight [in, out] as DeepMind stores it."""

    weight: jax.Array
    bias: jax.Array

    @staticmethod
    def zeros(in_size: int, out_size: int) -> Linear:
        """Zero weight and bias, to be filled by `randomize`."""
        return Linear(_full(0, in_size, out_size), _full(0, out_size))


class LayerNorm(eqx.Module):
    """(x - mean) / sqrt(var + epsilon) * scale + offset over the last axis, with the biased variance.

    What comes before scale and offset is MLP.normal's.
    """

    scale: jax.Array
    offset: jax.Array
    noise: jax.Array | None = None
    """[channel, 2 * out], what noise adds to scale and offset, see graphufs.model.noise; None where there is none."""

    @staticmethod
    def identity(size: int) -> LayerNorm:
        """Unit scale, zero offset."""
        return LayerNorm(_full(1, size), _full(0, size))


def _full(value: float, *shape: int) -> jax.Array:
    # numpy's, as JAX's own would compile a program for each shape
    return jnp.asarray(np.full(shape, value, np.float32))


# The derivatives below are written out because automatic ones cost a multiple on a CPU: they transpose large arrays
# for the weights' gradients, add up columns in many small steps, and keep more arrays than needed.
#
# These are for CPUs; an arrangement for GPUs has its own (graphufs.model.gpu_layers).
#
# Parameters are float32 always. Activations may be bfloat16: a parameter is then rounded where it is read, while its
# gradient, a sum over many rows, is added up and handed on in float32.


def _column_sums(x: jax.Array) -> jax.Array:
    return jnp.dot(jnp.ones((1, x.shape[0]), x.dtype), x, preferred_element_type=jnp.float32)[0]


def _column_sums_of_product(x: jax.Array, y: jax.Array) -> jax.Array:
    """The sums of x * y [row, L] over rows, in float32. The product is stored in quarters, added up."""
    x, y = x.astype(jnp.float32), y.astype(jnp.float32)
    quarter = x.shape[0] // 4
    parts = [slice(index * quarter, (index + 1) * quarter) for index in range(4)]
    first, *others = [x[part] * y[part] for part in parts]
    rest = (x[4 * quarter :] * y[4 * quarter :]).sum(0)
    return _column_sums(sum(others, start=first)) + rest


def _row_means(x: jax.Array) -> jax.Array:
    """The mean of each row, [row, 1]."""
    # what is added up here is computed on the way, while XLA stores x before it sums rows of more than 32
    width = x.shape[1]
    while x.shape[1] > 32 and x.shape[1] % 2 == 0:
        half = x.shape[1] // 2
        x = x[:, :half] + x[:, half:]
    return x.sum(-1, keepdims=True) / width


@jax.custom_vjp
def matmul(x: jax.Array, weight: jax.Array) -> jax.Array:
    """The product of x [row, in] and weight [in, out], in the precision of x."""
    return x @ weight.astype(x.dtype)


def _matmul_forward(x: jax.Array, weight: jax.Array) -> tuple[jax.Array, Any]:
    return matmul(x, weight), (x, weight)


def _matmul_backward(saved: Any, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weight = saved
    return g @ weight.astype(g.dtype).T, _weight_gradient(x, g)


def _weight_gradient(x: jax.Array, g: jax.Array) -> jax.Array:
    return jax.lax.dot_general(x, g, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)


matmul.defvjp(_matmul_forward, _matmul_backward)


@jax.custom_vjp
def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """The sum of x [row, out] and bias [out], in the precision of x."""
    return x + bias.astype(x.dtype)


add_bias.defvjp(lambda x, bias: (add_bias(x, bias), None), lambda saved, g: (g, _column_sums(g)))


@jax.custom_vjp
def scale_columns(x: jax.Array, scale: jax.Array) -> jax.Array:
    """The product of x [row, L] and scale [L], column by column, in the precision of x."""
    return (x * scale).astype(x.dtype)


def _scale_columns_backward(saved: Any, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, scale = saved
    return (g * scale).astype(g.dtype), _column_sums_of_product(g, x)


scale_columns.defvjp(lambda x, scale: (scale_columns(x, scale), (x, scale)), _scale_columns_backward)


@jax.custom_vjp
def activate(z: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
    """swish(z) @ weight + bias, [..., out], of z [..., in], weight [in, out] and bias [out].

    swish(z) = z s with s = sigmoid(z); its derivative is s + z s (1 - s).
    """
    return _activate_forward(z, weight, bias)[0]


def _activate_forward(z: jax.Array, weight: jax.Array, bias: jax.Array) -> tuple[jax.Array, Any]:
    wide = z.astype(jnp.float32)
    s = jax.nn.sigmoid(wide)
    swish = (wide * s).astype(z.dtype)
    # a float32 sigmoid is kept: a CPU would rather read it again than compute it, and XLA keeps it in any case
    keep = z.dtype == jnp.float32
    return swish @ weight.astype(z.dtype) + bias.astype(z.dtype), (z, s if keep else None, weight)


def _activate_backward(saved: Any, g: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    z, s, weight = saved
    wide = z.astype(jnp.float32)
    s = jax.nn.sigmoid(wide) if s is None else s
    swish = wide * s
    by_z = (g @ weight.astype(g.dtype).T * (s + swish * (1 - s))).astype(g.dtype)
    return by_z, _weight_gradient(swish.astype(z.dtype), g), _column_sums(g)


activate.defvjp(_activate_forward, _activate_backward)


@jax.custom_vjp
def normalize_rows(x: jax.Array, scale: jax.Array | None = None, offset: jax.Array | None = None) -> jax.Array:
    """The product xh = x r with r = 1/sqrt(mean(x^2) + epsilon) by row of x [row, L], or xh * scale + offset.

    All in float32. With g' = g * scale, or g, the derivative of x is r (g' - xh mean(g' xh)).
    """
    return _normalize_rows_forward(x, scale, offset)[0]


def _normalize_rows_forward(
    x: jax.Array, scale: jax.Array | None, offset: jax.Array | None
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array | None]]:
    reciprocal = jax.lax.rsqrt(_row_means(x * x) + EPSILON)
    normal = x * reciprocal
    result = normal if scale is None or offset is None else normal * scale + offset
    return result, (normal, reciprocal, scale)


def _normalize_rows_backward(saved: Any, g: jax.Array) -> tuple[jax.Array, jax.Array | None, jax.Array | None]:
    normal, reciprocal, scale = saved
    scaled = g if scale is None else g * scale
    by_x = reciprocal * (scaled - normal * _row_means(scaled * normal))
    return (by_x, None, None) if scale is None else (by_x, _column_sums_of_product(g, normal), _column_sums(g))


normalize_rows.defvjp(_normalize_rows_forward, _normalize_rows_backward)


@jax.checkpoint  # of its arrays only x, which is not wide, is worth keeping
def _normalize_rounded(x: jax.Array, *scale_and_offset: jax.Array) -> jax.Array:
    """The same in float32 of rounded x, less its mean, which it has whatever was done before the rounding."""
    wide = x.astype(jnp.float32)
    return normalize_rows(wide - _row_means(wide), *scale_and_offset).astype(x.dtype)


def for_fusion(arrangement: Arrangement | None) -> bool:
    """Whether an arrangement (None: that of the backend at hand) computes by graphufs.model.gpu_layers."""
    return (arrangement or arrangement_for()).for_fusion


def with_bias(x: jax.Array, bias: jax.Array, arrangement: Arrangement | None) -> jax.Array:
    """The sum of x [row, out] and bias [out], or that of each sample [sample, out], in the precision of x."""
    if bias.ndim == 2:
        return by_sample.shift_rows(x, bias)
    return (gpu_layers.add_bias if for_fusion(arrangement) else add_bias)(x, bias)


def with_scale(x: jax.Array, scale: jax.Array, arrangement: Arrangement | None) -> jax.Array:
    """The product of x [row, L] and scale [L], or that of each sample [sample, L], in the precision of x."""
    if scale.ndim == 2:
        return by_sample.scale_rows(x, scale)
    return (gpu_layers.scale_columns if for_fusion(arrangement) else scale_columns)(x, scale)


class MLP(eqx.Module):
    """Hidden layers of Linear and swish, a last Linear, and (but for the network's output) a LayerNorm.

    Its input is a concatenation [a, b, ...] in the formulas of GraphCast. Here the parts are never concatenated:
    [a, b] @ W = a @ W[:A] + b @ W[A:], and a part that is gathered is multiplied before the gather:

        y = mlp.finish(mlp.part(e, 0) + mlp.part(h, L)[senders])

    The `arrangement` is that of a GraphArrays; None takes that of the backend at hand.

    Where all that is done with y is to sum rows or to multiply it with a matrix, scale s and offset o of the LayerNorm
    are applied after it, to fewer rows or to the matrix: sum(xh s + o) = s sum(xh) + n o, (xh s + o) @ W =
    xh @ (s W) + o @ W. All arrays are matrices [row, channel], which is what CPUs do fastest.
    """

    linears: tuple[Linear, ...]
    norm: LayerNorm | None

    @staticmethod
    def zeros(in_size: int, hidden_size: int, out_size: int, hidden_layers: int, *, norm: bool = True) -> MLP:
        """Zero weights for `hidden_layers` hidden layers, to be filled by `randomize`."""
        sizes = [in_size, *[hidden_size] * hidden_layers, out_size]
        linears = tuple(Linear.zeros(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
        return MLP(linears, LayerNorm.identity(out_size) if norm else None)

    @property
    def first(self) -> Linear:
        """The layer that meets the input."""
        return self.linears[0]

    @property
    def scale(self) -> jax.Array:
        """Of the LayerNorm, [out]; of a network conditioned on noise [sample, out]."""
        assert self.norm is not None
        return self.norm.scale

    @property
    def offset(self) -> jax.Array:
        """Of the LayerNorm, [out]; of a network conditioned on noise [sample, out]."""
        assert self.norm is not None
        return self.norm.offset

    def part(
        self, x: jax.Array, start: int, scale: jax.Array | None = None, *, arrangement: Arrangement | None = None
    ) -> jax.Array:
        """The share of the first layer of the part x (or x * scale) of the input that begins at column `start`.

        Without the bias.
        """
        weight = self.first.weight[start : start + x.shape[-1]]
        if scale is not None and scale.ndim == 2:  # each sample's own
            x, scale = with_scale(x, scale, arrangement), None
        product = gpu_layers.matmul if for_fusion(arrangement) else matmul
        return product(x, weight if scale is None else scale[:, None] * weight)

    def finish(
        self, z: jax.Array, arrangement: Arrangement | None = None, *, bias: jax.Array | None = None
    ) -> jax.Array:
        """What follows the first layer's matrix product z: its bias (or another), the other layers, the LayerNorm."""
        z = with_bias(z, self.first.bias if bias is None else bias, arrangement)
        return self.finish_with_bias(z, arrangement)

    def finish_with_bias(self, z: jax.Array, arrangement: Arrangement | None = None) -> jax.Array:
        """As `finish`, but of z [..., channel] with the bias."""
        if self.norm is None:
            return self._layers(z, self.linears[-1].weight, self.linears[-1].bias, arrangement)
        return self._normalize(z, arrangement, self.norm.scale, self.norm.offset)

    def normal(self, z: jax.Array, arrangement: Arrangement | None = None) -> jax.Array:
        """As `finish`, but of z [..., channel] with the bias, and without the LayerNorm's scale and offset."""
        return self._normalize(z, arrangement)

    def sum_of_normals(self, z: jax.Array, parts: int, arrangement: Arrangement | None = None) -> jax.Array:
        """The sums [row, out] over parts of `normal` of z [part * row, channel]."""
        if for_fusion(arrangement):
            product = gpu_layers.activate(self._hidden(z, arrangement), self.linears[-1].weight)
            return gpu_layers.sum_normalized(product, self.linears[-1].bias, EPSILON, parts)
        return self.normal(z, arrangement).reshape(parts, -1, self.linears[-1].weight.shape[1]).sum(0)

    def _normalize(self, z: jax.Array, arrangement: Arrangement | None, *scale_and_offset: jax.Array) -> jax.Array:
        if scale_and_offset and scale_and_offset[0].ndim == 2:
            scale, offset = scale_and_offset
            return with_bias(with_scale(self._normalize(z, arrangement), scale, arrangement), offset, arrangement)
        last = self.linears[-1]
        if for_fusion(arrangement):
            product = gpu_layers.activate(self._hidden(z, arrangement), last.weight)
            return gpu_layers.normalize(product, last.bias, EPSILON, *scale_and_offset)
        if z.dtype == jnp.float32:
            # The last layer's weight and bias give up their mean over the output channels. The output has none then,
            # nor has the gradient that goes back through them, which saves two passes over all rows.
            weight = last.weight - last.weight.mean(axis=1, keepdims=True)
            centred = self._layers(z, weight, last.bias - last.bias.mean(), arrangement)
            return normalize_rows(centred, *scale_and_offset)
        return _normalize_rounded(self._layers(z, last.weight, last.bias, arrangement), *scale_and_offset)

    def _layers(self, z: jax.Array, weight: jax.Array, bias: jax.Array, arrangement: Arrangement | None) -> jax.Array:
        layer = gpu_layers.activate if for_fusion(arrangement) else activate
        return layer(self._hidden(z, arrangement), weight, bias)

    def _hidden(self, z: jax.Array, arrangement: Arrangement | None) -> jax.Array:
        layer = gpu_layers.activate if for_fusion(arrangement) else activate
        for linear in self.linears[1:-1]:
            z = layer(z, linear.weight, linear.bias)
        return z

    def __call__(self, x: jax.Array, arrangement: Arrangement | None = None) -> jax.Array:
        return self.finish(self.part(x, 0, arrangement=arrangement), arrangement)


def randomize(module: Module, key: jax.Array) -> Module:
    """Fill all weights (the leaves with two axes) as Haiku does by default; leave the other leaves.

    They come from a normal distribution cut at 2 sigma, where sigma before the cut is 1/sqrt(inputs). All numbers are
    drawn at once: one compiled program instead of one for each shape.
    """
    leaves, tree = jax.tree.flatten(module)
    sizes = [leaf.size if leaf.ndim == 2 else 0 for leaf in leaves]
    numbers: Any = jax.random.truncated_normal(key, -2.0, 2.0, (sum(sizes),))
    if not isinstance(numbers, jax.core.Tracer):
        numbers = np.asarray(numbers)  # numpy cuts them without compiling; under jax.eval_shape there are none
    stops = np.cumsum(sizes)
    filled = [
        jnp.asarray(numbers[stop - size : stop].reshape(leaf.shape) / math.sqrt(leaf.shape[0])) if size else leaf
        for leaf, size, stop in zip(leaves, sizes, stops, strict=True)
    ]
    return jax.tree.unflatten(tree, filled)
