"""grid2mesh: each grid point sends to the mesh vertices within a radius."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from graphufs.graph.icosphere import TriangularMesh


def query_radius(finest: TriangularMesh, fraction: float) -> np.float32:
    """The radius (a chord): `fraction` of the finest mesh's longest edge, in float32 as in the reference."""
    return np.float32(finest.edge_lengths().max() * fraction)


def grid2mesh_edges(grid_xyz: np.ndarray, mesh_vertices: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of grid point [grid, 3] and mesh vertex [mesh, 3], float32, at most `radius` apart.

    That is a chord on the unit sphere; float32 rounding decides pairs that lie on it. Returns senders (grid) and
    receivers (mesh), int32 [edge] each, by grid point and then by mesh vertex.
    """
    found = cKDTree(mesh_vertices).query_ball_point(grid_xyz, radius, return_sorted=True)
    counts = np.fromiter(map(len, found), np.int64, len(found))
    receivers = np.fromiter((vertex for vertices in found for vertex in vertices), np.int32, int(counts.sum()))
    return np.repeat(np.arange(len(found), dtype=np.int32), counts), receivers
