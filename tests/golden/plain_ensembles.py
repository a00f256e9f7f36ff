"""A golden set of ensembles made here, by the formulas and plain numpy in double precision: none of the project's code.

It has what set A does not: another grid, the member dimension first and the others in any order, members that are
missing, a single member. All values are eighths, so that float32 holds them and their sums exactly, and many are equal.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

LATITUDE, LONGITUDE = np.linspace(-90, 90, 9), np.arange(12) * 30.0
TIMES = np.array(["2021-03-01T00", "2021-03-02T12"], "datetime64[ns]")
LEADS = np.array([6, 30], "timedelta64[h]").astype("timedelta64[ns]")
LEVELS, QUANTILES = [500], [0.1, 0.5, 0.9]
REGIONS = {
    "global": lambda lat, lon: np.ones_like(lat),
    "tropics": lambda lat, lon: np.abs(lat) <= 20,
    "extra-tropics": lambda lat, lon: np.abs(lat) >= 20,
    "europe": lambda lat, lon: (lat >= 35) & (lat <= 75) & ((lon >= 347.5) | (lon <= 42.5)),
}
VARIABLES = ("2m_temperature", "geopotential")
Scores = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """What a set has that another has not."""

    members: int
    missing: bool = False
    """Whether one member is missing altogether at the first time, and others at a point."""


def eighths(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Values of which many are equal, float64."""
    return rng.integers(2200, 2240, shape) / 8


