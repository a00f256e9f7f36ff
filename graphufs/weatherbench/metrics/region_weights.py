"""The weights of the regions that scores are averaged over, land versions included."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphufs.errors import UserError
from graphufs.grid.areas import cell_weights
from graphufs.vocabulary.conventions import DEFAULT, Convention
from graphufs.vocabulary.regions import LAND, REGIONS, Box, check_regions


def contains(box: Box, latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Where the points of a grid lie within a box, bool [lat, lon]."""
    rows = (latitude >= box.south) & (latitude <= box.north)
    after, before = longitude >= box.west, longitude <= box.east
    columns = after & before if box.west <= box.east else after | before
    return rows[:, None] & columns


def region_weights(
    latitude: np.ndarray,
    longitude: np.ndarray,
    names: Sequence[str],
    *,
    land_sea_mask: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    convention: Convention = DEFAULT,
) -> np.ndarray:
    """Weights of all grid points for each region, float64 [region, lat, lon], at least 0.

    A region without a point on this grid has 0 throughout. Longitudes run from 0 to 360 degrees. `land_sea_mask` is the
    fraction of land, [lat, lon], for land versions: WeatherBench2 multiplies weights by it, WeatherBench-X takes every
    point where it is above 0. Points where `mask`, bool [lat, lon], is False have weight 0 in all regions.

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
        inside = np.any([contains(box, latitude, longitude) for box in boxes], axis=0)
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
    there = fraction[~np.isnan(fraction)]
    if there.size < fraction.size or there.min() < 0 or there.max() > 1:
        found = f"{there.min():g} to {there.max():g} and {fraction.size - there.size} NaN" if there.size else "only NaN"
        raise UserError(f"the land-sea mask must hold fractions from 0 to 1, found {found}")
    return (fraction > 0).astype(np.float64) if convention == "WeatherBench-X" else fraction
