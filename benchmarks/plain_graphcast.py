"""GraphCast as its formulas are written: what graphufs.model.network is measured against.

The same parameters, the same mathematics and the same arrangement of arrays as in DeepMind's code, [node, sample,
channel], with concatenated inputs, gathers of whole latent vectors, `jax.ops.segment_sum`, derivatives left to JAX;
nothing is kept between calls, nothing cut into blocks.

    y = plain_graphcast(network, PlainGraph.of(graph), x)       # equal to network(x, GraphArrays.from_graph(graph))
    stepper = PlainStepper.of(stepper, graph)                   # in place of a Stepper in loss or rollout
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from graphufs.graph.build import Graph
from graphufs.model.channels import Arrays
from graphufs.model.layers import EPSILON, MLP
from graphufs.model.network import GraphCast
from graphufs.model.one_step import Stepper


class PlainEdges(NamedTuple):
    """Senders and receivers [edge], features [edge, 4]."""

    senders: jax.Array
    receivers: jax.Array
    features: jax.Array


class PlainGraph(NamedTuple):
    """A graph's arrays in their natural order."""

    grid_features: jax.Array
    mesh_features: jax.Array
    grid2mesh: PlainEdges
    mesh: PlainEdges
    mesh2grid: PlainEdges

    @staticmethod
    def of(graph: Graph) -> PlainGraph:
        """The arrays on the device."""
        edges = (
            PlainEdges(*(jnp.asarray(array) for array in (part.senders, part.receivers, part.features)))
            for part in (graph.grid2mesh, graph.mesh, graph.mesh2grid)
        )
        return PlainGraph(jnp.asarray(graph.grid_features), jnp.asarray(graph.mesh_features), *edges)


def plain_graphcast(network: GraphCast, graph: PlainGraph, x: jax.Array) -> jax.Array:
    """Output [batch, grid, outputs] of x [batch, grid, inputs]; all is computed in the precision of x.

    But for the sum of messages from the grid to the mesh, which is float32, as in DeepMind's code.
    """
    network, graph = jax.tree.map(
        lambda array: array.astype(x.dtype) if jnp.issubdtype(array.dtype, jnp.floating) else array, (network, graph)
    )
    encoder, processor, decoder = network.encoder, network.processor, network.decoder
    samples, nodes, points = x.shape[0], graph.mesh_features.shape[0], graph.grid_features.shape[0]

    def for_all(features: jax.Array) -> jax.Array:
        return jnp.broadcast_to(features[:, None], (features.shape[0], samples, features.shape[1]))

    grid = _mlp(encoder.embed_grid, x.swapaxes(0, 1), for_all(graph.grid_features))
    nothing = jnp.zeros((nodes, samples, x.shape[-1]), x.dtype)
    mesh = _mlp(encoder.embed_mesh, nothing, for_all(graph.mesh_features))
    edges = graph.grid2mesh
    edge = _mlp(encoder.embed_edges, for_all(edges.features))
    message = _mlp(encoder.edges, edge, grid[edges.senders], mesh[edges.receivers])
    total = jax.ops.segment_sum(message.astype(jnp.float32), edges.receivers, nodes).astype(x.dtype)
    mesh = mesh + _mlp(encoder.mesh_nodes, mesh, total)
    grid = grid + _mlp(encoder.grid_nodes, grid)

    edges = graph.mesh
    edge = _mlp(processor.embed_edges, for_all(edges.features))
    for step in processor.steps:
        message = _mlp(step.edges, edge, mesh[edges.senders], mesh[edges.receivers])
        mesh = mesh + _mlp(step.nodes, mesh, jax.ops.segment_sum(message, edges.receivers, nodes))
        edge = edge + message

    edges = graph.mesh2grid
    edge = _mlp(decoder.embed_edges, for_all(edges.features))
    message = _mlp(decoder.edges, edge, mesh[edges.senders], grid[edges.receivers])
    grid = grid + _mlp(decoder.grid_nodes, grid, jax.ops.segment_sum(message, edges.receivers, points))
    return _mlp(decoder.output, grid).swapaxes(0, 1)


class PlainStepper(Stepper):
    """A Stepper with this network in place of the package's; it has nothing to compute once for many steps."""

    plain: PlainGraph | None = None

    @staticmethod
    def of(stepper: Stepper, graph: Graph) -> PlainStepper:
        """A stepper's channels, statistics and precision on the same graph."""
        values = {field.name: getattr(stepper, field.name) for field in fields(stepper)}
        return PlainStepper(**values, plain=PlainGraph.of(graph))

    def apply(
        self, network: GraphCast, inputs: Arrays, forcings: Arrays, edges: Any = None, noise: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        assert self.plain is not None and noise is None
        y = plain_graphcast(network, self.plain, self.stack(inputs, forcings).astype(self.precision))
        return self.channels.unstack(y.astype(jnp.float32), self.grid_shape)

    def embed_edges(self, network: GraphCast) -> Any:
        return None


def _mlp(mlp: MLP, *parts: jax.Array) -> jax.Array:
    x = jnp.concatenate(parts, axis=-1)
    for linear in mlp.linears[:-1]:
        x = jax.nn.swish(x @ linear.weight + linear.bias)
    x = x @ mlp.linears[-1].weight + mlp.linears[-1].bias
    if mlp.norm is None:
        return x
    normal = (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + EPSILON)
    return normal * mlp.norm.scale + mlp.norm.offset