def make_set(folder: Path, name: str, case: Case) -> None:
    """Write the set's stores and official results."""
    rng = np.random.default_rng(case.members)
    rows, columns = len(LATITUDE), len(LONGITUDE)
    x = {key: eighths(rng, case.members, len(TIMES), len(LEADS), rows, columns) for key in VARIABLES}
    if case.missing:
        x["2m_temperature"][1, 0] = np.nan  # a whole member
        x["geopotential"][0, 1, 0, 4, 3] = np.nan  # in the tropics, on one day
    stamps = np.unique(TIMES[:, None] + LEADS)
    truth = {key: eighths(rng, len(stamps), rows, columns) for key in VARIABLES}
    land = rng.integers(0, 9, (rows, columns)) / 8
    hours, days = np.arange(0, 24, 6), np.arange(58, 66)
    mean = {key: eighths(rng, len(hours), len(days), rows, columns) for key in VARIABLES}
    std = {key: 1 + rng.integers(0, 4, mean[key].shape) / 4 for key in VARIABLES}
    limits = {key: np.stack([mean[key] + shift for shift in (-1.5, 0, 1.5)]) for key in VARIABLES}
    place = np.searchsorted(stamps, TIMES[:, None] + LEADS)
    valid = (TIMES[:, None] + LEADS).astype("datetime64[h]")
    hour = (valid - valid.astype("datetime64[D]")).astype(int) // 6
    day = (valid.astype("datetime64[D]") - valid.astype("datetime64[Y]")).astype(int) + 1 - days[0]

    def dims(key: str, *leading: str) -> list[str]:
        return [*leading, *(["level"] if key == "geopotential" else []), "latitude", "longitude"]

    def field(key: str, values: np.ndarray, *leading: str) -> tuple[list[str], np.ndarray]:
        return dims(key, *leading), np.expand_dims(values, -3) if key == "geopotential" else values

    horizontal = {"level": LEVELS, "latitude": LATITUDE, "longitude": LONGITUDE}
    ens = {key: field(key, x[key], "number", "time", "prediction_timedelta") for key in VARIABLES}
    lead = {"time": TIMES, "prediction_timedelta": LEADS}
    store = xr.Dataset(ens, {"number": np.arange(case.members), **lead, **horizontal})
    order = ("number", "longitude", "level", "prediction_timedelta", "latitude", "time")
    write(folder, f"{name}_ens", store.transpose(*order))
    observed = xr.Dataset({key: field(key, truth[key], "time") for key in VARIABLES}, {"time": stamps, **horizontal})
    write(folder, f"{name}_obs", observed.assign(land_sea_mask=(("latitude", "longitude"), land)))
    climate: dict[str, Any] = {}
    for key in VARIABLES:
        climate[key] = field(key, mean[key], "hour", "dayofyear")
        climate[f"{key}_std"] = field(key, std[key], "hour", "dayofyear")
        climate[f"{key}_quantile"] = field(key, limits[key], "quantile", "hour", "dayofyear")
    axes = {"hour": hours, "dayofyear": days, "quantile": QUANTILES, **horizontal}
    write(folder, f"{name}_clim_ens", xr.Dataset(climate, axes))

    lat, lon = np.meshgrid(LATITUDE, LONGITUDE, indexing="ij")
    bounds = np.concatenate([[-np.pi / 2], np.deg2rad(LATITUDE[1:] + LATITUDE[:-1]) / 2, [np.pi / 2]])
    area = np.diff(np.sin(bounds))[:, None] * np.ones(columns)
    weights = [area * inside(lat, lon) for inside in REGIONS.values()] + [area * land]
    regions = [*REGIONS, "global_land"]

    def average(fields: np.ndarray) -> np.ndarray:
        """The means over regions, [region, ...], of [..., lat, lon]; points without weight do not matter."""
        return np.stack([(np.where(w > 0, fields, 0) * w).sum(axis=(-2, -1)) / w.sum() for w in weights])

    def result(kind: str, scores: Callable[[str], Scores], *more: str, labels: dict[str, Any] | None = None) -> None:
        """Write scores [region, (quantile,) lead] by metric."""
        variables = {}
        for key in VARIABLES:
            found = scores(key)
            values = np.stack(list(found.values()))
            level = ["level"] if key == "geopotential" else []
            variables[key] = (["metric", "region", *more, "lead_time", *level], values[..., None] if level else values)
        known = {"metric": list(found), "region": regions, "lead_time": LEADS, "level": LEVELS, **(labels or {})}
        xr.Dataset(variables, known, {"ensemble_size": case.members}).to_netcdf(folder / f"{name}_{kind}.nc")

    def at(values: np.ndarray) -> np.ndarray:
        """A climatology's [..., hour, day, lat, lon] at the valid times, [..., time, lead, lat, lon]."""
        return values[..., hour, day, :, :]

    def pointwise(key: str) -> Scores:
        return of_members(x[key], truth[key][place])

    def probabilistic(key: str) -> Scores:
        found = {metric: average(values).mean(axis=1) for metric, values in pointwise(key).items()}
        y = truth[key][place]
        norms = np.sqrt(average((x[key] - y) ** 2))  # [region, member, time, lead]
        pairs = np.sqrt(average((x[key][1:] - x[key][:-1]) ** 2))
        skill = norms.mean(axis=1).mean(axis=1)
        spread = pairs.mean(axis=1).mean(axis=1) if case.members > 1 else np.zeros_like(skill)
        root = {
            f"{metric}_sqrt_before_time_avg": np.sqrt(average(pointwise(key)[of])).mean(axis=1)
            for metric, of in (("ensemble_mean_rmse", "ensemble_mean_mse"), ("ensemble_stddev", "ensemble_variance"))
        }
        energy = {"energy_score": skill - spread / 2, "energy_score_skill": skill, "energy_score_spread": spread}
        return found | energy | root

    def binary(thresholds: dict[str, np.ndarray]) -> Callable[[str], Scores]:
        def scores(key: str) -> Scores:
            parts = [at_threshold(x[key], truth[key][place], limit) for limit in at(thresholds[key])]
            return {
                metric: np.stack([average(part[metric]).mean(axis=1) for part in parts], axis=1) for metric in parts[0]
            }

        return scores

    def rps(key: str) -> Scores:
        y = truth[key][place]
        total = sum(((x[key] < limit).mean(axis=0) - (y < limit)) ** 2 for limit in at(limits[key]))
        return {"rps": average(np.asarray(total)).mean(axis=1)}

    normal = {
        key: np.stack([mean[key] + stats.norm.ppf(q) * std[key] for q in (QUANTILES[0], QUANTILES[-1])])
        for key in VARIABLES
    }
    result("probabilistic", probabilistic)
    result("binary_quantile", binary(limits), "quantile", labels={"quantile": QUANTILES})
    ends = {"quantile": [QUANTILES[0], QUANTILES[-1]]}
    result("binary_gaussian_quantile", binary(normal), "quantile", labels=ends)
    result("rps", rps)
    maps: dict[str, Any] = {}
    ranks: dict[str, Any] = {}
    central: dict[str, Any] = {}
    for key in VARIABLES:
        found = pointwise(key)
        level = ["level"] if key == "geopotential" else []
        stacked = np.stack([values.mean(axis=0) for values in found.values()])
        spatial = ["metric", "lead_time", *level, "latitude", "longitude"]
        maps[key] = (spatial, stacked[:, :, None] if level else stacked)
        rank = (x[key] < truth[key][place]).sum(axis=0)  # the lowest that ties allow; NaN is above all
        histogram = np.eye(case.members + 1)[rank].mean(axis=0)
        shown = histogram[None, :, None] if level else histogram[None]
        ranks[key] = ([*spatial, "bins"], shown)
        whole = histogram.mean(axis=(1, 2))
        bins, half = case.members + 1, (case.members + 1) // 2
        intervals = [whole[:, half - k - 1 : bins - half + k + 1].sum(axis=1) for k in range(half)]
        middle = [whole[:, half]] if bins % 2 else []
        values = np.stack([*middle, *intervals], axis=-1)
        central[key] = (["lead_time", *level, "desired_prob"], values[:, None] if level else values)
    labels = {"lead_time": LEADS, **horizontal}
    metric = {"metric": list(found)}
    xr.Dataset(maps, {**metric, **labels}).to_netcdf(folder / f"{name}_probabilistic_spatial.nc")
    xr.Dataset(ranks, {"metric": ["rank_histogram"], **labels, "bins": np.arange(case.members + 1)}).to_netcdf(
        folder / f"{name}_rank_histogram_noties.nc"
    )
    if case.members > 1:
        width = np.cumsum([1.0] * (bins % 2) + [2.0] * half) / bins
        xr.Dataset(central, {"lead_time": LEADS, "level": LEVELS, "desired_prob": width}).to_netcdf(
            folder / f"{name}_central_reliability.nc"
        )


