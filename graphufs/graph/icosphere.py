"""The icosphere: an icosahedron on the unit sphere and its refinements.

The order of vertices and faces is GraphCast's, so that parameters and graphs can be exchanged with it: the vertices
of a level are the first vertices of the next one. Level k has 10*4^k + 2 vertices and 20*4^k faces.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_ICOSAHEDRON_FACES = (
    (0, 1, 2), (0, 6, 1), (8, 0, 2), (8, 4, 0), (3, 8, 2), (3, 2, 7), (7, 2, 1), (0, 4, 6), (4, 11, 6), (6, 11, 5),
    (1, 5, 7), (4, 10, 11), (4, 8, 10), (10, 8, 3), (10, 3, 9), (11, 10, 9), (11, 9, 5), (5, 9, 7), (9, 3, 7),
    (1, 6, 5),
)  # fmt: skip


@dataclass(frozen=True)
class TriangularMesh:
    """A mesh of triangles on the unit sphere: vertices float32 [vertex, 3], and faces int32 [face, 3].

    Seen from outside, faces are counter-clockwise.
    """

    vertices: np.ndarray
    faces: np.ndarray

    def edge_lengths(self) -> np.ndarray:
        """The chord lengths of the edges, float32 [3 * face], shared edges twice."""
        ends = self.vertices[self.faces], self.vertices[np.roll(self.faces, -1, axis=1)]
        return np.linalg.norm(ends[0] - ends[1], axis=-1).ravel()


def icosahedron() -> TriangularMesh:
    """The icosahedron, turned about the y axis so that the poles lie in the middle of faces."""
    golden = (1 + np.sqrt(5)) / 2
    corners = []
    for c1 in (1.0, -1.0):
        for c2 in (golden, -golden):
            corners += [(c1, c2, 0.0), (0.0, c1, c2), (c2, 0.0, c1)]
    # float32 from here, as in the reference: the last bit of a vertex decides which grid points lie within a radius
    vertices = np.array(corners, np.float32)
    vertices /= np.linalg.norm([1.0, golden])
    # an edge's midpoint lies on the z axis; half of pi less the dihedral angle tilts one of its faces there
    angle = (np.pi - 2 * np.arcsin(golden / np.sqrt(3))) / 2
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    return TriangularMesh((vertices @ turn).astype(np.float32), np.array(_ICOSAHEDRON_FACES, np.int32))


def refine(mesh: TriangularMesh) -> TriangularMesh:
    """Split every face (1, 2, 3) into (1, 12, 31), (12, 2, 23), (31, 23, 3), (12, 23, 31), midpoints on the sphere.

    New vertices are numbered in the order in which the faces, each going through its edges 12, 23, 31, meet them.
    """
    faces, old = mesh.faces, len(mesh.vertices)
    edges = np.sort(np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1).reshape(-1, 2), axis=1)
    _, first, which = np.unique(
        edges[:, 0].astype(np.int64) * old + edges[:, 1], return_index=True, return_inverse=True
    )
    by_appearance = np.argsort(first)
    number = np.empty(len(first), np.int32)
    number[by_appearance] = np.arange(len(first), dtype=np.int32)
    midpoints = mesh.vertices[edges[first[by_appearance]]].mean(axis=1)
    # one norm at a time: a sum over an axis rounds in another order than the reference's dot product of one vector
    midpoints /= np.array([[np.linalg.norm(midpoint)] for midpoint in midpoints], np.float32)
    new = (old + number[which.ravel()]).astype(np.int32).reshape(-1, 3)
    (i1, i2, i3), (i12, i23, i31) = faces.T, new.T
    children = np.stack([(i1, i12, i31), (i12, i2, i23), (i31, i23, i3), (i12, i23, i31)])
    return TriangularMesh(
        np.concatenate([mesh.vertices, midpoints]), np.ascontiguousarray(children.transpose(2, 0, 1).reshape(-1, 3))
    )


def count_vertices(size: int) -> int:
    """How many vertices the mesh of a level has."""
    return 10 * 4**size + 2


def icosphere(size: int) -> list[TriangularMesh]:
    """The meshes of levels 0 (the icosahedron) to `size`."""
    meshes = [icosahedron()]
    for _ in range(size):
        meshes.append(refine(meshes[-1]))
    return meshes
