"""Regions as fields of 0 and 1, or of the fraction of land."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import xarray as xr

Slices = slice | list[slice]


def _within(values: xr.DataArray, slices: Slices) -> xr.DataArray:
    found = xr.zeros_like(values, bool)
    for one in slices if isinstance(slices, list) else [slices]:
        low = -np.inf if one.start is None else one.start
        high = np.inf if one.stop is None else one.stop
        found |= (values >= low) & (values <= high)
    return found


@dataclass
class SliceRegion:
    lat_slice: Slices = field(default_factory=lambda: slice(None))
    lon_slice: Slices = field(default_factory=lambda: slice(None))

    def weight(self, area: xr.DataArray, longitude: xr.DataArray) -> xr.DataArray:
        rows = area.where(_within(area["latitude"], self.lat_slice), 0)
        return rows * _within(longitude, self.lon_slice)


@dataclass
class LandRegion:
    land_sea_mask: xr.DataArray

    def weight(self, area: xr.DataArray, longitude: xr.DataArray) -> xr.DataArray:
        return area * self.land_sea_mask


@dataclass
class CombinedRegion:
    regions: list[SliceRegion | LandRegion]

    def weight(self, area: xr.DataArray, longitude: xr.DataArray) -> xr.DataArray:
        for region in self.regions:
            area = region.weight(area, longitude)
        return area
