"""An idealised Replay store with forecasts of known quality, small enough to score in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.data import prepare
from graphufs.steps import never_stop, no_progress
from graphufs.storage.paths import Paths
from graphufs.vocabulary.variables import weatherbench_name

LATITUDE = np.array([80.5, 57.5, 34.5, 11.5, -11.5, -34.5, -57.5, -80.5])
LONGITUDE = np.arange(16) * 22.5
NATIVE = np.array([97.8232650756836, 505.6520690917969, 998.7807006835938], np.float32)
CHANNELS = (("pressfc", None), ("tmp", 500.0), ("tmp", 1000.0), ("ugrd10m", None))
SCALES = {"pressfc": (9.9e4, 900.0), "tmp": (270.0, 3.0), "ugrd10m": (2.0, 4.0)}


def experiment(source: Path, **overrides: Any) -> Experiment:
    """An experiment on the store: the first months of 1994 to train, those of 1995 to evaluate."""
    settings = [f"{key}={value}" for key, value in overrides.items()]
    text = f"""
name: idealised
data:
  source: {{url: {source}}}
  inputs: [pressfc, tmp, ugrd10m, land_static]
  targets: [pressfc, tmp, ugrd10m]
  levels: [500, 1000]
  training: {{start: 1994-01-01T00, end: 1994-04-30T18}}
  evaluation: {{start: 1995-01-01T00, end: 1995-03-31T18}}
  validation: {{start: 1995-06-01T00, end: 1995-06-02T18}}
training:
  batch_size: 2
  stages: [{{name: only, updates: 5}}]
