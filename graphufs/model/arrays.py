"""The graph in the order the network computes in: blocks of grid points, edges sorted by receiver, indices local.

On a large grid the activations of grid points and of their edges do not fit a processor's cache, and in training not
its memory. The network therefore goes through the grid in blocks of equal size; each block brings its own edges.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from graphufs.errors import UserError
from graphufs.graph.build import Graph
from graphufs.graph.partition import Partition
from graphufs.model.arrangement import CPU, Arrangement, arrangement_for
from graphufs.model.exchange import Exchange
from graphufs.model.kernels.lists import EdgeLists


class EdgeArrays(eqx.Module):
    """Senders and receivers int32 and features float32 [..., 4] of edges."""

    senders: jax.Array
    receivers: jax.Array
    features: jax.Array


class GraphArrays(eqx.Module):
    """A Graph's arrays on the device. They are data, not parameters: pass them to jitted functions as an argument.

    Features of the grid are [block, point, 3], of the mesh [mesh, 3]; mesh2grid has senders [block, 3, point] and
    features [block, 3, point, 4]; degrees, float32 [mesh], are how many edges end at each mesh node.
    """

    grid_features: jax.Array
    mesh_features: jax.Array
    grid2mesh: EdgeArrays
    """[block, edge]; senders count within their block, receivers ascend and are the number of mesh nodes (one past the
    last) where a block is padded to the length of the others."""
    mesh: EdgeArrays
    """[edge], receivers ascend."""
    mesh2grid_senders: jax.Array
    mesh2grid_features: jax.Array
    grid2mesh_of_senders: jax.Array | None
    """int32 [block, point, few], the edges of grid2mesh that a point sends along, past the last edge where there are
    fewer; for GPUs, whose gathers are differentiated by it."""
    grid2mesh_degrees: jax.Array
    mesh_degrees: jax.Array
    fills_cache: bool = eqx.field(static=True)
    """Whether the activations of one sample fill a CPU's cache, so that samples had better follow each other."""
    arrangement: Arrangement = eqx.field(static=True)
    lists: tuple[EdgeLists, EdgeLists] | None = None
    """Of the edges of grid2mesh and mesh2grid, where kernels go through them."""
    to_grid: Exchange | None = None
    """Where devices share a sample, what edges between grid and mesh need of other parts' nodes: they have its numbers
    of mesh nodes. Mesh features and degrees are those of the part."""
    to_mesh: Exchange | None = None
    """The same for the edges of the mesh, whose senders have its numbers."""

    @staticmethod
    def from_graph(
        graph: Graph, *, latent_size: int, blocks: int | None = None, arrangement: Arrangement | None = None
    ) -> GraphArrays:
        """Arrange a graph for a network, whose latent size decides how large a block may be.

        The number of blocks divides that of grid points; None chooses one for the device. Without an arrangement, that
        of the backend at hand is taken.

        Raises
        ------
        UserError
            If `blocks` does not divide the number of grid points.
        """
        arrangement = arrangement or arrangement_for()
        blocks = _blocks(graph, blocks, latent_size, arrangement)
        nodes = len(graph.mesh_features)
        degrees = tuple(np.bincount(edges.receivers, minlength=nodes) for edges in (graph.grid2mesh, graph.mesh))
        return _arranged(graph, blocks, _longest(graph, blocks), nodes, degrees, latent_size, arrangement)

    @staticmethod
    def of_parts(
        partition: Partition, *, latent_size: int, blocks: int | None = None, arrangement: Arrangement | None = None
    ) -> GraphArrays:
        """Arrange the graphs of all parts: each array [part, ...]. `blocks` are those of a part.

        Raises
        ------
        UserError
            If `blocks` does not divide the number of a part's grid points.
        """
        arrangement = arrangement or arrangement_for()
        graphs, nodes = partition.graphs, partition.grid.reached
        blocks = _blocks(graphs[0], blocks, latent_size, arrangement)
        longest = max(_longest(graph, blocks) for graph in graphs)
        parts = [
            _arranged(graph, blocks, longest, nodes, degrees, latent_size, arrangement)
            for graph, degrees in zip(graphs, partition.degrees, strict=True)
        ]
        for table, axis, nothing in (
            (lambda part: part.grid2mesh_of_senders, 2, longest),
            (lambda part: part.lists and part.lists[0].of_point, 1, -1),
        ):
            if table(parts[0]) is not None:
                same = _same_length([table(part) for part in parts], axis, nothing)
                parts = [eqx.tree_at(table, part, new) for part, new in zip(parts, same, strict=True)]
        stacked: GraphArrays = jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)
        return dataclasses.replace(stacked, to_grid=Exchange.of(partition.grid), to_mesh=Exchange.of(partition.mesh))

    @property
    def blocks(self) -> int:
        """The number of blocks."""
        return self.grid_features.shape[0]

    @property
    def padded(self) -> bool:
        """Whether there may be edges that only make a block, or a device's part, as long as the others."""
        return self.blocks > 1 or self.to_grid is not None

    @property
    def reached_nodes(self) -> int:
        """The number of mesh nodes that edges from and to the grid end at, those of other devices included."""
        return self.mesh_features.shape[0] if self.to_grid is None else self.to_grid.reached


