"""The horizontal grid: which full Gaussian grid a decimated one was taken from, and the area of its rows."""

from __future__ import annotations

import numpy as np

from graphufs.grid.areas import latitude_weights

LARGEST_DECIMATION = 8
TOLERANCE = 1e-3
"""Degrees by which a latitude may differ from its Gaussian node."""


def gaussian_latitudes(count: int) -> np.ndarray:
    """Latitudes of the Gaussian grid with `count` rows, float64 degrees, descending as in Replay.

    The sines of the latitudes are the roots of the Legendre polynomial of degree `count`.
    """
    sines, _ = np.polynomial.legendre.leggauss(count)
    return np.rad2deg(np.arcsin(sines))[::-1]


def parent_latitudes(latitude: np.ndarray) -> np.ndarray:
    """The full grid's latitudes where `latitude` is every k-th row of a Gaussian grid, else `latitude` itself.

    Replay's subsampled product takes every fourth point of the 0.25 degree grid. Its rows are then not symmetric about
    the equator, and the area each stands for follows from the grid it was taken from.
    """
    latitude = np.asarray(latitude, np.float64)
    if np.allclose(latitude, -latitude[::-1], atol=TOLERANCE):
        return latitude
    ascending = latitude[0] < latitude[-1]
    for factor in range(2, LARGEST_DECIMATION + 1):
        full = gaussian_latitudes(factor * latitude.size)
        full = full[::-1] if ascending else full
        for first in range(factor):
            if np.allclose(full[first::factor], latitude, atol=TOLERANCE):
                return full
    return latitude


def row_areas(latitude: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """Relative area each latitude row stands for, float64 [lat] with mean 1.

    Bounds lie half-way between the rows of the parent grid and at the poles (graphufs.grid.areas). Rows of a
    decimated grid keep the area of the parent's row at the same latitude.
    """
    if parent.size == latitude.size:
        return latitude_weights(latitude)
    rows = np.array([int(np.argmin(np.abs(parent - value))) for value in latitude])
    areas = latitude_weights(parent)[rows]
    return areas / areas.mean()
