"""The multimesh: the finest icosphere's vertices, joined by the edges of all levels so that messages go far."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphufs.graph.icosphere import TriangularMesh


def multimesh_edges(meshes: Sequence[TriangularMesh]) -> tuple[np.ndarray, np.ndarray]:
    """Senders and receivers of the edges of all levels, coarsest first: int32 [edge] each.

    A face (1, 2, 3) gives 1->2, 2->3 and 3->1. As each edge has two faces that go through it in opposite directions,
    both directions occur once. There are 20 (4^(M+1) - 1) directed edges for levels 0 to M.
    """
    faces = np.concatenate([mesh.faces for mesh in meshes])
    return faces.T.ravel().copy(), np.roll(faces, -1, axis=1).T.ravel().copy()