def _arranged(
    graph: Graph,
    blocks: int,
    longest: int,
    nodes: int,
    degrees: tuple[np.ndarray, ...],
    latent_size: int,
    arrangement: Arrangement,
) -> GraphArrays:
    """A graph whose grid is joined to `nodes` mesh nodes, in blocks of at most `longest` edges to the mesh."""
    points = len(graph.grid_features)
    size = points // blocks
    grid2mesh = graph.grid2mesh
    starts = np.searchsorted(grid2mesh.senders, np.arange(0, points + 1, size))
    senders = np.zeros((blocks, longest), np.int32)
    receivers = np.full((blocks, longest), nodes, np.int32)
    features = np.zeros((blocks, longest, 4), np.float32)
    for block, (start, stop) in enumerate(zip(starts[:-1], starts[1:], strict=True)):
        order = start + np.argsort(grid2mesh.receivers[start:stop], kind="stable")
        senders[block, : stop - start] = grid2mesh.senders[order] - block * size
        receivers[block, : stop - start] = grid2mesh.receivers[order]
        features[block, : stop - start] = grid2mesh.features[order]
    order = np.argsort(graph.mesh.receivers, kind="stable")
    mesh = EdgeArrays(
        jnp.asarray(graph.mesh.senders[order]),
        jnp.asarray(graph.mesh.receivers[order]),
        jnp.asarray(graph.mesh.features[order]),
    )
    corners = graph.mesh2grid.senders.reshape(blocks, size, 3)
    corner_features = graph.mesh2grid.features.reshape(blocks, size, 3, 4)
    lists = None
    if arrangement.kernels != "xla":
        points_of_corners = np.tile(np.arange(size, dtype=np.int32), (blocks, 3))
        pairs = (senders, receivers), (points_of_corners, corners.transpose(0, 2, 1).reshape(blocks, -1))
        to_mesh, to_grid = (EdgeLists.build(point, node, size, nodes) for point, node in pairs)
        lists = to_mesh, to_grid
    return GraphArrays(
        grid_features=jnp.asarray(graph.grid_features.reshape(blocks, size, 3)),
        mesh_features=jnp.asarray(graph.mesh_features),
        grid2mesh=EdgeArrays(jnp.asarray(senders), jnp.asarray(receivers), jnp.asarray(features)),
        mesh=mesh,
        grid2mesh_of_senders=jnp.asarray(_places(senders, starts, size)) if arrangement.for_fusion else None,
        mesh2grid_senders=jnp.asarray(np.ascontiguousarray(corners.transpose(0, 2, 1))),
        mesh2grid_features=jnp.asarray(np.ascontiguousarray(corner_features.transpose(0, 2, 1, 3))),
        grid2mesh_degrees=jnp.asarray(degrees[0], jnp.float32),
        mesh_degrees=jnp.asarray(degrees[1], jnp.float32),
        fills_cache=arrangement.samples_in_turn and (blocks > 1 or len(graph.mesh) * latent_size * 4 > CPU.block_bytes),
        arrangement=arrangement,
        lists=lists,
    )


def _blocks(graph: Graph, blocks: int | None, latent_size: int, arrangement: Arrangement) -> int:
    points = len(graph.grid_features)
    if blocks is None:
        return _choose_blocks(points, latent_size, arrangement.block_bytes)
    if points % blocks:
        raise UserError(f"blocks is {blocks}, which does not divide the {points} grid points")
    return blocks


def _longest(graph: Graph, blocks: int) -> int:
    """The most edges to the mesh that a block of grid points has."""
    points = len(graph.grid_features)
    return int(np.diff(np.searchsorted(graph.grid2mesh.senders, np.arange(0, points + 1, points // blocks))).max())


def _same_length(tables: Sequence[jax.Array], axis: int, fill: int) -> list[jax.Array]:
    """Tables that differ in the length of an axis, all as long as the longest."""
    most = max(table.shape[axis] for table in tables)

    def longer(table: jax.Array) -> jax.Array:
        missing = [(0, most - length if place == axis else 0) for place, length in enumerate(table.shape)]
        return jnp.pad(table, missing, constant_values=fill)

    return [longer(table) for table in tables]


def _places(senders: np.ndarray, starts: np.ndarray, size: int) -> np.ndarray:
    """The edges of each of `size` points of a block, [block, point, few], from their senders [block, edge].

    Blocks have edges from one start to the next; what follows only pads them.
    """
    counts = [np.bincount(row[:count], minlength=size) for row, count in zip(senders, np.diff(starts), strict=True)]
    places = np.full((len(senders), size, max(int(count.max()) for count in counts)), senders.shape[1], np.int32)
    for block, count in enumerate(counts):
        order = np.argsort(senders[block, : count.sum()], kind="stable")
        points = senders[block, order]
        places[block, points, np.arange(len(order)) - (np.cumsum(count) - count)[points]] = order
    return places


def _choose_blocks(points: int, latent_size: int, limit: int) -> int:
    """The smallest divisor of the points that keeps a block within a limit of bytes."""
    wanted = max(1, -(-points * 3 * latent_size * 4 // limit))
    return next(blocks for blocks in range(wanted, points + 1) if points % blocks == 0)
