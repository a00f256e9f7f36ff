"""Layers: linear, layer normalization with its own derivative, and the multilayer perceptron all parts are made of."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

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
        return Linear(jnp.zeros((in_size, out_size)), jnp.zeros(out_size))

    def __call__(self, x: jax.Array) -> jax.Array:
        return add_bias(matmul(x, self.weight), self.bias)


class LayerNorm(eqx.Module):
    """(x - mean) / sqrt(var + epsilon) * scale + offset over the last axis, with the biased variance."""

    scale: jax.Array
    offset: jax.Array

    @staticmethod
    def identity(size: int) -> LayerNorm:
        """Unit scale, zero offset."""
        return LayerNorm(jnp.ones(size), jnp.zeros(size))

    def __call__(self, x: jax.Array) -> jax.Array:
        return layer_norm(x, self.scale, self.offset)


# The derivatives below are written out because automatic ones cost a multiple on a CPU: they transpose large arrays
# for the weights' gradients, add up columns in many small steps, and keep more arrays than needed.


# Parameters are float32 always. Activations may be bfloat16: a parameter is then rounded where it is read, while its
# gradient, a sum over many rows, is added up and handed on in float32.


def _column_sums(x: jax.Array) -> jax.Array:
    ones = jnp.ones((1, x.shape[0]), x.dtype)
    return jnp.dot(ones, x, preferred_element_type=jnp.float32)[0]


@jax.custom_vjp
def matmul(x: jax.Array, weight: jax.Array) -> jax.Array:
    """The product of x [row, in] and weight [in, out], in the precision of x."""
    return x @ weight.astype(x.dtype)


def _matmul_forward(x: jax.Array, weight: jax.Array) -> tuple[jax.Array, Any]:
    return matmul(x, weight), (x, weight)


def _matmul_backward(saved: Any, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weight = saved
    by_weight = jax.lax.dot_general(x, g, (((0,), (0,)), ((), ())), preferred_element_type=weight.dtype)
    return g @ weight.astype(g.dtype).T, by_weight


matmul.defvjp(_matmul_forward, _matmul_backward)


@jax.custom_vjp
def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """The sum of x [row, out] and bias [out], in the precision of x."""
    return x + bias.astype(x.dtype)


add_bias.defvjp(lambda x, bias: (add_bias(x, bias), None), lambda saved, g: (g, _column_sums(g)))


@jax.custom_vjp
def swish(x: jax.Array) -> jax.Array:
    """Swish, x s with s = sigmoid(x). Its derivative s + x s (1 - s) is computed from x, the only array kept."""
    wide = x.astype(jnp.float32)
    return (wide * jax.nn.sigmoid(wide)).astype(x.dtype)


def _swish_backward(x: jax.Array, g: jax.Array) -> tuple[jax.Array]:
    wide = x.astype(jnp.float32)
    s = jax.nn.sigmoid(wide)
    return ((g * (s + wide * s * (1 - s))).astype(x.dtype),)


swish.defvjp(lambda x: (swish(x), x), _swish_backward)


@jax.custom_vjp
def layer_norm(x: jax.Array, scale: jax.Array, offset: jax.Array) -> jax.Array:
    """Layer normalization of x [row, L], computed in float32, with a derivative that reads x only twice.

    With xh = (x - mean) r, r = 1/sqrt(var + epsilon) and g' = g * scale, the derivative of x is
    r (g' - mean(g') - xh mean(g' xh)), those of scale and offset are the sums of g xh and g over all rows.
    """
    return _layer_norm_forward(x, scale, offset)[0]


def _layer_norm_forward(x: jax.Array, scale: jax.Array, offset: jax.Array) -> tuple[jax.Array, Any]:
    wide = x.astype(jnp.float32)
    mean = wide.mean(-1, keepdims=True)
    centred = wide - mean
    reciprocal = jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + EPSILON)
    return (centred * reciprocal * scale + offset).astype(x.dtype), (x, mean, reciprocal, scale)


def _layer_norm_backward(saved: Any, g: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, mean, reciprocal, scale = saved
    wide = g.astype(jnp.float32)
    normal = (x.astype(jnp.float32) - mean) * reciprocal
    scaled = wide * scale
    along = (scaled * normal).mean(-1, keepdims=True)
    dx = reciprocal * (scaled - scaled.mean(-1, keepdims=True) - normal * along)
    return dx.astype(x.dtype), _column_sums(wide * normal), _column_sums(g)


layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)


class MLP(eqx.Module):
    """Hidden layers of Linear and swish, a last Linear, and (but for the network's output) a LayerNorm.

    Its input is a concatenation [a, b, ...] in the formulas of GraphCast. Here the parts are never concatenated:
    [a, b] @ W = a @ W[:A] + b @ W[A:], and a part that is gathered is multiplied before the gather:

        y = mlp.finish(mlp.part(e, 0) + mlp.part(h, L)[senders])

    All arrays are matrices [row, channel], which is what CPUs do fastest.
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

    def part(self, x: jax.Array, start: int) -> jax.Array:
        """The share of the first layer of the part x of the input that begins at column `start`; without the bias."""
        return matmul(x, self.first.weight[start : start + x.shape[-1]])

    def finish(self, z: jax.Array) -> jax.Array:
        """What follows the first layer's matrix product z: its bias, the other layers, the normalization."""
        z = add_bias(z, self.first.bias)
        for linear in self.linears[1:]:
            z = linear(swish(z))
        return z if self.norm is None else self.norm(z)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.finish(self.part(x, 0))


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
