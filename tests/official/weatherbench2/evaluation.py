"""Evaluation in memory, from files to files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xarray as xr

from weatherbench2.config import Data, Eval


def make_latitude_increasing(dataset: xr.Dataset) -> xr.Dataset:
    descends = dataset["latitude"][0] > dataset["latitude"][-1]
    return dataset.isel(latitude=slice(None, None, -1)) if descends else dataset


def _open(data: Data, bases: set[str]) -> tuple[xr.Dataset, xr.Dataset]:
    forecast, truth = (xr.open_zarr(path, chunks=None) for path in (data.paths.forecast, data.paths.obs))
    if data.pressure_level_suffixes:
        raise NotImplementedError("this look-alike does not decode levels in names")
    if data.rename_variables:
        forecast = forecast.rename(data.rename_variables)
    forecast, truth = make_latitude_increasing(forecast), make_latitude_increasing(truth)
    forecast = forecast.assign_coords(latitude=truth["latitude"], longitude=truth["longitude"])
    forecast = forecast.rename(prediction_timedelta="lead_time")
    if data.by_init:
        forecast = forecast.rename(time="init_time")
        forecast = forecast.assign_coords(valid_time=forecast["init_time"] + forecast["lead_time"])
    names = [*data.selection.variables, *sorted(bases - set(data.selection.variables))]
    times = {"init_time" if data.by_init else "time": data.selection.time_slice}
    forecast, truth = forecast[names].sel(times), truth[names]
    if data.selection.levels is not None and "level" in forecast.dims:
        forecast, truth = (dataset.sel(level=data.selection.levels) for dataset in (forecast, truth))
    if data.by_init:
        truth = truth.sel(time=forecast["valid_time"]).drop_vars("time")
    else:
        truth = truth.sel(times)
    return forecast.load(), truth.load()


def evaluate_in_memory(data: Data, eval_configs: dict[str, Eval], skipna: bool = False) -> None:
    for name, wanted in eval_configs.items():
        bases = {base for variable in wanted.derived_variables.values() for base in variable.base_variables}
        forecast, truth = _open(data, bases)
        for variable, recipe in wanted.derived_variables.items():
            forecast[variable], truth[variable] = recipe.compute(forecast), recipe.compute(truth)
        results = []
        for metric_name, metric in wanted.metrics.items():
            parts: list[Any] = []
            for region_name, region in (wanted.regions or {"": None}).items():
                part = metric.compute(forecast, truth, region=region, skipna=skipna)
                parts.append(part.expand_dims(metric=[metric_name], region=[region_name]))
            results.append(xr.concat(parts, "region"))
        merged = xr.merge(results, join="outer", compat="no_conflicts")
        merged.to_netcdf(Path(data.paths.output_dir, f"{data.paths.output_file_prefix}{name}.nc"))
