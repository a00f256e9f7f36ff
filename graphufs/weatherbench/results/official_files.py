"""Results in the layout of the official tools, which plot them unchanged.

WeatherBench2: for each variable (metric, region, lead_time, [level]), or with init_time in front of lead_time.
WeatherBench-X: for each metric and variable `metric.variable` (lead_time, [level], region).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from graphufs.storage.atomic import replace_file
from graphufs.storage.zarr_io import time_encoding, write_zarr
from graphufs.vocabulary.conventions import DRY_METRES
from graphufs.weatherbench.inputs.channels import VECTORS, unpack
from graphufs.weatherbench.metrics.ensemble_metrics import ENSEMBLE_METRICS, split_quantile
from graphufs.weatherbench.scoring.score_state import ScoreState

SEEPS_NAMES = {name: f"seeps_{name.rsplit('_', 1)[1]}" for name in DRY_METRES}
"""WeatherBench2 has a SEEPS for each accumulation."""

WEATHERBENCH2_NAMES = {"gaussian_crps": "crps", "gaussian_variance": "ensemble_variance"}

WEATHERBENCH_X_NAMES = {
    "forecast_activity": "prediction_activity",
    "crps_biased": "crps_unfair",
    "spread_skill": "unbiased_spread_skill",
    "debiased_ensemble_mean_rmse": "unbiased_mean_rmse",
    "ensemble_mean_rmse": "mean_rmse",
    "ensemble_stddev": "root_mean_variance",
}

Part = Literal["deterministic", "probabilistic", "binary"]
"""Scores of single forecasts (of an ensemble, its mean), those of members, or those at thresholds."""


def _parts(scores: Mapping[str, np.ndarray], part: Part) -> dict[float | None, dict[str, np.ndarray]]:
    """The scores of a part by quantile, None where they have none, and by name."""
    found: dict[float | None, dict[str, np.ndarray]] = {}
    for name, values in scores.items():
        start, quantile = split_quantile(name)
        of: Part = (
            "binary" if quantile is not None else "probabilistic" if name in ENSEMBLE_METRICS else "deterministic"
        )
        if of == part:
            found.setdefault(quantile, {})[start] = values
    return dict(sorted(found.items(), key=lambda item: item[0] or 0.0))


def parts_of(state: ScoreState) -> list[Part]:
    """The parts that a state has scores of."""
    metrics = dict.fromkeys(state.axes.metrics, np.zeros(()))
    parts: tuple[Part, ...] = ("deterministic", "probabilistic", "binary")
    return [part for part in parts if _parts(metrics, part)]


def weatherbench2_results(
    state: ScoreState, *, by_initial_time: bool = False, by_valid: bool = False, part: Part = "deterministic"
) -> xr.Dataset:
    """The scores of a state as WeatherBench2 writes them; those at thresholds on the dimension quantile.

    With `by_initial_time` those of each initial time, on the dimension init_time, instead of their mean. With
    `by_valid` what the state knows as initial times are valid times, which lie on the dimension time.
    """
    scores = state.by_initial_time() if by_initial_time else state.finalize()
    made = []
    for quantile, own in _parts(scores, part).items():
        found = _weatherbench2(own, state, by_initial_time=by_initial_time, by_valid=by_valid)
        made.append(found if quantile is None else found.expand_dims(quantile=[quantile]))
    if part != "binary":
        return made[0]
    whole = xr.concat(made, "quantile", data_vars="minimal", join="exact", combine_attrs="override")
    return whole.transpose("metric", "region", "quantile", ...)


def _weatherbench2(
    scores: dict[str, np.ndarray], state: ScoreState, *, by_initial_time: bool, by_valid: bool
) -> xr.Dataset:
    axes = state.axes
    dimension = "time" if by_valid else "init_time"
    leading = [dimension] if by_initial_time else []
    dims = ["metric", "region", *leading, "lead_time", "channel"]
    if "seeps" in scores:
        seeps = scores.pop("seeps")
        for variable, name in SEEPS_NAMES.items():
            of_variable = np.array([channel.variable == variable for channel in axes.channels])
            if of_variable.any():
                scores[name] = np.where(of_variable[:, None], seeps, np.nan)
    scores = {WEATHERBENCH2_NAMES.get(name, name): values for name, values in scores.items()}
    names = sorted(scores)  # as xarray's merge, which the official code ends with, leaves them
    values = np.moveaxis(np.stack([scores[name] for name in names]), -1, 1)
    variables, level = unpack(values, axes.channels, dims)
    leads = np.array(axes.leads, "timedelta64[ns]")
    coordinates: dict[str, Any] = {"metric": names, "region": list(axes.regions), "lead_time": leads, **level}
    if by_initial_time:
        times = state.initial_times[:, None]
        other, values = ("init_time", times - leads) if by_valid else ("valid_time", times + leads)
        coordinates |= {dimension: times[:, 0], other: ((dimension, "lead_time"), values)}
    return xr.Dataset(variables, coordinates, _attributes(state))


def weatherbench_x_results(state: ScoreState, part: Part = "deterministic") -> xr.Dataset:
    """The scores of a state as WeatherBench-X writes them; the convention is the state's own."""
    made = []
    for quantile, own in _parts(state.finalize(), part).items():
        found = _weatherbench_x(own, state)
        made.append(found if quantile is None else found.expand_dims(quantile=[quantile]))
    if part != "binary":
        return made[0]
    return xr.concat(made, "quantile", data_vars="minimal", join="exact", combine_attrs="override")


