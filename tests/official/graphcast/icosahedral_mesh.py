"""A look-alike of DeepMind's meshes."""

from __future__ import annotations

from graphufs.graph.icosphere import TriangularMesh, icosphere


def get_hierarchy_of_triangular_meshes_for_sphere(splits: int) -> list[TriangularMesh]:
    return list(icosphere(splits))