forecast: {{every: 30h, lead_time: 240h}}
"""
    return loading.parse(text, settings)


def fields(stamps: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """Replay variables, float32 [time, (level), lat, lon]: the seasons, the day, and waves that come and go."""
    rng = np.random.default_rng(seed)
    days = (stamps - np.datetime64("1994-01-01")) / np.timedelta64(1, "D")
    season = np.cos(2 * np.pi * days / 365.25)[:, None, None] * np.sin(np.deg2rad(LATITUDE))[:, None]
    local = days[:, None, None] + LONGITUDE / 360
    daily = 0.3 * np.sin(2 * np.pi * local) * np.cos(np.deg2rad(LATITUDE))[:, None]

    def weather() -> np.ndarray:
        total = np.zeros((len(stamps), len(LATITUDE), len(LONGITUDE)))
        for wavenumber in (1, 2, 3, 5):
            shape = rng.normal(size=(2, 1, len(LATITUDE), 1))
            angle = np.deg2rad(wavenumber * LONGITUDE) - days[:, None, None] * rng.uniform(0.3, 1.2)
            slow = red_noise(rng, len(stamps), decay=0.96)[:, None, None]
            total += slow * (shape[0] * np.cos(angle) + shape[1] * np.sin(angle))
        return total / 2.5

    def field(name: str, level: int) -> np.ndarray:
        mean, scale = SCALES[name]
        return (mean - 5 * level + scale * (2 * season + daily + weather())).astype(np.float32)

    return {
        "pressfc": field("pressfc", 0),
        "tmp": np.stack([field("tmp", level) for level in range(3)], axis=1),
        "ugrd10m": field("ugrd10m", 0),
    }


def red_noise(rng: np.random.Generator, count: int, decay: float) -> np.ndarray:
    """A first-order autoregression of unit variance."""
    noise = rng.normal(size=count) * np.sqrt(1 - decay**2)
    noise[0] = rng.normal()
    for index in range(1, count):
        noise[index] += decay * noise[index - 1]
    return noise


def write_source(path: Path, stamps: np.ndarray, flawed: tuple[str, ...] = (), missing: tuple[str, ...] = ()) -> None:
    """Write a Replay store; `tmp` is NaN at `flawed` stamps, and `missing` ones are left out."""
    data = fields(stamps)
    data["tmp"][np.isin(stamps, np.array(flawed, "datetime64[ns]"))] = np.nan
    land = (np.cos(np.deg2rad(LONGITUDE)) > 0.2) & (np.abs(LATITUDE) < 70)[:, None]
    horizontal = ("grid_yt", "grid_xt")
    dataset = xr.Dataset(
        {
            "pressfc": (("time", *horizontal), data["pressfc"], {"units": "Pa", "long_name": "surface pressure"}),
            "tmp": (("time", "pfull", *horizontal), data["tmp"], {"units": "K", "long_name": "temperature"}),
            "ugrd10m": (("time", *horizontal), data["ugrd10m"], {"units": "m/s", "long_name": "zonal wind"}),
            "land_static": (horizontal, land.astype(np.int32)),
        },
        {"time": stamps, "pfull": NATIVE, "grid_yt": LATITUDE, "grid_xt": LONGITUDE},
    )
    keep = ~np.isin(stamps, np.array(missing, "datetime64[ns]"))
    dataset.isel(time=keep).chunk({"time": 500}).to_zarr(path, zarr_format=2, consolidated=True)


def period(start: str, end: str) -> np.ndarray:
    """Six-hourly stamps, both ends included."""
    step = np.timedelta64(6, "h")
    return np.arange(np.datetime64(start, "ns"), np.datetime64(end, "ns") + step, step)


ALL_STAMPS = np.concatenate(
    [
        period("1994-01-01T00", "1994-04-30T18"),
        period("1995-01-01T00", "1995-03-31T18"),
        period("1995-06-01T00", "1995-06-02T18"),
    ]
)


def prepared_root(folder: Path, **flaws: Any) -> tuple[Experiment, Path]:
    """A root with prepared data."""
    source, root = folder / "source.zarr", folder / "root"
    write_source(source, ALL_STAMPS, **flaws)
    made = experiment(source)
    prepare.run(made, root, progress=no_progress, should_stop=never_stop)
    return made, root


def write_forecasts(experiment: Experiment, root: Path, error: float = 0.3, seed: int = 1, drift: float = 0.0) -> None:
    """Write forecasts whose error's standard deviation grows by `error` a day, in units of a channel's scale.

    `drift` is a systematic error a day in the same units.
    """
    rng = np.random.default_rng(seed)
    path = Paths(experiment, root).forecasts
    times = np.array(experiment.initial_times, "datetime64[ns]")
    steps = experiment.forecast.lead_time // experiment.data.time_step
    leads = np.arange(1, steps + 1) * np.timedelta64(6, "h").astype("timedelta64[ns]")
    stamps, truth = ALL_STAMPS, fields(ALL_STAMPS)
    where = np.searchsorted(stamps, times[:, None] + leads)
    growth = (leads / np.timedelta64(1, "D"))[:, None, None]
    variables = {}
    for name in experiment.data.targets:
        units = {"pressfc": "Pa", "tmp": "K"}.get(name, "m s-1")
        values = truth[name][where]
        values = values[:, :, 1:] if name == "tmp" else values[:, :, None]
        pattern = rng.normal(size=(len(times), 1, values.shape[2], *values.shape[3:]))  # grows, does not flicker
        added = (error * pattern + drift) * growth[:, None] * SCALES[name][1] / 4
        values = (values + added).astype(np.float32)
        dims = ("time", "prediction_timedelta", "level", "latitude", "longitude")
        if name != "tmp":
            values, dims = values[:, :, 0], tuple(dim for dim in dims if dim != "level")
        variables[weatherbench_name(name)] = (dims, values, {"units": units, "vertical": "native model layers"})
    dataset = xr.Dataset(
        variables,
        {
            "time": times,
            "prediction_timedelta": leads,
            "level": np.array([500, 1000]),
            "latitude": LATITUDE,
            "longitude": LONGITUDE,
        },
    )
    encoding = {name: {"chunks": (1, *array.shape[1:])} for name, array in dataset.data_vars.items()}
    encoding["prediction_timedelta"] = {"units": "hours", "dtype": "int64"}
    dataset.to_zarr(path, zarr_format=2, consolidated=True, encoding=encoding, mode="w")


def write_metrics(experiment: Experiment, root: Path) -> None:
    """Write a training log like the trainer's."""
    path = Paths(experiment, root).metrics
    path.parent.mkdir(parents=True, exist_ok=True)
    lines: list[dict[str, Any]] = []
    for update in range(1, 401):
        stage = "one-step" if update <= 300 else "rollout"
        loss = 0.1 + np.exp(-update / 60) * (1 + 0.1 * np.sin(update))
        event = {"event": "update", "stage": stage, "update": update, "loss": loss, "learning_rate": 1e-3}
        lines.append(event | {"samples_per_second": 20.0, "waiting": 0.01})
        if update % 100 == 0:
            lines.append({"event": "validation", "update": update, "loss": loss * 1.1})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
