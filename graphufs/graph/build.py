"""The whole graph of a grid and a mesh size, as plain arrays in the reference's order.

The network derives from it the order and the blocks it computes in (graphufs.model.arrays).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphufs.errors import UserError
from graphufs.graph import features
from graphufs.graph.grid2mesh import grid2mesh_edges, query_radius
from graphufs.graph.icosphere import icosphere
from graphufs.graph.mesh2grid import Ties, mesh2grid_edges
from graphufs.graph.multimesh import multimesh_edges

Connections = tuple[np.ndarray, np.ndarray]
"""Senders and receivers of edges, int32 [edge] each."""


@dataclass(frozen=True, eq=False)
class Edges:
    """Directed edges: the numbers of the nodes, int32 [edge], and features, float32 [edge, 4].

    These are the sender's scaled distance and position as seen from the receiver.
    """

    senders: np.ndarray
    receivers: np.ndarray
    features: np.ndarray

    def __len__(self) -> int:
        return len(self.senders)


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes and edges of GraphCast on one grid; features of nodes are float32 [node, 3]."""

    grid_shape: tuple[int, int]
    """(latitudes, longitudes); grid node = latitude index * longitudes + longitude index."""
    grid_features: np.ndarray
    mesh_features: np.ndarray
    grid2mesh: Edges
    """By grid node, then mesh node."""
    mesh: Edges
    """The multimesh, coarsest level first."""
    mesh2grid: Edges
    """Three a grid node, by grid node."""


def build_graph(
    latitude: np.ndarray,
    longitude: np.ndarray,
    *,
    mesh_size: int,
    radius_fraction: float = 0.6,
    mesh2grid_normalization: float | None = 0.6180338738074472,
    ties: Ties = "own",
) -> Graph:
    """Build the graph of a latitude-longitude grid, whose coordinates are 1-D, in degrees, in the data's order.

    `mesh_size` counts refinements of the icosahedron; `radius_fraction` is the radius of the grid2mesh edges over the
    finest mesh's longest edge, `mesh2grid_normalization` the scale of the mesh2grid edge features (None: their longest
    edge), `ties` the rule for grid points on a side of the mesh (`containing_faces`).

    Raises
    ------
    UserError
        If a coordinate is not 1-D, not finite or outside its range.
    """
    latitude = _coordinate("latitude", latitude, -90.0, 90.0)
    longitude = _coordinate("longitude", longitude, -360.0, 360.0)
    if mesh_size < 0:
        raise UserError(f"mesh_size is {mesh_size}; it counts refinements of the icosahedron and cannot be negative")
    meshes = icosphere(mesh_size)
    finest = meshes[-1]
    grid_xyz = features.positions(*features.spherical(*features.grid_points(latitude, longitude)))
    return assemble_graph(
        latitude,
        longitude,
        finest.vertices,
        grid2mesh=grid2mesh_edges(grid_xyz, finest.vertices, float(query_radius(finest, radius_fraction))),
        mesh=multimesh_edges(meshes),
        mesh2grid=mesh2grid_edges(grid_xyz, finest, ties),
        mesh2grid_normalization=mesh2grid_normalization,
    )


def assemble_graph(
    latitude: np.ndarray,
    longitude: np.ndarray,
    vertices: np.ndarray,
    *,
    grid2mesh: Connections,
    mesh: Connections,
    mesh2grid: Connections,
    mesh2grid_normalization: float | None,
) -> Graph:
    """Compute the structural features of nodes and of given edges, (senders, receivers) int32 each.

    The grid's coordinates are 1-D, in degrees; vertices, float32 [mesh, 3], those of the finest mesh.
    """
    grid_phi, grid_theta = features.spherical(*features.grid_points(latitude, longitude))
    mesh_phi, mesh_theta = features.spherical(*features.vertex_coordinates(vertices))
    on_grid = features.positions(grid_phi, grid_theta), grid_phi, grid_theta
    on_mesh = vertices, mesh_phi, mesh_theta

    def edges(
        connections: Connections, sender_xyz: np.ndarray, receiver: tuple[np.ndarray, ...], scale: float | None = None
    ) -> Edges:
        senders, receivers = connections
        xyz, phi, theta = (values[receivers] for values in receiver)
        relative = features.relative_positions(sender_xyz[senders], xyz, phi, theta)
        return Edges(senders, receivers, features.edge_features(relative, scale))

    return Graph(
        grid_shape=(len(latitude), len(longitude)),
        grid_features=features.node_features(grid_phi, grid_theta),
        mesh_features=features.node_features(mesh_phi, mesh_theta),
        grid2mesh=edges(grid2mesh, on_grid[0], on_mesh),
        mesh=edges(mesh, vertices, on_mesh),
        mesh2grid=edges(mesh2grid, vertices, on_grid, mesh2grid_normalization),
    )


def _coordinate(name: str, values: np.ndarray, low: float, high: float) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or values.size == 0:
        raise UserError(f"{name} must be a list of degrees, got an array of shape {values.shape}")
    if not (np.isfinite(values) & (values >= low) & (values <= high)).all():
        raise UserError(
            f"{name} must lie in [{low:g}, {high:g}] degrees, got values from {values.min()} to {values.max()}"
        )
    return values
