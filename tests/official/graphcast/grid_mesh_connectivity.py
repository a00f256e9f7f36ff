"""A look-alike of DeepMind's search for the triangle of each grid point."""

from __future__ import annotations

import numpy as np

from graphufs.graph import features
from graphufs.graph.icosphere import TriangularMesh
from graphufs.graph.mesh2grid import mesh2grid_edges

OTHER_TRIANGLE_AT: list[int] = []
"""Grid points that get another triangle than they should: a graph that is not the one it should be."""


def in_mesh_triangle_indices(
    *, grid_latitude: np.ndarray, grid_longitude: np.ndarray, mesh: TriangularMesh
) -> tuple[np.ndarray, np.ndarray]:
    xyz = features.positions(*features.spherical(*features.grid_points(grid_latitude, grid_longitude)))
    senders, receivers = mesh2grid_edges(xyz, mesh, "reference")
    senders = senders.copy().reshape(-1, 3)
    for point in OTHER_TRIANGLE_AT:
        senders[point] = mesh.faces[(np.flatnonzero((mesh.faces == senders[point]).all(1))[0] + 1) % len(mesh.faces)]
    return receivers, senders.reshape(-1)
