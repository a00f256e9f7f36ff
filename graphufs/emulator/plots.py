"""The two pictures everybody makes first, by matplotlib: a map of a forecast, and scores by lead time."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from graphufs.errors import UserError, did_you_mean
from graphufs.storage.zarr_io import open_zarr
from graphufs.vocabulary.labels import forecast_name, hours_name

HOUR = np.timedelta64(1, "h")


def plot_map(
    forecast: xr.Dataset,
    variable: str,
    level: float | None = None,
    hours: float | None = None,
    initial_time: np.datetime64 | str | None = None,
) -> Figure:
    """A map of a forecast such as `ReplayEmulator.forecast` gives, of the first initial time and the last lead.

    Parameters
    ----------
    forecast
        (time, prediction_timedelta, [level], latitude, longitude); of an ensemble take a member or the mean first.
    variable, level, hours, initial_time
        What to show: the level as the forecast calls it, the lead in hours.

    Raises
    ------
    UserError
        If there is no such variable, level or time.
    """
    field = _at_level(forecast, variable, level)
    times = forecast["time"].values
    time = times[0] if initial_time is None else np.array(initial_time, "datetime64[ns]")[()]
    leads = forecast["prediction_timedelta"].values / HOUR
    lead = leads[-1] if hours is None else float(hours)
    if time not in times or lead not in leads:
        raise UserError(
            f"there is no forecast from {time.astype('datetime64[h]')} for {lead:g} h; initial times are "
            f"{times[0].astype('datetime64[h]')} to {times[-1].astype('datetime64[h]')}, leads {leads[0]:g} to "
            f"{leads[-1]:g} h"
        )
    field = field.isel(time=int(np.flatnonzero(times == time)[0]), prediction_timedelta=list(leads).index(lead))
    values = field.transpose("latitude", "longitude").values
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.add_subplot()
    wind = "wind" in str(field.attrs.get("standard_name", variable))
    most = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 1.0
    limits = {"cmap": "RdBu_r", "vmin": -most, "vmax": most} if wind else {"cmap": "viridis"}
    drawn = axes.pcolormesh(forecast["longitude"], forecast["latitude"], values, shading="nearest", **limits)
    figure.colorbar(drawn, ax=axes, label=str(field.attrs.get("units", "")), shrink=0.8)
    start = str(time.astype("datetime64[h]")).replace("T", " ")
    axes.set_title(f"{_title(field)}, {hours_name(lead)} after {start} UTC", loc="left")
    axes.set(xlabel="degrees east", ylabel="degrees north", aspect="equal")
    return figure


def plot_scores(
    scores: xr.Dataset | Path | str,
    variable: str,
    level: float | None = None,
    metric: str = "rmse",
    region: str = "global",
) -> Figure:
    """Scores by lead time of each forecast, from a store of scores or the dataset in it.

    Raises
    ------
    UserError
        If there are no such scores.
    """
    dataset = scores if isinstance(scores, xr.Dataset) else open_zarr(scores, what="the scores")
    values = _at_level(dataset, variable, level)
    for dim, wanted in (("metric", metric), ("region", region)):
        if wanted not in (there := [str(one) for one in dataset[dim].values]):
            raise UserError(f"there is no {dim} {wanted}{did_you_mean(wanted, there)}; there are {', '.join(there)}")
    values = values.sel(metric=metric, region=region)
    days = dataset["lead_time"].values / HOUR / 24
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.add_subplot()
    colours = matplotlib.colormaps["tab10"].colors  # type: ignore[attr-defined]
    for number, name in enumerate(map(str, dataset["forecast"].values)):
        line = values.sel(forecast=name).values
        if np.isfinite(line).any():
            axes.plot(days, line, color=colours[number % len(colours)], label=forecast_name(name))
    units = str(values.attrs.get("units", ""))
    axes.set(xlabel="lead time (days)", ylabel=f"{metric.upper()} ({units})" if metric != "acc" else "ACC")
    axes.set_title(_title(values), loc="left")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _at_level(dataset: xr.Dataset, variable: str, level: float | None) -> xr.DataArray:
    """A variable at a level, which must be given where there is more than one."""
    names = [str(name) for name in dataset]
    if variable not in names:
        hint = did_you_mean(variable, names)
        raise UserError(f"there is no variable {variable}{hint}; there are {', '.join(names)}")
    array = dataset[variable]
    if "level" not in array.dims:
        return array
    levels = [float(one) for one in array["level"].values]
    wanted = levels[0] if level is None and len(levels) == 1 else level
    if wanted not in levels:
        shown = ", ".join(f"{one:g}" for one in levels)
        raise UserError(f"name a level of {variable} ({'none given' if level is None else f'{level:g}'}): {shown}")
    return array.isel(level=levels.index(float(wanted)))


def _title(array: xr.DataArray) -> str:
    name = str(array.attrs.get("long_name", array.name)).replace("_", " ")
    where = (
        "" if "level" not in array.coords else f", {float(array['level']):g} {array['level'].attrs.get('units', '')}"
    )
    return f"{name[:1].upper()}{name[1:]}{where}".rstrip()
