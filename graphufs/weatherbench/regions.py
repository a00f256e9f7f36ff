"""The regions scores are averaged over: WeatherBench2's boxes, WeatherBench-X's, and their land versions."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import NamedTuple

import numpy as np

from graphufs.errors import UserError
from graphufs.weatherbench.conventions import DEFAULT, Convention
from graphufs.weatherbench.weights import cell_weights

LAND = "_land"
"""The ending of a land version's name."""


class Box(NamedTuple):
    """A box in degrees, its borders included. A box from 345 to 15 degrees east reaches over the meridian."""

    south: float = -90.0
    north: float = 90.0
    west: float = 0.0
    east: float = 360.0

    def contains(self, latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
        """Where the points of a grid lie within, bool [lat, lon]."""
        rows = (latitude >= self.south) & (latitude <= self.north)
        after, before = longitude >= self.west, longitude <= self.east
        columns = after & before if self.west <= self.east else after | before
        return rows[:, None] & columns


_SHARED: dict[str, tuple[Box, ...]] = {
    "global": (Box(),),
    "tropics": (Box(-20, 20),),
    "northern-hemisphere": (Box(20, 90),),
    "southern-hemisphere": (Box(-90, -20),),
    "europe": (Box(35, 75, 347.5, 42.5),),
    "north-america": (Box(25, 60, 240, 285),),
    "north-atlantic": (Box(25, 65, 290, 350),),
    "north-pacific": (Box(25, 60, 145, 230),),
    "east-asia": (Box(25, 60, 102.5, 150),),
    "ausnz": (Box(-45, -12.5, 120, 175),),
    "arctic": (Box(60, 90),),
    "antarctic": (Box(-90, -60),),
}

REGIONS: dict[Convention, dict[str, tuple[Box, ...]]] = {
    "WeatherBench2": _SHARED | {"extra-tropics": (Box(-90, -20), Box(20, 90))},
    "WeatherBench-X": _SHARED
    | {
        "northern-africa": (Box(5, 32.5, 347.5, 37.5),),
        "southern-africa": (Box(-30, 5, 12.5, 37.5),),
        "south-america": (Box(-40, 5, 285, 315),),
        "west-asia": (Box(15, 60, 42.5, 102.5),),
        "south-east-asia": (Box(-12.5, 25, 95, 125),),
    },
}
"""The boxes of each region; a region is their union (weatherbench2/config of evaluate.py; WeatherBench-X's
public_benchmark). Every name also stands for a land version with the ending `_land`."""


def all_regions(convention: Convention = DEFAULT, *, land: bool = True) -> tuple[str, ...]:
    """The names of all regions, land versions last; without these if `land` is False."""
    names = tuple(REGIONS[convention])
    return names + tuple(name + LAND for name in names) if land else names


def check_regions(names: Sequence[str], convention: Convention = DEFAULT) -> None:
    """Check that all names are known.

    Raises
    ------
    UserError
        If one is not, naming the nearest one, or if a name comes twice.
    """
    known = all_regions(convention)
    for position, name in enumerate(names):
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise UserError(
                f"there is no region {name} in {convention}{hint}; known are {', '.join(REGIONS[convention])}, each "
                f"also with the ending {LAND}"
            )
        if name in names[:position]:
            raise UserError(f"the region {name} is named more than once")


def region_weights(
    latitude: np.ndarray,
    longitude: np.ndarray,
    names: Sequence[str],
    *,
    land_sea_mask: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    convention: Convention = DEFAULT,
) -> np.ndarray:
    """Weights of all grid points for each region.

    Parameters
    ----------
    latitude, longitude
        Degrees; longitude from 0 to 360.
    names
        The regions.
    land_sea_mask
        The fraction of land, [lat, lon], for land versions. WeatherBench2 multiplies weights by it; WeatherBench-X
        takes every point where it is above 0.
    mask
        bool [lat, lon]: points that are False have weight 0 in all regions.
    convention
        Whose regions, area weights and land versions.

    Returns
    -------
    np.ndarray
        float64 [region, lat, lon], at least 0. A region without a point on this grid has 0 throughout.

    Raises
    ------
    UserError
        If a region is unknown, or a land version is asked for without a usable land-sea mask.
    """
    check_regions(names, convention)
    area = cell_weights(latitude, len(longitude), mask, convention)
    weights = np.zeros((len(names), *area.shape))
    for position, name in enumerate(names):
        boxes = REGIONS[convention][name.removesuffix(LAND)]
        inside = np.any([box.contains(latitude, longitude) for box in boxes], axis=0)
        weights[position] = np.where(inside, area, 0.0)
        if name.endswith(LAND):
            weights[position] *= _land(land_sea_mask, area.shape, name, convention)
    return weights


def _land(fraction: np.ndarray | None, shape: tuple[int, ...], name: str, convention: Convention) -> np.ndarray:
    if fraction is None:
        raise UserError(
            f"the region {name} needs a land-sea mask; have land_sea_mask (latitude, longitude) in the truth, or leave "
            "the region out"
        )
    fraction = np.asarray(fraction, np.float64)
    if fraction.shape != shape:
        raise UserError(f"the land-sea mask has the shape {fraction.shape}, the grid {shape}; bring it to this grid")
    if not (np.nanmin(fraction) >= 0 and np.nanmax(fraction) <= 1) or np.isnan(fraction).any():
        raise UserError(
            f"the land-sea mask must hold fractions from 0 to 1, found {np.nanmin(fraction):g} to "
            f"{np.nanmax(fraction):g} and {int(np.isnan(fraction).sum())} NaN"
        )
    return (fraction > 0).astype(np.float64) if convention == "WeatherBench-X" else fraction
