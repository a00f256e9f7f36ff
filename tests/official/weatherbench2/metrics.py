"""Metrics of forecasts (init_time or time, lead_time, ...) with their truth on the same dimensions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

PLACE = ("latitude", "longitude")


def spatial_mean(values: Any, region: Any, skipna: bool) -> Any:
    radians = np.deg2rad(values["latitude"].values.astype(np.float64))
    bounds = np.concatenate([[-np.pi / 2], (radians[1:] + radians[:-1]) / 2, [np.pi / 2]])
    area = xr.DataArray(np.diff(np.sin(bounds)), {"latitude": values["latitude"]})
    weight = area * xr.ones_like(values["longitude"], float)
    if region is not None:
        weight = region.weight(weight, values["longitude"])
    values = values.astype(np.float64).where(weight > 0, 0.0)
    there = values.notnull() if skipna else 1.0
    total = (values * weight).sum(PLACE, skipna=skipna)
    return total / (weight * there).sum(PLACE)


def at_valid_time(climatology: xr.Dataset, like: xr.Dataset) -> xr.Dataset:
    times = like["valid_time"] if "valid_time" in like.coords else like["time"]
    chosen = climatology.sel(hour=times.dt.hour, dayofyear=times.dt.dayofyear)
    if "level" in like.dims and "level" in chosen.dims:
        chosen = chosen.sel(level=like["level"])
    return chosen.drop_vars(["hour", "dayofyear"])


class Metric:
    def of_each(self, forecast: xr.Dataset, truth: xr.Dataset, region: Any, skipna: bool) -> xr.Dataset:
        raise NotImplementedError

    def compute(self, forecast: xr.Dataset, truth: xr.Dataset, region: Any = None, skipna: bool = False) -> xr.Dataset:
        dimension = "init_time" if "init_time" in forecast.dims else "time"
        return self.of_each(forecast, truth, region, skipna).mean(dimension, skipna=skipna)


@dataclass
class WindVectorMSE:
    u_name: str
    v_name: str
    vector_name: str


@dataclass
class MSE(Metric):
    wind_vector_mse: list[WindVectorMSE] = field(default_factory=list)

    def of_each(self, forecast: xr.Dataset, truth: xr.Dataset, region: Any, skipna: bool) -> xr.Dataset:
        squares = (forecast - truth) ** 2
        for vector in self.wind_vector_mse:
            squares[vector.vector_name] = squares[vector.u_name] + squares[vector.v_name]
        return spatial_mean(squares, region, skipna)


class MAE(Metric):
    def of_each(self, forecast: xr.Dataset, truth: xr.Dataset, region: Any, skipna: bool) -> xr.Dataset:
        return spatial_mean(abs(forecast - truth), region, skipna)


class Bias(Metric):
    def of_each(self, forecast: xr.Dataset, truth: xr.Dataset, region: Any, skipna: bool) -> xr.Dataset:
        return spatial_mean(forecast - truth, region, skipna)


@dataclass
class ACC(Metric):
    climatology: xr.Dataset

    def of_each(self, forecast: xr.Dataset, truth: xr.Dataset, region: Any, skipna: bool) -> xr.Dataset:
        names = {name: name if name in self.climatology else f"{name}_mean" for name in map(str, truth)}
        normal = at_valid_time(xr.Dataset({name: self.climatology[other] for name, other in names.items()}), forecast)
        f, o = forecast - normal, truth - normal
        norm = spatial_mean(f**2, region, skipna) * spatial_mean(o**2, region, skipna)
        return spatial_mean(f * o, region, skipna) / norm**0.5


@dataclass
class SEEPS(Metric):
    climatology: xr.Dataset
    precip_name: str
    dry_threshold_mm: float

    def of_each(self, forecast: xr.Dataset, truth: xr.Dataset, region: Any, skipna: bool) -> xr.Dataset:
        name, dry = self.precip_name, self.dry_threshold_mm / 1000
        p = self.climatology[f"{name}_seeps_dry_fraction"].mean(["hour", "dayofyear"]).astype(np.float64)
        heavy = at_valid_time(self.climatology[[f"{name}_seeps_threshold"]], forecast)[f"{name}_seeps_threshold"]
        f, o = ([x[name] < dry, (x[name] > dry) & (x[name] < heavy), x[name] >= heavy] for x in (forecast, truth))
        cost = {
            (0, 1): 1 / (1 - p),
            (0, 2): 4 / (1 - p),
            (1, 0): 1 / p,
            (1, 2): 3 / (1 - p),
            (2, 0): 1 / p + 3 / (2 + p),
            (2, 1): 3 / (2 + p),
        }
        score = sum(price * f[row] * o[column] / 2 for (row, column), price in cost.items())
        valid = (p > 0.1) & (p < 0.85) & forecast[name].notnull() & truth[name].notnull()
        return spatial_mean(xr.Dataset({name: score.where(valid)}), region, skipna=True)  # type: ignore[union-attr]
