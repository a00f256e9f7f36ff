"""The edges between grid points and mesh nodes, listed by point and by node: what the kernels go through."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray


class EdgeLists(eqx.Module):
    """The edges of each block of grid points, int32; edges are numbered as in the static term.

    A block may be padded with edges that end nowhere: their node is the number of nodes, and no list holds them.
    """

    point: jax.Array
    """[block, edge], the grid point within its block."""
    node: jax.Array
    """[block, edge], the mesh node."""
    of_point: jax.Array
    """[block, place, point], a point's edges, -1 where it has no more."""
    of_node: jax.Array
    """[block, edge], edges in the order of their nodes, those that only pad last."""
    starts: jax.Array
    """[block, node + 1], where each node's begin in `of_node`, and where those of the last one end."""

    @staticmethod
    def build(point: NDArray[np.int32], node: NDArray[np.int32], points: int, nodes: int) -> EdgeLists:
        """List the edges of blocks of `points` grid points, given their points and nodes [block, edge]."""
        order = np.argsort(node, axis=1, kind="stable")
        starts = [np.searchsorted(row, np.arange(nodes + 1)) for row in np.take_along_axis(node, order, axis=1)]
        real = node < nodes
        degrees = [np.bincount(row[there], minlength=points) for row, there in zip(point, real, strict=True)]
        of_point = np.full((len(point), max(1, int(np.max(degrees))), points), -1, np.int32)
        for block, row in enumerate(point):
            (edges,) = np.nonzero(real[block])
            edges = edges[np.argsort(row[edges], kind="stable")]
            first = np.concatenate([[0], np.cumsum(degrees[block])[:-1]])
            of_point[block, np.arange(edges.size) - first[row[edges]], row[edges]] = edges
        parts = (point, node, of_point, order, np.stack(starts))
        return EdgeLists(*(jnp.asarray(part, jnp.int32) for part in parts))
