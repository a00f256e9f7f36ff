"""The nearest face of a flat mesh as DeepMind's code finds it: by trimesh, with numpy's order of equal distances.

trimesh sorts the distances to the faces near a point and looks at the first two. Where distances are equal, which two
those are is the sort's choice, and numpy's has another on processors without AVX2, ARM's among them. So that a model
has the same graph on all machines, the order is that of numpy with AVX2 or AVX-512 here, wherever this runs.
"""

from __future__ import annotations

import numpy as np

from graphufs.graph.icosphere import TriangularMesh


def nearest_faces(points: np.ndarray, mesh: TriangularMesh) -> np.ndarray:
    """The face [point], indices into `mesh.faces`, of the flat mesh nearest to each point, float64 [point, 3].

    What `trimesh.proximity.closest_point` gives on such a processor. Of two faces at the same distance, which is not
    zero, the one whose outward side looks more towards the point is taken.
    """
    import trimesh  # only here: it takes longer to load than most graphs take to build

    if not len(points):
        return np.zeros(0, np.int64)
    flat = trimesh.Trimesh(vertices=mesh.vertices, faces=mesh.faces)
    nearby = trimesh.proximity.nearby_faces(flat, points)
    counts = np.array([len(faces) for faces in nearby])
    of_point, faces = np.repeat(np.arange(len(points)), counts), np.concatenate(nearby)
    offsets = points[of_point] - trimesh.triangles.closest_point(
        flat.triangles.view(np.ndarray)[faces], points[of_point]
    )
    squared = trimesh.util.diagonal_dot(offsets, offsets)

    first = np.cumsum(counts) - counts
    by_point = np.full((len(points), max(counts.max(), 2)), np.inf)
    by_point[of_point, np.arange(len(faces)) - first[of_point]] = squared
    two = first[:, None] + np.where(counts[:, None] > 1, _order(by_point)[:, :2], 0)
    equal = trimesh.constants.tol.merge
    asked = (np.ptp(squared[two], axis=1) < equal) & (squared[two] > equal).all(axis=1)
    towards = offsets[two[asked]] / squared[two[asked]][..., None] ** 0.5
    outward = (flat.face_normals[faces[two[asked]]] * towards).sum(axis=2)
    chosen = two[:, 0].copy()
    chosen[asked] = np.take_along_axis(two[asked], outward.argmax(axis=1)[:, None], axis=1)[:, 0]
    found: np.ndarray = faces[chosen]
    return found


def _order(values: np.ndarray) -> np.ndarray:
    """What sorts each row of values [row, n], int [row, >= n]: numpy's argsort on AVX2 and AVX-512 for n up to 256.

    There it is a bitonic network (Intel's x86-simd-sort, which numpy has since 1.25), all of whose comparisons put the
    smaller value first and leave equal ones where they are. To fill a row up to a power of two changes nothing.
    """
    rows, columns = values.shape
    size = 1 << (columns - 1).bit_length()
    keys = np.concatenate([values, np.full((rows, size - columns), np.inf)], axis=1)
    order = np.broadcast_to(np.arange(size), keys.shape).copy()
    merged = 2
    while merged <= size:
        for distance in [merged - 1, *(merged >> k for k in range(2, merged.bit_length()))]:
            low = np.flatnonzero(np.arange(size) < np.arange(size) ^ distance)
            high = low ^ distance
            swap = keys[:, low] > keys[:, high]
            for array in (keys, order):
                array[:, low], array[:, high] = (
                    np.where(swap, array[:, high], array[:, low]),
                    np.where(swap, array[:, low], array[:, high]),
                )
        merged *= 2
    return order
