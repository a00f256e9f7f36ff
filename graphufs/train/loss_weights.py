"""How much each row of latitude and each level counts in the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from graphufs.errors import UserError
from graphufs.replay.grid import TOLERANCE


def latitude_weights(latitude: np.ndarray, parent_latitude: np.ndarray | None = None) -> np.ndarray:
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

    Parameters
    ----------
    latitude : [lat], degrees, ascending or descending
    parent_latitude : the latitudes of the finer grid that `latitude` was picked from, or `latitude` itself. Each row
        then stands for the finer grid's row, as the picked ones do not lie symmetrically about the equator

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
        weights = latitude_weights(parent)[index]
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


def level_weights(levels: np.ndarray) -> np.ndarray:
    """P / mean(p), float64 [level]."""
    levels = np.asarray(levels, np.float64)
    return levels / levels.mean()


def channel_factors(
    settings: Mapping[str, Mapping[float, float]], levels: Mapping[str, Sequence[float]]
) -> dict[str, list[float]]:
    """Factors [level] by variable for `LossWeights.build`, 1 where none is set.

    Parameters
    ----------
    settings : factors by variable and wanted level, such as training.loss.channel_weights
    levels : the wanted levels by variable, in the channels' order

    Raises
    ------
    UserError
        If a variable has no such level.
    """
    for name, factors in settings.items():
        if strange := sorted(set(factors) - set(levels.get(name, ()))):
            there = ", ".join(f"{level:g}" for level in levels.get(name, ())) or "none"
            raise UserError(
                f"training.loss.channel_weights.{name} names level {', '.join(f'{level:g}' for level in strange)}, but "
                f"the levels of {name} are: {there}; training.loss.variable_weights weighs a variable as a whole"
            )
    return {name: [factors.get(level, 1.0) for level in levels[name]] for name, factors in settings.items()}