def _weatherbench_x(scores: Mapping[str, np.ndarray], state: ScoreState) -> xr.Dataset:
    axes = state.axes
    names = {vector: f"vector_rmse.{vector.removesuffix('_vector')}" for vector in VECTORS}
    variables: dict[str, xr.DataArray] = {}
    level: dict[str, np.ndarray] = {}
    for metric, values in scores.items():
        parts, level = unpack(values, axes.channels, ["lead_time", "channel", "region"])
        for variable, (dims, part) in parts.items():
            if (variable in names and metric != "rmse") or (metric == "seeps" and variable not in DRY_METRES):
                continue
            name = names.get(variable, f"{WEATHERBENCH_X_NAMES.get(metric, metric)}.{variable}")
            variables[name] = xr.DataArray(part, dims=dims)
    place = {"lead_time": np.array(axes.leads, "timedelta64[ns]"), "region": list(axes.regions)}
    return xr.Dataset(variables, place | level, _attributes(state))


RESULTS = {"netcdf": "nc", "zarr": "zarr"}
"""The formats of results and the endings of their names."""


def write_results(path: Path, dataset: xr.Dataset, formats: Iterable[str], attributes: Mapping[str, Any]) -> list[Path]:
    """Write results in all the given formats, `path` with each one's ending; return what was written."""
    written = []
    for name in formats:
        written.append(path.with_name(f"{path.name}.{RESULTS[name]}"))
        if name == "netcdf":
            write_netcdf(written[-1], dataset, attributes)
        else:
            write_zarr(written[-1], {None: dataset.assign_attrs(attributes)})
    return written


def _attributes(state: ScoreState) -> dict[str, Any]:
    metrics = {f"metric_{name}": metric.description for name, metric in state.axes.metrics.items()}
    return {
        "convention": state.axes.convention,
        "skipna": int(state.axes.skipna),  # netCDF has no truth values
        "initial_times": len(state),
        **metrics,
    }


def write_netcdf(path: Path, dataset: xr.Dataset, attributes: Mapping[str, Any] | None = None) -> None:
    """Write a netCDF file atomically; lead times as the official tools read them."""
    dataset = dataset.assign_attrs(attributes or {}).drop_encoding()
    with replace_file(path) as temporary:
        dataset.to_netcdf(temporary, engine="netcdf4", encoding=time_encoding(dataset))
