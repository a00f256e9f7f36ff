"""The area each row of a grid stands for, by the three rules there are.

Scores weigh as WeatherBench2 and WeatherBench-X do (`latitude_weights`), statistics by the rows of the grid that
a decimated one was taken from (`row_areas`), the loss by quadrature where the grid is Gaussian
(`quadrature_weights`).
"""

from __future__ import annotations

import numpy as np

from graphufs.errors import UserError
from graphufs.vocabulary.conventions import DEFAULT, Convention


def latitude_weights(latitude: np.ndarray, convention: Convention = DEFAULT) -> np.ndarray:
    """Weight of each latitude row, proportional to its area on the sphere, with mean 1.

    Both are float64 [lat] in the same order, degrees ascending or descending. With latitudes ascending, row k lies
    between the midpoints to its neighbours, b_k and b_{k+1}, and its weight is sin(b_{k+1}) - sin(b_k) over the mean of
    all rows. The first and last bounds are the poles whatever the grid (weatherbench2/metrics.py, `get_lat_weights`),
    or, with WeatherBench-X, half a cell beyond the last row but not beyond the poles. The two differ on Gaussian grids.

    Raises
    ------
    UserError
        If the latitudes are not strictly monotonic or leave [-90, 90].
    """
    degrees = np.asarray(latitude, np.float64)
    if degrees.ndim != 1 or degrees.size == 0:
        raise UserError(f"latitudes must be a list of at least one value, got an array of shape {degrees.shape}")
    descending = degrees.size > 1 and degrees[0] > degrees[-1]
    ascending = degrees[::-1] if descending else degrees
    if not np.all(np.diff(ascending) > 0):
        raise UserError("latitudes must rise or fall from row to row without repeats; sort the grid by latitude")
    if not (ascending[0] >= -90 and ascending[-1] <= 90):
        raise UserError(
            f"latitudes must lie within -90 to 90 degrees, got {ascending[0]:g} to {ascending[-1]:g}; "
            "give them in degrees"
        )
    radians = np.deg2rad(ascending)
    bounds = np.concatenate([[-np.pi / 2], (radians[:-1] + radians[1:]) / 2, [np.pi / 2]])
    if convention == "WeatherBench-X" and radians.size > 1:
        bounds[0] = max(radians[0] - (radians[1] - radians[0]) / 2, -np.pi / 2)
        bounds[-1] = min(radians[-1] + (radians[-1] - radians[-2]) / 2, np.pi / 2)
    weights = np.diff(np.sin(bounds))
    weights /= weights.mean()
    return weights[::-1] if descending else weights


def cell_weights(
    latitude: np.ndarray, longitudes: int, mask: np.ndarray | None = None, convention: Convention = DEFAULT
) -> np.ndarray:
    """Weight of each grid point, float64 [lat, lon]: the row's weight, and 0 where `mask` [lat, lon] is False."""
    weights = np.repeat(latitude_weights(latitude, convention)[:, None], longitudes, axis=1)
    return weights if mask is None else np.where(mask, weights, 0.0)


LARGEST_DECIMATION = 8


TOLERANCE = 1e-3
"""Degrees by which a latitude may differ from its Gaussian node."""


def gaussian_latitudes(count: int) -> np.ndarray:
    """Latitudes [lat] of the Gaussian grid with `count` rows, float64 degrees, descending as in Replay.

    The sines of the latitudes are the roots of the Legendre polynomial of degree `count`.
    """
    sines, _ = np.polynomial.legendre.leggauss(count)
    return np.rad2deg(np.arcsin(sines))[::-1]


def parent_latitudes(latitude: np.ndarray) -> np.ndarray:
    """The full grid's latitudes where `latitude` [lat] is every k-th row of a Gaussian grid, else `latitude` itself.

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

    Bounds lie half-way between the rows of the parent grid and at the poles (`latitude_weights`). Rows of a
    decimated grid keep the area of the parent's row at the same latitude.
    """
    if parent.size == latitude.size:
        return latitude_weights(latitude)
    rows = np.array([int(np.argmin(np.abs(parent - value))) for value in latitude])
    areas = latitude_weights(parent)[rows]
    return areas / areas.mean()


def quadrature_weights(latitude: np.ndarray, parent_latitude: np.ndarray | None = None) -> np.ndarray:
    """The area each row of latitude stands for, float64 [lat], with mean 1.

    - A Gaussian grid (all its rows, each within 1e-3 degrees of its node): the Gauss-Legendre quadrature weights, which
      are the areas of rows that tile the sphere and besides integrate every polynomial in sin(latitude) up to degree
      2 n - 1 exactly. Bounds half-way between the rows, which earlier UFS emulators took, differ from them by at most
      0.2 % but for the two polar rows, which they make 5.8 % too heavy at any resolution.
    - Any other grid: rows reach half-way (in angle) to their neighbours, and to the pole where it is less than a
      spacing away; the area is proportional to the difference of the sines of the bounds. On uniform grids this is
      GraphCast's formula: without points at the poles cos(lat), with them cos(lat) sin(d/2) and sin(d/4)^2 at the
      poles, where d is the spacing (graphcast/losses.py, `normalized_latitude_weights`). A grid that stops short of
      the poles weighs its own rows only.
    - Every n-th row of a finer grid: the weights its rows have in that grid.

    Latitudes are in degrees, ascending or descending; `parent_latitude` has those of the finer grid that `latitude` was
    picked from, or `latitude` itself. Each row then stands for the finer grid's row, as the picked ones do not lie
    symmetrically about the equator.

    Raises
    ------
    UserError
        If the latitudes do not ascend or descend, leave [-90, 90], or are not among the parent's.
    """
    latitude = np.asarray(latitude, np.float64)
    if parent_latitude is not None and len(parent_latitude) != len(latitude):
        parent = np.asarray(parent_latitude, np.float64)
        index = np.abs(parent[None, :] - latitude[:, None]).argmin(axis=1)
        if np.abs(parent[index] - latitude).max() > TOLERANCE or len(set(index)) != len(index):
            raise UserError("the latitudes are not among the parent grid's; weights cannot be taken from it")
        weights = quadrature_weights(parent)[index]
        return weights / weights.mean()
    steps = np.diff(latitude)
    if len(latitude) < 2 or not ((steps > 0).all() or (steps < 0).all()):
        raise UserError(f"latitudes must ascend or descend, at least two of them; got {latitude}")
    if np.abs(latitude).max() > 90.0:
        raise UserError(f"latitudes must lie within -90 and 90 degrees, got {latitude.min():g} to {latitude.max():g}")
    sines, quadrature = np.polynomial.legendre.leggauss(len(latitude))
    if np.abs(np.sort(latitude) - np.rad2deg(np.arcsin(sines))).max() <= TOLERANCE:
        weights = quadrature  # the same in either order
    else:
        bounds = np.concatenate(
            [
                [_outer_bound(latitude[0], -steps[0])],
                (latitude[1:] + latitude[:-1]) / 2,
                [_outer_bound(latitude[-1], steps[-1])],
            ]
        )
        weights = np.abs(np.diff(np.sin(np.deg2rad(bounds))))
    return weights / weights.mean()


def _outer_bound(latitude: float, step: float) -> float:
    """The pole if it is less than a step away, else half a step outward."""
    return float(np.sign(step) * 90.0) if abs(latitude + step) > 90.0 else latitude + step / 2