def of_members(x: np.ndarray, y: np.ndarray) -> Scores:
    """Scores at each point, [time, lead, lat, lon], of members [member, ...] by WeatherBench2's rules for NaN."""
    size = len(x)
    skill = np.abs(x - y).mean(axis=0)
    error = (y - x.mean(axis=0)) ** 2
    if size == 1:
        spread = variance = np.zeros_like(y)
        unbiased = np.full_like(y, np.nan)
    else:
        spread = np.abs(x[:, None] - x[None]).sum(axis=(0, 1)) / (size * (size - 1))
        variance = ((x - x.mean(axis=0)) ** 2).sum(axis=0) / (size - 1)
        unbiased = error - variance / size
    return {
        "crps": skill - spread / 2,
        "crps_skill": skill,
        "crps_spread": spread,
        "debiased_ensemble_mean_mse": unbiased,
        "ensemble_mean_mse": error,
        "ensemble_variance": variance,
    }


def at_threshold(x: np.ndarray, y: np.ndarray, limit: np.ndarray) -> Scores:
    """Scores of an event at each point; a missing member makes Brier scores NaN, and is no event in ignorance."""
    event = (y > limit).astype(np.float64)
    over = np.where(np.isnan(x), np.nan, (x > limit).astype(np.float64))
    chance = over.mean(axis=0)
    brier = (chance - event) ** 2
    size = len(x)
    with np.errstate(divide="ignore"):
        debiased = brier - chance * (1 - chance) / (size - 1) if size > 1 else np.full_like(brier, np.nan)
        share = (x > limit).mean(axis=0)
        ignorance = -np.log(np.where(event == 1, share, 1 - share))
    return {"brier_score": brier, "debiased_brier_score": debiased, "ignorance_score": ignorance}


def write(folder: Path, name: str, dataset: xr.Dataset) -> None:
    """Write a dataset as float32 into a zipped store."""
    with TemporaryDirectory() as store:
        dataset.astype(np.float32).to_zarr(store, zarr_format=2, consolidated=False)
        shutil.make_archive(str(folder / f"{name}.zarr"), "zip", store)
