"""Fields as one row of cells, each with its latitude and longitude: the grid that these make, if they make one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from graphufs.errors import UserError


class CellGrid(NamedTuple):
    """Latitudes [lat] rising, longitudes [lon] rising, and which cell lies where, int64 [lat, lon]."""

    latitude: np.ndarray
    longitude: np.ndarray
    cells: np.ndarray


def grid_of_cells(latitude: np.ndarray, longitude: np.ndarray, where: str) -> CellGrid:
    """The grid of cells at latitudes [cell] and longitudes [cell], in whatever order; `where` is their store.

    Raises
    ------
    UserError
        If the cells are not all crossings of some latitudes with some longitudes, once each.
    """
    rows, row = np.unique(np.asarray(latitude, np.float64).ravel(), return_inverse=True)
    columns, column = np.unique(np.asarray(longitude, np.float64).ravel(), return_inverse=True)
    cells = np.full((rows.size, columns.size) if rows.size * columns.size == row.size == column.size else (0, 0), -1)
    if cells.size:
        cells[row, column] = np.arange(row.size)
    if not cells.size or (cells < 0).any():
        raise UserError(
            f"the {row.size} cells of {where} are no grid of latitudes and longitudes, as those of a reduced Gaussian "
            "grid are not; bring the fields to a regular grid, such as one degree, where the store is made"
        )
    return CellGrid(rows, columns, cells)
