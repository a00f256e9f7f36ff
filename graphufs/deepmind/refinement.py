"""From one resolution to another: a network sees the same sums of messages at mesh nodes as before.

A mesh node adds up the messages of all grid points near it. On a finer grid there are more of them, four times as many
where 0.25 degree and a mesh of 6 refinements follow 1 degree and 5: the sums grow so, and what a network learnt of them
is of no use. They are divided by their growth (as FGN does, Alet et al. 2025, doi:10.48550/arXiv.2506.10772), in the
weights that read them. The other sums have as many messages as before: three at a grid point, six of each refinement on
the mesh.
"""

from __future__ import annotations

import equinox as eqx

from graphufs.emulator.emulator import ReplayEmulator
from graphufs.model.network import GraphCast


def growth_of_sums(here: ReplayEmulator, there: ReplayEmulator) -> float:
    """The messages of a mesh node from the grid here, over those there, a scalar; 1 on the same grid and mesh."""
    return _messages(here) / _messages(there)


def divide_sums(network: GraphCast, growth: float) -> GraphCast:
    """The network that reads the sums of messages from the grid divided by `growth`."""
    first = network.encoder.mesh_nodes.first.weight
    weight = first.at[network.latent_size :].divide(growth)
    return eqx.tree_at(lambda network: network.encoder.mesh_nodes.linears[0].weight, network, weight)


def _messages(emulator: ReplayEmulator) -> float:
    graph = emulator.build_graph()
    return len(graph.grid2mesh) / len(graph.mesh_features)
