"""The embedded world's geography: a coarse true land fraction and smooth, hand-placed mountain ranges.

NumPy only. Arguments are in degrees, heights in metres; arrays broadcast against each other.
"""

from __future__ import annotations

import functools
from importlib import resources
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

LAND_FILE = "land_128x64.txt"
"""The land fraction in fifteenths, a hexadecimal digit a cell: 0 is all sea, f all land. A line is a latitude, from
88.59375 S northwards every 2.8125 degrees; a digit is a longitude, from Greenwich eastwards every 2.8125 degrees.
Averaged once from the land mask of GLOBE (NOAA National Geophysical Data Center, 1999, public domain)."""


class Range(NamedTuple):
    """A Gaussian mountain range: centre and e-folding half widths in degrees, height in metres."""

    longitude: float
    latitude: float
    width: float
    breadth: float
    height: float


RANGES = (
    Range(85, 33, 24, 9, 4200),  # Tibet
    Range(255, 41, 12, 14, 2000),  # Rocky Mountains
    Range(240, 58, 10, 8, 1200),  # Canadian Rockies
    Range(262, 22, 5, 7, 1500),  # Sierra Madre
    Range(291, -22, 6, 20, 2600),  # Andes
    Range(312, -15, 12, 9, 700),  # Brazilian highlands
    Range(318, 73, 16, 9, 2500),  # Greenland
    Range(85, -82, 80, 12, 2600),  # East Antarctica
    Range(37, 2, 8, 16, 1300),  # East Africa
    Range(24, -27, 9, 9, 1100),  # South Africa
    Range(0, 32, 9, 4, 1000),  # Atlas
    Range(12, 46, 7, 3, 1200),  # Alps
    Range(52, 33, 12, 6, 1300),  # Iran
    Range(105, 52, 22, 8, 1300),  # Mongolia
    Range(133, -25, 15, 9, 300),  # Australia
)


@functools.lru_cache(maxsize=1)
def _land_map() -> NDArray[np.float64]:
    """Land fraction [64 latitudes from the south, 128 longitudes]."""
    text = (resources.files(__package__) / LAND_FILE).read_text("utf-8")
    return np.array([[int(digit, 16) for digit in line] for line in text.split()]) / 15.0


def land_fraction(longitude: ArrayLike, latitude: ArrayLike) -> NDArray[np.float64]:
    """Fraction of land, 0 to 1, bilinear between the map's cell centres; degrees are broadcast."""
    land = _land_map()
    rows, columns = land.shape
    spacing = 180 / rows
    row = np.clip((np.asarray(latitude) + 90) / spacing - 0.5, 0, rows - 1)
    column = (np.asarray(longitude) % 360) / spacing
    south, west = np.floor(row).astype(int), np.floor(column).astype(int)
    north, east = np.minimum(south + 1, rows - 1), (west + 1) % columns
    north_weight, east_weight = row - south, column - west
    west = west % columns
    in_south = (1 - east_weight) * land[south, west] + east_weight * land[south, east]
    in_north = (1 - east_weight) * land[north, west] + east_weight * land[north, east]
    return np.asarray((1 - north_weight) * in_south + north_weight * in_north)


def mountains(longitude: ArrayLike, latitude: ArrayLike) -> NDArray[np.float64]:
    """Height [m] of the mountain ranges, a sum of Gaussians, lowered towards the coasts; degrees are broadcast."""
    longitude, latitude = np.broadcast_arrays(longitude, latitude)
    height = np.zeros(longitude.shape)
    for each in RANGES:
        eastward = (longitude - each.longitude + 180) % 360 - 180
        northward = latitude - each.latitude
        height += each.height * np.exp(-((eastward / each.width) ** 2) - (northward / each.breadth) ** 2)
    return height * np.sqrt(land_fraction(longitude, latitude))
