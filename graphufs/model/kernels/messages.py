"""Sums of messages between grid points and mesh nodes, differentiable, without an array over edges and samples.

The way back keeps nothing but the arguments. Sums are added up in one order always, by programs that share no result:
so they are the same bits each time, whether an experiment asks for that or not.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from graphufs.model.arrangement import Arrangement
from graphufs.model.kernels.by_node import gradients_at_nodes, sums_at_nodes
from graphufs.model.kernels.by_point import gradients_at_points, sums_at_points
from graphufs.model.kernels.lists import EdgeLists
from graphufs.model.kernels.tile import Sizes, Terms
from graphufs.model.kernels.weights import gradients_of_weights
from graphufs.model.layers import MLP


def sums_of_messages(
    mlp: MLP,
    at_point: jax.Array,
    at_node: jax.Array | None,
    static: jax.Array,
    lists: EdgeLists,
    samples: int,
    arrangement: Arrangement,
    *,
    padded: bool = True,
) -> jax.Array:
    """The sums over edges of mlp.normal(static + at_point[their points] + at_node[their nodes]).

    Parameters
    ----------
    mlp
        Of one hidden layer.
    at_point
        [point * sample, L], float32 or bfloat16.
    at_node
        [node * sample, L]; None where messages go from points to nodes, whose share is in `static` then.
    static
        [edge, L], the same for all samples.
    lists
        Of one block, without that axis.
    samples
        How many.
    arrangement
        Its kernels are `fused`, for a GPU, or `interpreted`, which is slow, and possible anywhere.
    padded
        Whether there may be edges that only pad a block.

    Returns
    -------
    jax.Array
        [point * sample, L] in the precision of `at_point` where there is `at_node`, else float32 [node * sample, L].
    """
    points = lists.of_point.shape[-1]
    sizes = Sizes(
        points=points,
        nodes=lists.starts.shape[-1] - 1,
        edges=static.shape[0],
        samples=samples,
        width=at_point.shape[1],
        places=lists.of_point.shape[0],
        to_points=at_node is not None,
        padded=padded,
        interpret=arrangement.kernels == "interpreted",
    )
    last = mlp.linears[-1]
    return _sums(at_point, at_node, static, last.weight, last.bias, lists, sizes)


@partial(jax.custom_vjp, nondiff_argnums=(6,))
def _sums(
    at_point: jax.Array,
    at_node: jax.Array | None,
    static: jax.Array,
    weight: jax.Array,
    bias: jax.Array,
    lists: EdgeLists,
    sizes: Sizes,
) -> jax.Array:
    terms = Terms(at_point, at_node, static, weight.astype(at_point.dtype), bias)
    if sizes.to_points:
        return sums_at_points(terms, lists.of_point, lists.node, sizes)
    return sums_at_nodes(terms, lists.of_node, lists.starts, lists.point, sizes)


def _sums_forward(*arguments: Any) -> tuple[jax.Array, Any]:
    return _sums(*arguments), arguments[:-1]


def _sums_backward(sizes: Sizes, saved: Any, gradient: jax.Array) -> tuple[Any, ...]:
    at_point, at_node, static, weight, bias, lists = saved
    terms = Terms(at_point, at_node, static, weight.astype(at_point.dtype), bias)
    lists_of_points = lists.of_point, lists.node
    found = gradients_at_points(terms, *lists_of_points, gradient, sizes)
    by_weight, by_bias = gradients_of_weights(terms, *lists_of_points, gradient, found.of_x, sizes)
    by_node = None
    if at_node is not None:
        lists_of_nodes = lists.of_node, lists.starts, lists.point
        by_node = gradients_at_nodes(terms, *lists_of_nodes, gradient, sizes).astype(at_node.dtype)
    static = found.static
    if sizes.padded:
        static = jnp.where((lists.node < sizes.nodes)[:, None], static, 0)
    return found.at_point, by_node, static, by_weight, by_bias, None


_sums.defvjp(_sums_forward, _sums_backward)
