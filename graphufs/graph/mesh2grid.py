"""mesh2grid: each grid point receives from the three vertices of the finest mesh's face that contains it."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.spatial import cKDTree

from graphufs.graph.icosphere import TriangularMesh
from graphufs.graph.nearest_face import nearest_faces

# Faces searched for each point, nearest centroid first. Six faces meet at a vertex; twelve leave room for distortion.
_CANDIDATES = 12
# A point whose smallest signed distance to the planes through a face's sides is within this of the best face's is tied.
TIE = 1e-6
# Squared distances closer than this count as equal (the tolerance of the reference's nearest-face search).
_EQUAL = 1e-8

Ties = Literal["own", "reference"]


def containing_faces(grid_xyz: np.ndarray, mesh: TriangularMesh, ties: Ties = "own") -> np.ndarray:
    """The face nearest to each grid point: the one that contains its radial projection.

    Points are float32 [grid, 3] on the unit sphere, what is returned int32 [grid], indices into `mesh.faces`.

    A point lies in the face (a, b, c) where its distances to the planes through the origin and each side,
    (a x b).p, (b x c).p and (c x a).p, are all positive; the face with the largest minimum is taken. On a side or a
    vertex of the mesh several faces do equally well. `ties` says which is taken there: `reference` that of DeepMind's
    code, down to its rounding (`graphufs.graph.nearest_face`); `own` what a rule much like it says in numpy,
    which takes another of these faces at one in several hundred points.
    """
    points = np.asarray(grid_xyz, np.float64)
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    planes = np.cross(corners, np.roll(corners, -1, axis=1))
    centroids = corners.mean(axis=1)
    count = min(_CANDIDATES, len(centroids))
    _, candidates = cKDTree(centroids).query(points, k=count)
    margins = _margins(points, planes, candidates)
    lost = np.flatnonzero(margins.max(axis=1) < -TIE)  # the containing face is not among the candidates
    if lost.size and count < len(centroids):
        everything = np.broadcast_to(np.arange(len(centroids)), (lost.size, len(centroids)))
        candidates[lost] = np.argsort(-_margins(points[lost], planes, everything), axis=1, kind="stable")[:, :count]
        margins[lost] = _margins(points[lost], planes, candidates[lost])
    best = margins.max(axis=1)
    chosen = np.take_along_axis(candidates, margins.argmax(axis=1)[:, None], axis=1)[:, 0]
    if ties == "reference":
        near = (margins > best[:, None] - _doubt(mesh)).sum(axis=1) > 1
        chosen[near] = nearest_faces(points[near], mesh)
        return chosen.astype(np.int32)
    for index in np.flatnonzero((margins > best[:, None] - TIE).sum(axis=1) > 1):
        tied = np.sort(candidates[index, margins[index] > best[index] - TIE])
        chosen[index] = tied[_break_tie(points[index], corners[tied])]
    return chosen.astype(np.int32)


def mesh2grid_edges(grid_xyz: np.ndarray, mesh: TriangularMesh, ties: Ties = "own") -> tuple[np.ndarray, np.ndarray]:
    """Senders (mesh) and receivers (grid) int32 [3 * grid]: by grid point, in the order of the face's vertices."""
    faces = containing_faces(grid_xyz, mesh, ties)
    return mesh.faces[faces].ravel(), np.repeat(np.arange(len(faces), dtype=np.int32), 3)


def _doubt(mesh: TriangularMesh) -> float:
    """The difference of margins below which the nearest flat face may be another than the one with the best margin.

    A point on the sphere is as much as edge^2/8 above a side, and the planes that bound what is nearest to a face lean
    by less than edge/2 from those through the origin: edge^3/16 along the sphere, and margins are that times the edge.
    """
    return max(TIE, float(mesh.edge_lengths().max()) ** 4 / 16)


def _margins(points: np.ndarray, planes: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """The smallest of the three signed plane distances of each point to each of its candidates [point, candidate]."""
    margins = np.empty(candidates.shape)
    for column in range(candidates.shape[1]):  # one at a time: [point, candidate, 3, 3] would be large
        margins[:, column] = np.einsum("psx,px->ps", planes[candidates[:, column]], points).min(axis=1)
    return margins


def _break_tie(point: np.ndarray, corners: np.ndarray) -> int:
    """The index of the face [face, 3, 3] the reference takes among those that contain the point equally well."""
    offsets = point - np.stack([_closest_point(point, *triangle) for triangle in corners])
    squared = (offsets * offsets).sum(axis=1)
    two = np.argsort(squared, kind="stable")[:2]
    if np.ptp(squared[two]) < _EQUAL and (squared[two] > _EQUAL).all():
        normals = np.cross(corners[two, 1] - corners[two, 0], corners[two, 2] - corners[two, 0])
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        alignment = (normals * offsets[two]).sum(axis=1) / np.sqrt(squared[two])
        return int(two[alignment.argmax()])
    return int(two[0])


def _closest_point(p: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """The point of the flat triangle (a, b, c) nearest to p (Ericson, Real-Time Collision Detection, 2005, 5.1.5)."""
    ab, ac, ap, bp, cp = b - a, c - a, p - a, p - b, p - c
    d1, d2, d3, d4, d5, d6 = ab @ ap, ac @ ap, ab @ bp, ac @ bp, ab @ cp, ac @ cp
    if d1 <= 0 and d2 <= 0:
        return a
    if d3 >= 0 and d4 <= d3:
        return b
    vc = d1 * d4 - d3 * d2
    if vc <= 0 and d1 >= 0 and d3 <= 0:
        return a + ab * (d1 / (d1 - d3))
    if d6 >= 0 and d5 <= d6:
        return c
    vb = d5 * d2 - d1 * d6
    if vb <= 0 and d2 >= 0 and d6 <= 0:
        return a + ac * (d2 / (d2 - d6))
    va = d3 * d6 - d5 * d4
    if va <= 0 and d4 - d3 >= 0 and d5 - d6 >= 0:
        return b + (c - b) * ((d4 - d3) / ((d4 - d3) + (d5 - d6)))
    return a + ab * (vb / (va + vb + vc)) + ac * (vc / (va + vb + vc))
