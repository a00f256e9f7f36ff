"""A latitude-longitude grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphufs.errors import UserError

TOLERANCE = 1e-3
"""Degrees by which the coordinates of two grids may differ and still be the same grid (as in WeatherBench2)."""


@dataclass(frozen=True)
class Grid:
    """A latitude-longitude grid in degrees, latitude ascending or descending, longitude from 0 to 360."""

    latitude: np.ndarray
    longitude: np.ndarray
    origin: str = "unchanged (no regridding)"
    """How fields came to lie on it."""

    @property
    def shape(self) -> tuple[int, int]:
        """The number of latitudes and of longitudes."""
        return len(self.latitude), len(self.longitude)

    @property
    def description(self) -> str:
        """The grid in a few words, as it is recorded with every score."""
        lat = self.latitude
        return f"{len(self.longitude)}x{len(lat)}, latitude {lat[0]:.4f} to {lat[-1]:.4f}, {self.origin}"

    def agrees(self, other: Grid) -> bool:
        """Whether the other grid is this one, its latitudes perhaps in the other order."""
        try:
            self.orientation(other, "")
        except UserError:
            return False
        return True

    def orientation(self, other: Grid, name: str) -> slice:
        """The slice that brings latitudes of fields on `other` into this grid's order.

        Raises
        ------
        UserError
            If the two are different grids.
        """
        if self.shape == other.shape:
            for order in (slice(None), slice(None, None, -1)):
                if np.allclose(self.latitude, other.latitude[order], rtol=0, atol=TOLERANCE) and np.allclose(
                    self.longitude, other.longitude, rtol=0, atol=TOLERANCE
                ):
                    return order
        raise UserError(
            f"{name} lies on another grid ({_outline(other)}) than the forecasts ({_outline(self)}); "
            "name a grid to bring all of them to, such as 64x32"
        )


def _outline(grid: Grid) -> str:
    lat, lon = grid.latitude, grid.longitude
    return f"{len(lon)}x{len(lat)}, latitude {lat[0]:g}..{lat[-1]:g}, longitude {lon[0]:g}..{lon[-1]:g}"
