"""The whole graph of a grid and a mesh size, as plain arrays in the reference's order.

The network derives from it the order and the blocks it computes in (graphufs.model.arrays).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphufs.errors import UserError
from graphufs.graph import features
from graphufs.graph.grid2mesh import grid2mesh_edges, query_radius
from graphufs.graph.icosphere import TriangularMesh, icosphere
from graphufs.graph.mesh2grid import mesh2grid_edges
from graphufs.graph.multimesh import multimesh_edges


@dataclass(frozen=True, eq=False)
class Edges:
    """Directed edges.

    Attributes
    ----------
    senders, receivers : int32 [edge], node numbers
    features : float32 [edge, 4], the sender's scaled distance and position as seen from the receiver
    """

    senders: np.ndarray
    receivers: np.ndarray
    features: np.ndarray

    def __len__(self) -> int:
        return len(self.senders)


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes and edges of GraphCast on one grid.

    Attributes
    ----------
    grid_shape : (latitudes, longitudes); grid node = latitude index * longitudes + longitude index
    grid_features : float32 [grid, 3]
    mesh_features : float32 [mesh, 3]
    grid2mesh : by grid node, then mesh node
    mesh : the multimesh, coarsest level first
    mesh2grid : three a grid node, by grid node
    """

    grid_shape: tuple[int, int]
    grid_features: np.ndarray
    mesh_features: np.ndarray
    grid2mesh: Edges
    mesh: Edges
    mesh2grid: Edges


def build_graph(
    latitude: np.ndarray,
    longitude: np.ndarray,
    *,
    mesh_size: int,
    radius_fraction: float = 0.6,
    mesh2grid_normalization: float | None = 0.6180338738074472,
) -> Graph:
    """Build the graph of a latitude-longitude grid.

    Parameters
    ----------
    latitude, longitude : degrees, 1-D, in the data's order
    mesh_size : refinements of the icosahedron
    radius_fraction : radius of the grid2mesh edges over the finest mesh's longest edge
    mesh2grid_normalization : scale of the mesh2grid edge features; None takes their longest edge

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
    finest: TriangularMesh = meshes[-1]
    grid_phi, grid_theta = features.spherical(*features.grid_points(latitude, longitude))
    mesh_phi, mesh_theta = features.spherical(*features.vertex_coordinates(finest.vertices))
    grid_xyz = features.positions(grid_phi, grid_theta)

    def edges(
        pair: tuple[np.ndarray, np.ndarray],
        sender_xyz: np.ndarray,
        receiver: tuple[np.ndarray, np.ndarray, np.ndarray],
        normalization: float | None = None,
    ) -> Edges:
        senders, receivers = pair
        xyz, phi, theta = (values[receivers] for values in receiver)
        relative = features.relative_positions(sender_xyz[senders], xyz, phi, theta)
        return Edges(senders, receivers, features.edge_features(relative, normalization))

    mesh = (finest.vertices, mesh_phi, mesh_theta)
    radius = query_radius(finest, radius_fraction)
    return Graph(
        grid_shape=(len(latitude), len(longitude)),
        grid_features=features.node_features(grid_phi, grid_theta),
        mesh_features=features.node_features(mesh_phi, mesh_theta),
        grid2mesh=edges(grid2mesh_edges(grid_xyz, finest.vertices, radius), grid_xyz, mesh),
        mesh=edges(multimesh_edges(meshes), finest.vertices, mesh),
        mesh2grid=edges(
            mesh2grid_edges(grid_xyz, finest),
            finest.vertices,
            (grid_xyz, grid_phi, grid_theta),
            mesh2grid_normalization,
        ),
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
