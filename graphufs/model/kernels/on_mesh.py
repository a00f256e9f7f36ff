"""The message steps on the mesh by kernels: of an edge only its latent vector and its message are in memory.

What a step's nodes are for the next one's edges is made where the nodes are. Kernels have scale and offset of a
LayerNorm in them, so that these need not be carried past sums and edges, as elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from graphufs.model import gpu_layers
from graphufs.model.exchange import reached
from graphufs.model.kernels.by_row import layers_of_rows
from graphufs.model.layers import MLP
from graphufs.model.rows import add_rows, add_static

if TYPE_CHECKING:
    from graphufs.model.arrays import GraphArrays

Step = tuple[MLP, MLP]
"""Of edges and of nodes."""


def process(
    steps: Sequence[Step], mesh: jax.Array, edge: jax.Array, graph: GraphArrays, samples: int, remat: bool | None
) -> jax.Array:
    """The mesh nodes after all steps, [mesh * sample, L], from them and embedded edges [edge, L].

    m_e = MLP([edge, mesh_sender, mesh_receiver]);  mesh += MLP([mesh, sum of m_e]);  edge += m_e; repeated.
    """
    ends = [gpu_layers.matmul(mesh, weight) for weight in _ends(steps[0][0])]
    for place, (edges, nodes) in enumerate(steps):
        after = _ends(steps[place + 1][0]) if place + 1 < len(steps) else []

        def send(
            edges: MLP, nodes: MLP, after: list[jax.Array], mesh: jax.Array, edge: jax.Array, ends: list[jax.Array]
        ) -> tuple[jax.Array, jax.Array, list[jax.Array]]:
            size, how = mesh.shape[1], graph.arrangement
            of_edge, static = edges.first.weight[:size], edges.first.bias
            sources = [(edge, of_edge)]
            if edge.shape[0] != graph.mesh.senders.shape[0] * samples:  # before the first step, the same for all
                sources, static = [], gpu_layers.add_bias(gpu_layers.matmul(edge, of_edge), static)
            terms = [(reached(ends[0], graph.to_mesh), graph.mesh.senders), (ends[1], graph.mesh.receivers)]
            # after the last step no edge is read; before the first, it has no samples yet
            both = bool(sources and after)
            message, *sums = layers_of_rows(edges, sources, static, how, terms=terms, samples=samples, both=both)
            if after:
                edge = sums[0] if both else add_static(message, edge, how)
            total = add_rows(jnp.zeros(mesh.shape, jnp.float32), graph.mesh.receivers, message, samples, how)
            of_nodes = nodes.first.weight
            sources = [(mesh, of_nodes[:size]), (total.astype(mesh.dtype), of_nodes[size:])]
            mesh, *ends = layers_of_rows(nodes, sources, nodes.first.bias, how, residual=True, after=after)
            return mesh, edge, ends

        mesh, edge, ends = (jax.checkpoint(send) if remat else send)(edges, nodes, after, mesh, edge, ends)
    return mesh


def _ends(edges: MLP) -> list[jax.Array]:
    """What senders and receivers are multiplied with."""
    size = edges.linears[-1].weight.shape[1]
    return [edges.first.weight[size : 2 * size], edges.first.weight[2 * size :]]
