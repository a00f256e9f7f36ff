"""Structural features: where a node lies, and where an edge's sender lies as seen from its receiver.

Angles are spherical: phi is the longitude and theta the angle from the north pole, in radians, float32 as in the
reference; the geometry of edges is computed in float64 from these float32 angles and positions.
"""

from __future__ import annotations

import numpy as np


def spherical(latitude: np.ndarray, longitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(phi, theta) in radians, float32, of latitudes and longitudes in degrees; shapes are kept."""
    return np.deg2rad(np.asarray(longitude, np.float32)), np.deg2rad(90 - np.asarray(latitude, np.float32))


def positions(phi: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Points on the unit sphere [..., 3]."""
    return np.stack([np.cos(phi) * np.sin(theta), np.sin(phi) * np.sin(theta), np.cos(theta)], axis=-1)


def grid_points(latitude: np.ndarray, longitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(latitude, longitude) float32 [grid] of all points of a grid, longitude changing fastest."""
    lat, lon = np.meshgrid(np.asarray(latitude, np.float32), np.asarray(longitude, np.float32), indexing="ij")
    return lat.ravel(), lon.ravel()


def vertex_coordinates(vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(latitude, longitude) in degrees, float32 [vertex], of float32 points on the unit sphere."""
    phi, theta = np.arctan2(vertices[:, 1], vertices[:, 0]), np.arccos(vertices[:, 2])
    latitude, longitude = 90 - np.rad2deg(theta), np.mod(np.rad2deg(phi), 360)
    return latitude.astype(np.float32), longitude.astype(np.float32)


def node_features(phi: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """[cos theta, cos phi, sin phi], float32 [node, 3]."""
    return np.stack([np.cos(theta), np.cos(phi), np.sin(phi)], axis=-1).astype(np.float32)


def relative_positions(
    sender_xyz: np.ndarray, receiver_xyz: np.ndarray, receiver_phi: np.ndarray, receiver_theta: np.ndarray
) -> np.ndarray:
    """[d, dx, dy, dz] of each edge, float64 [edge, 4].

    (dx, dy, dz) = R (p_s - p_r), where R = Ry(pi/2 - theta_r) Rz(-phi_r) takes the receiver to (1, 0, 0), so that all
    receivers see the same local frame; d is its length. All arguments are per edge.
    """
    dx, dy, dz = (sender_xyz.astype(np.float64) - receiver_xyz.astype(np.float64)).T
    turn, tilt = -receiver_phi.astype(np.float64), np.pi / 2 - receiver_theta.astype(np.float64)
    dx, dy = np.cos(turn) * dx - np.sin(turn) * dy, np.sin(turn) * dx + np.cos(turn) * dy
    dx, dz = np.cos(tilt) * dx + np.sin(tilt) * dz, -np.sin(tilt) * dx + np.cos(tilt) * dz
    return np.stack([np.sqrt(dx * dx + dy * dy + dz * dz), dx, dy, dz], axis=-1)


def edge_features(relative: np.ndarray, normalization: float | None) -> np.ndarray:
    """`relative` [edge, 4] divided by `normalization`, or by its longest edge where None; float32 [edge, 4]."""
    scale = relative[:, 0].max(initial=0.0) if normalization is None else normalization
    return (relative / (scale or 1.0)).astype(np.float32)
