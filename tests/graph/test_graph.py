"""The graph's parts, on meshes and grids small enough to check by brute force."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from graphufs.errors import UserError
from graphufs.graph import build_graph
from graphufs.graph.features import grid_points, node_features, positions, relative_positions, spherical
from graphufs.graph.grid2mesh import grid2mesh_edges, query_radius
from graphufs.graph.icosphere import icosphere
from graphufs.graph.mesh2grid import Ties, containing_faces
from graphufs.graph.multimesh import multimesh_edges
from graphufs.graph.nearest_face import _order


def unit_points(latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    return positions(*spherical(*grid_points(latitude, longitude)))


@pytest.mark.parametrize("level", range(5))
def test_a_refinement_has_four_times_the_faces_and_keeps_the_vertices(level: int) -> None:
    meshes = icosphere(level)
    mesh = meshes[-1]
    assert len(mesh.vertices) == 10 * 4**level + 2
    assert len(mesh.faces) == 20 * 4**level
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 1, atol=1e-6)
    for coarser in meshes[:-1]:
        np.testing.assert_array_equal(coarser.vertices, mesh.vertices[: len(coarser.vertices)])
    assert len(np.unique(np.round(mesh.vertices, 5), axis=0)) == len(mesh.vertices)


def test_faces_turn_counter_clockwise_seen_from_outside() -> None:
    mesh = icosphere(3)[-1]
    a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    assert ((np.cross(b - a, c - a) * a).sum(axis=1) > 0).all()


def test_the_multimesh_joins_neighbours_of_every_level_in_both_directions_once() -> None:
    senders, receivers = multimesh_edges(icosphere(2))
    assert len(senders) == 20 * (4**3 - 1)
    pairs = set(zip(senders.tolist(), receivers.tolist(), strict=True))
    assert len(pairs) == len(senders)
    assert pairs == {(b, a) for a, b in pairs}
    # five neighbours at each of the icosahedron's corners on each of three levels, six at the finest level's own nodes
    incoming = np.bincount(receivers)
    assert (incoming[:12] == 15).all() and (incoming[12:42] == 12).all() and (incoming[42:] == 6).all()


def test_grid2mesh_edges_are_all_pairs_within_the_radius() -> None:
    mesh = icosphere(1)[-1]
    points = unit_points(np.linspace(-80, 80, 9), np.arange(0, 360, 30))
    radius = query_radius(mesh, 0.6)
    distance = np.linalg.norm(points[:, None].astype(np.float64) - mesh.vertices[None], axis=-1)
    assert np.abs(distance - radius).min() > 1e-6  # no pair is so close to the radius that rounding decides
    senders, receivers = grid2mesh_edges(points, mesh.vertices, radius)
    np.testing.assert_array_equal(np.stack([senders, receivers], axis=1), np.argwhere(distance <= radius))


@pytest.mark.parametrize("ties", ["own", "reference"])
@pytest.mark.parametrize("size", [0, 1, 3])
def test_each_grid_point_lies_in_its_face(size: int, ties: Ties) -> None:
    mesh = icosphere(size)[-1]
    random = np.random.default_rng(size)
    points = random.normal(size=(500, 3))
    points = np.concatenate([points / np.linalg.norm(points, axis=1, keepdims=True), mesh.vertices])
    faces = mesh.vertices[mesh.faces[containing_faces(points.astype(np.float32), mesh, ties)]].astype(np.float64)
    sides = np.cross(faces, np.roll(faces, -1, axis=1))
    assert np.einsum("psx,px->ps", sides, points).min() > -1e-6


@pytest.mark.parametrize("size", [0, 2, 4])
def test_the_references_rule_takes_the_face_that_trimesh_finds_nearest_of_the_whole_mesh(size: int) -> None:
    mesh, random = icosphere(size)[-1], np.random.default_rng(size)
    # on the grid's own points, which meet sides and vertices often, and at all small distances from sides
    corners = mesh.vertices[mesh.faces[random.integers(len(mesh.faces), size=400)]].astype(np.float64)
    share = random.random((400, 1))
    beside = corners[:, 0] * share + corners[:, 1] * (1 - share)
    beside += random.normal(size=beside.shape) * 10.0 ** random.uniform(-9, -2, size=share.shape)
    beside /= np.linalg.norm(beside, axis=1, keepdims=True)
    points = np.concatenate([unit_points(np.linspace(-90, 90, 19), np.arange(36) * 10.0), beside.astype(np.float32)])
    flat = trimesh.Trimesh(vertices=mesh.vertices, faces=mesh.faces)
    _, _, expected = trimesh.proximity.closest_point(flat, points)
    found = containing_faces(points, mesh, "reference")
    if np.array([2.0, 3.0, 1.0, 1.0]).argsort()[0] == 3:  # numpy with AVX2 or AVX-512
        np.testing.assert_array_equal(found, expected)
    # elsewhere trimesh itself takes others among equally near ones; the golden cases hold which are taken here
    near, theirs = (trimesh.triangles.closest_point(flat.triangles[faces], points) for faces in (found, expected))
    np.testing.assert_allclose(((points - near) ** 2).sum(axis=1), ((points - theirs) ** 2).sum(axis=1), atol=1e-15)
    assert (containing_faces(points, mesh, "own") != found).any()


def test_equal_distances_are_put_in_the_order_of_numpy_with_avx2_on_all_processors() -> None:
    # told by numpy 2.4 with AVX2 and with AVX-512
    values = [[2.0, 3.0, 1.0, 1.0, 5.0], [1.0, 1.0, 1.0, 1.0, 1.0], [4.0, 3.0, 3.0, 3.0, 0.0]]
    assert _order(np.array(values))[:, :5].tolist() == [[3, 2, 0, 1, 4], [0, 1, 2, 3, 4], [4, 1, 3, 2, 0]]
    drawn = np.random.default_rng(5).random((40, 23))
    np.testing.assert_array_equal(_order(drawn)[:, :23], drawn.argsort(axis=1))


def test_edge_features_do_not_depend_on_the_longitude_they_are_seen_at() -> None:
    latitude, offset = np.array([50.0, -20.0, 0.0]), np.array([3.0, 10.0, -7.0])
    seen = []
    for turn in (0.0, 123.0):
        phi, theta = spherical(latitude, np.full(3, turn))
        sender = positions(*spherical(latitude + 5, offset + turn))
        seen.append(relative_positions(sender, positions(phi, theta), phi, theta))
    np.testing.assert_allclose(seen[0], seen[1], atol=1e-6)
    distance, up, east, north = seen[0].T
    np.testing.assert_allclose(distance, np.sqrt(up**2 + east**2 + north**2))
    assert (up < 0).all()  # the chord goes below the receiver's horizon
    assert (np.sign(east) == np.sign(offset)).all()
    assert (north > 0).all()


def test_node_features_are_the_sine_of_latitude_and_the_direction_of_longitude() -> None:
    features = node_features(*spherical(np.array([0.0, 90.0, -30.0]), np.array([0.0, 90.0, 180.0])))
    np.testing.assert_allclose(features, [[0, 1, 0], [1, 0, 1], [-0.5, -1, 0]], atol=1e-6)


def test_a_grid_with_descending_latitudes_gives_the_same_graph_in_another_order() -> None:
    latitude, longitude = np.linspace(-75.3, 71.1, 7), np.arange(12) * 30 + 1.7
    up, down = (build_graph(lat, longitude, mesh_size=1) for lat in (latitude, latitude[::-1]))
    order = np.arange(84).reshape(7, 12)[::-1].ravel()
    np.testing.assert_array_equal(up.grid_features[order], down.grid_features)
    np.testing.assert_array_equal(up.mesh2grid.senders.reshape(-1, 3)[order], down.mesh2grid.senders.reshape(-1, 3))
    pairs = [set(zip(g.grid2mesh.senders.tolist(), g.grid2mesh.receivers.tolist(), strict=True)) for g in (up, down)]
    assert {(int(order[s]), r) for s, r in pairs[1]} == pairs[0]


def test_without_a_factor_mesh2grid_features_are_scaled_by_their_longest_edge() -> None:
    grid = np.linspace(-80, 80, 5), np.arange(0, 360, 45)
    graph = build_graph(*grid, mesh_size=1, mesh2grid_normalization=None)
    assert graph.mesh2grid.features[:, 0].max() == 1
    unscaled = build_graph(*grid, mesh_size=1, mesh2grid_normalization=1.0).mesh2grid.features
    np.testing.assert_allclose(graph.mesh2grid.features * unscaled[:, 0].max(), unscaled, atol=1e-6)


def test_the_prototypes_grid_has_an_edge_to_every_mesh_node_and_three_from_the_mesh() -> None:
    latitude = 90 - (np.arange(192) + 0.5) * 180 / 192
    graph = build_graph(latitude, np.arange(384) * 0.9375, mesh_size=2)
    assert len(graph.mesh2grid) == 3 * 192 * 384
    assert set(graph.grid2mesh.receivers) == set(range(162))
    assert len(graph.mesh) == 1260
    for edges in (graph.grid2mesh, graph.mesh, graph.mesh2grid):
        assert edges.senders.dtype == edges.receivers.dtype == np.int32
        assert edges.features.dtype == np.float32 and np.abs(edges.features).max() < 1.01


@pytest.mark.parametrize(
    ("latitude", "longitude", "words"),
    [([0, 91], [0, 1], "latitude"), ([[0]], [0], "shape"), ([0, 1], [np.nan], "longitude"), ([], [0], "latitude")],
)
def test_coordinates_that_are_none_are_refused(latitude: list, longitude: list, words: str) -> None:
    with pytest.raises(UserError, match=words):
        build_graph(np.array(latitude), np.array(longitude), mesh_size=0)
