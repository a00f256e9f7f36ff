"""Area weights of a latitude-longitude grid, as WeatherBench2 and WeatherBench-X define them."""

from __future__ import annotations

import numpy as np

from graphufs.errors import UserError
from graphufs.vocabulary.conventions import DEFAULT, Convention


def latitude_weights(latitude: np.ndarray, convention: Convention = DEFAULT) -> np.ndarray:
    """Weight of each latitude row, proportional to its area on the sphere, with mean 1.

    With latitudes ascending, row k lies between the midpoints to its neighbours, b_k and b_{k+1}, and its weight is
    sin(b_{k+1}) - sin(b_k) over the mean of all rows. The first and last bounds are the poles whatever the grid
    (weatherbench2/metrics.py, `get_lat_weights`), or, with WeatherBench-X, half a cell beyond the last row but not
    beyond the poles. The two differ on Gaussian grids.

    Parameters
    ----------
    latitude
        [lat], degrees, ascending or descending.
    convention
        Whose weights.

    Returns
    -------
    np.ndarray
        float64 [lat], in the order of `latitude`.

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
