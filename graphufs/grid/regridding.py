"""Regridding between latitude-longitude grids: conservative, bilinear and nearest, with NaN left out.

The methods are those of weatherbench2/regridding.py. Scores of different grids must not be compared: the grid and the
method are recorded with every score (`Grid.description`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
from scipy import sparse
from scipy.spatial import KDTree

from graphufs.errors import UserError
from graphufs.grid.grid import Grid

Method = Literal["conservative", "bilinear", "nearest"]
MOST_POINTS = 2**24
"""Of a grid that fields are brought to: 3 km are not scored by this program."""


def named_grid(name: str) -> Grid:
    """An equiangular grid by WeatherBench2's kind of name: longitudes x latitudes.

    An odd number of latitudes includes both poles (240x121, 1440x721); with an even one the outermost rows lie half
    a cell away from them (64x32).

    Raises
    ------
    UserError
        If the name is none.
    """
    match = re.fullmatch(r"([0-9]{1,9})x([0-9]{1,9})", name)
    if not match or min(longitudes := int(match[1]), latitudes := int(match[2])) < 3:
        raise UserError(f"there is no grid {name}; name one by longitudes x latitudes, such as 64x32 or 240x121")
    poles = latitudes % 2
    step = 180 / (latitudes - poles)
    first = -90 + (0 if poles else step / 2)
    return Grid(first + step * np.arange(latitudes), 360 / longitudes * np.arange(longitudes))


class Regridder:
    """Brings fields from one grid to another, whose latitudes may ascend or descend in either.

    The method `conservative` keeps area means (for coarser grids), `bilinear` interpolates (for finer ones), `nearest`
    takes the nearest point on the sphere (for categories).

    Raises
    ------
    UserError
        If there is no such method, a grid is too small, or one covers a part of the globe that the method would take
        for all of it: the source in longitude, and but for `bilinear` in latitude; the target of `conservative`.
    """

    def __init__(self, source: Grid, target: Grid, method: Method = "conservative") -> None:
        if method not in get_args(Method):
            raise UserError(f"there is no regridding method {method}; there are {', '.join(get_args(Method))}")
        if min(source.shape) < 3 or min(target.shape) < 3:
            raise UserError("regridding needs at least three latitudes and longitudes on both grids")
        if (points := target.shape[0] * target.shape[1]) > MOST_POINTS:
            name = f"{target.shape[1]}x{target.shape[0]}"
            raise UserError(f"the grid {name} has {points:,} points; fields are brought to {MOST_POINTS:,} at most")
        _require_global("source", source, latitude=method != "bilinear")
        if method == "conservative":
            _require_global("target", target, latitude=True)
        self.source, self.method = source, method
        self.target = replace(target, origin=f"regridded from {source.shape[1]}x{source.shape[0]}, {method}")
        build: dict[Method, Callable[[Grid, Grid], Callable[[np.ndarray], np.ndarray]]] = {
            "conservative": _Conservative,
            "bilinear": _Bilinear,
            "nearest": _Nearest,
        }
        ascending, self._rows_in = _ascending(source)
        wanted, self._rows_out = _ascending(target)
        self._apply = build[method](ascending, wanted)

    def __call__(self, fields: np.ndarray) -> np.ndarray:
        """The fields on the target grid, float32 [..., lat, lon], from [..., lat, lon] on the source grid."""
        leading = fields.shape[:-2]
        flat = fields.reshape(-1, *fields.shape[-2:])
        out = np.empty((len(flat), *self.target.shape), np.float32)
        for index, field in enumerate(flat):  # one by one, so that the temporaries stay small
            out[index] = self._apply(field[self._rows_in])[self._rows_out]
        return out.reshape(*leading, *self.target.shape)


def _require_global(what: str, grid: Grid, *, latitude: bool) -> None:
    """Refuse a grid whose outermost cells would have to be much wider than its others to go round the globe."""
    steps = np.diff(grid.longitude)
    if grid.longitude[0] + 360 - grid.longitude[-1] > 1.5 * steps.max():
        raise UserError(
            f"the {what} grid covers longitudes {grid.longitude[0]:g} to {grid.longitude[-1]:g} alone; regridding "
            "takes grids around the globe. Score it on its own grid"
        )
    rows = np.sort(grid.latitude)
    if latitude and (rows[0] + 90 > rows[1] - rows[0] + 1e-6 or 90 - rows[-1] > rows[-1] - rows[-2] + 1e-6):
        raise UserError(
            f"the {what} grid covers latitudes {rows[0]:g} to {rows[-1]:g} alone, which this regridding would stretch "
            "to the poles. Score it on its own grid, or take evaluation.regridding: bilinear"
        )


def _ascending(grid: Grid) -> tuple[Grid, slice]:
    """The grid with latitudes ascending, and the slice that turns its rows over if need be (its own inverse)."""
    if grid.latitude[0] < grid.latitude[-1]:
        return grid, slice(None)
    return replace(grid, latitude=grid.latitude[::-1]), slice(None, None, -1)


class _Conservative:
    """Means over the target cells: rows weighted by the overlap in sin(latitude), columns by that in longitude.

    Where there is NaN, the mean is taken over the valid part of the cell.
    """

    def __init__(self, source: Grid, target: Grid) -> None:
        self._rows = latitude_overlap(source.latitude, target.latitude)
        self._columns = longitude_overlap(source.longitude, target.longitude)

    def _mean(self, field: np.ndarray) -> np.ndarray:
        return (self._columns @ (self._rows @ field).T).T

    def __call__(self, field: np.ndarray) -> np.ndarray:
        field = field.astype(np.float64)
        missing = np.isnan(field)
        if not missing.any():
            return self._mean(field)
        valid = self._mean((~missing).astype(np.float64))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(valid > 0, self._mean(np.where(missing, 0.0, field)) / valid, np.nan)


def latitude_overlap(source: np.ndarray, target: np.ndarray) -> sparse.csr_array:
    """The share of each target row's area in each source row, [target, source]; rows sum to 1.

    Rows end half-way to the next ones, the outermost at the poles; latitudes ascend.
    """

    def bounds(latitude: np.ndarray) -> np.ndarray:
        radians = np.deg2rad(latitude)
        return np.concatenate([[-np.pi / 2], (radians[:-1] + radians[1:]) / 2, [np.pi / 2]])

    inner, outer = bounds(source), bounds(target)
    upper = np.minimum(outer[1:, None], inner[None, 1:])
    lower = np.maximum(outer[:-1, None], inner[None, :-1])
    return _normalized(np.where(upper > lower, np.sin(upper) - np.sin(lower), 0.0))


def longitude_overlap(source: np.ndarray, target: np.ndarray) -> sparse.csr_array:
    """The share of each target column's width in each source column around the globe, [target, source]."""

    def bounds(longitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        wrapped = np.concatenate([[longitude[-1] - 360], longitude, [longitude[0] + 360]])
        middles = (wrapped[:-1] + wrapped[1:]) / 2
        return middles[:-1], middles[1:]

    (west, east), (target_west, target_east) = bounds(source), bounds(target)
    overlap = np.zeros((len(target), len(source)))
    for turn in (-360.0, 0.0, 360.0):
        upper = np.minimum(target_east[:, None], east + turn)
        lower = np.maximum(target_west[:, None], west + turn)
        overlap += np.maximum(upper - lower, 0.0)
    return _normalized(overlap)


def _normalized(overlap: np.ndarray) -> sparse.csr_array:
    return sparse.csr_array(overlap / overlap.sum(axis=1, keepdims=True))


class _Bilinear:
    """Linear interpolation along latitude, then along longitude around the globe.

    Between the outermost row and the pole the row's values hold, where the source reaches to within a row of the
    pole; a source that ends earlier gives NaN beyond its end. NaN at either neighbour makes NaN, even at a neighbour
    of weight 0, as in WeatherBench2; beyond the outermost row there is no other neighbour.
    """

    def __init__(self, source: Grid, target: Grid) -> None:
        latitude, wanted = source.latitude, target.latitude
        lower, upper, weight = _neighbours(latitude, np.clip(wanted, latitude[0], latitude[-1]))
        lower = np.where(wanted > latitude[-1], upper, lower)
        upper = np.where(wanted < latitude[0], lower, upper)
        south = latitude[0] + 90 <= latitude[1] - latitude[0] + 1e-6
        north = 90 - latitude[-1] <= latitude[-1] - latitude[-2] + 1e-6
        outside = ((wanted < latitude[0]) & ~south) | ((wanted > latitude[-1]) & ~north)
        self._rows = lower, upper, np.where(outside, np.nan, weight)
        wrapped = np.concatenate([source.longitude, [source.longitude[0] + 360]])
        beyond = np.where(target.longitude < source.longitude[0], target.longitude + 360, target.longitude)
        left, right, share = _neighbours(wrapped, beyond)
        self._columns = left % len(source.longitude), right % len(source.longitude), share

    def __call__(self, field: np.ndarray) -> np.ndarray:
        between = _interpolated(field.astype(np.float64).T, *self._rows).T
        return _interpolated(between, *self._columns)


def _neighbours(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The source points on either side of each target point within, and the weight of the second."""
    right = np.clip(np.searchsorted(source, target, side="right"), 1, len(source) - 1)
    return right - 1, right, (target - source[right - 1]) / (source[right] - source[right - 1])


def _interpolated(values: np.ndarray, left: np.ndarray, right: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Along the last axis."""
    return values[:, left] * (1 - share) + values[:, right] * share


class _Nearest:
    """The value at the nearest point on the sphere; which of several equally near ones is not defined."""

    def __init__(self, source: Grid, target: Grid) -> None:
        _, self._indices = KDTree(_on_sphere(source)).query(_on_sphere(target))
        self._shape = target.shape

    def __call__(self, field: np.ndarray) -> np.ndarray:
        return field.ravel()[self._indices].reshape(self._shape)


def _on_sphere(grid: Grid) -> np.ndarray:
    """Unit vectors of all points, [lat * lon, 3]; their chords order them as their great circles do."""
    latitude, longitude = np.meshgrid(np.deg2rad(grid.latitude), np.deg2rad(grid.longitude), indexing="ij")
    x, y = np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude)
    return np.stack([x, y, np.sin(latitude)], axis=-1).reshape(-1, 3)
