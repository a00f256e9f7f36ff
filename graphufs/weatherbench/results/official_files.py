"""Results in the layout of the official tools, which plot them unchanged.

WeatherBench2: for each variable (metric, region, lead_time, [level]), or with init_time in front of lead_time.
WeatherBench-X: for each metric and variable `metric.variable` (lead_time, [level], region).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from graphufs.storage.atomic import replace_file
from graphufs.storage.zarr_io import time_encoding, write_zarr
from graphufs.vocabulary.conventions import DRY_METRES
from graphufs.weatherbench.inputs.channels import VECTORS, unpack
from graphufs.weatherbench.scoring.score_state import ScoreState

SEEPS_NAMES = {name: f"seeps_{name.rsplit('_', 1)[1]}" for name in DRY_METRES}
"""WeatherBench2 has a SEEPS for each accumulation."""

WEATHERBENCH_X_NAMES = {"forecast_activity": "prediction_activity"}


def weatherbench2_results(state: ScoreState, *, by_initial_time: bool = False, by_valid: bool = False) -> xr.Dataset:
    """The scores of a state as WeatherBench2 writes them.

    With `by_initial_time` those of each initial time, on the dimension init_time, instead of their mean. With
    `by_valid` what the state knows as initial times are valid times, which lie on the dimension time.
    """
    axes = state.axes
    scores = state.by_initial_time() if by_initial_time else state.finalize()
    dimension = "time" if by_valid else "init_time"
    leading = [dimension] if by_initial_time else []
    dims = ["metric", "region", *leading, "lead_time", "channel"]
    if "seeps" in scores:
        seeps = scores.pop("seeps")
        for variable, name in SEEPS_NAMES.items():
            of_variable = np.array([channel.variable == variable for channel in axes.channels])
            if of_variable.any():
                scores[name] = np.where(of_variable[:, None], seeps, np.nan)
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


def weatherbench_x_results(state: ScoreState) -> xr.Dataset:
    """The scores of a state as WeatherBench-X writes them; the convention is the state's own."""
    axes = state.axes
    names = {vector: f"vector_rmse.{vector.removesuffix('_vector')}" for vector in VECTORS}
    variables: dict[str, xr.DataArray] = {}
    level: dict[str, np.ndarray] = {}
    for metric, values in state.finalize().items():
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
