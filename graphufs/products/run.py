"""One run of a forecast, all lead times and members from one initial time, as a dataset that follows CF."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from graphufs.config.data import EMBEDDED
from graphufs.errors import UserError
from graphufs.replay.pressure_levels import Layers, replay_layers, sigma_layers
from graphufs.vocabulary import cf
from graphufs.vocabulary.variables import BY_WEATHERBENCH
from graphufs.weatherbench.inputs.channels import unpack
from graphufs.weatherbench.inputs.forecasts import Forecasts

DIMENSIONS = ("prediction_timedelta", "realization", "channel", "latitude", "longitude")
KEPT = ("source", "experiment", "provenance")
"""What a forecast store says of itself and its products say too."""


def run(forecasts: Forecasts, initial_time: np.datetime64) -> xr.Dataset:
    """The forecasts from one initial time, float32 (prediction_timedelta, [realization], [level], latitude, longitude).

    Of the coordinates, `time` is the initial time, and `valid_time` (prediction_timedelta) what it says. Where levels
    are native layers, see `layers`, `native_level` (level) has their reference pressures in hPa.

    Raises
    ------
    UserError
        If the store calls its levels by something that is not known.
    """
    variables, levels = unpack(forecasts.read_members(initial_time), forecasts.channels, DIMENSIONS)
    dataset = xr.Dataset(
        variables,
        coords={
            "time": ((), initial_time, cf.INITIAL_TIME),
            "prediction_timedelta": ("prediction_timedelta", forecasts.leads, cf.LEAD_TIME),
            "valid_time": ("prediction_timedelta", initial_time + forecasts.leads, cf.VALID_TIME),
            "realization": ("realization", np.arange(forecasts.members or 1), cf.MEMBER),
            "latitude": ("latitude", forecasts.grid.latitude, cf.LATITUDE),
            "longitude": ("longitude", forecasts.grid.longitude, cf.LONGITUDE),
            **levels,
        },
        attrs=_about(forecasts),
    )
    if forecasts.members is None:
        dataset = dataset.isel(realization=0, drop=True)
    for name, array in dataset.items():
        array.attrs = _attributes(forecasts, str(name))
    if not levels:
        return dataset
    vertical = forecasts.vertical
    if vertical not in cf.VERTICAL:
        known = ", ".join(cf.VERTICAL)
        raise UserError(f"the attribute `vertical` of {forecasts.origin} says {vertical!r}; known are {known}")
    dataset["level"].attrs = cf.of_levels(vertical)
    native = forecasts.dataset.get("native_level")
    if vertical == cf.LAYERS and native is not None:
        values = native.sel(level=dataset["level"]).values.astype(np.float64)
        about = {"units": "hPa", "long_name": "pressure of the layer over a ground at 1000 hPa"}
        dataset = dataset.assign_coords(native_level=("level", values, about))
        dataset = dataset.assign_coords(_coefficients(dataset))
    return dataset


def _coefficients(dataset: xr.Dataset) -> dict[str, Any]:
    """The coordinates `ap` [Pa] and `b` of native layers and of their bounds; none where `layers` finds none."""
    if (found := layers(dataset)) is None:
        return {}
    column, at = found
    made: dict[str, Any] = {}
    for name, values, units in (("ap", column.a * 100, "Pa"), ("b", column.b, "1")):
        about = {"units": units, "long_name": f"{name} of the layer, whose pressure is near ap + b * surface pressure"}
        if column.interfaces:
            made[f"{name}_bounds"] = (("level", "bounds"), np.stack([values[at], values[at + 1]], axis=-1))
            made[name] = ("level", (values[at] + values[at + 1]) / 2, {**about, "bounds": f"{name}_bounds"})
        else:
            made[name] = ("level", values[at], about)
    return made


def layers(dataset: xr.Dataset) -> tuple[Layers, np.ndarray] | None:
    """The vertical coordinate of a run's native layers, and which of its layers they are, int [level].

    None where there are none, or none that the vertical coordinates of Replay and of the embedded world have.
    """
    if "native_level" not in dataset.coords:
        return None
    native = dataset["native_level"].values
    if dataset.attrs.get("source") == EMBEDDED:
        return sigma_layers(native), np.arange(len(native))
    column = replay_layers()
    try:
        return column, column.find(native.tolist())
    except UserError:
        return None


def _about(forecasts: Forecasts) -> dict[str, Any]:
    there = forecasts.dataset.attrs
    about = {name: there[name] for name in KEPT if name in there}
    title = f"Forecasts of {there['experiment']}" if "experiment" in there else "Forecasts"
    return {"Conventions": cf.CONVENTIONS, "title": title, **about, "grid": forecasts.grid.description}


def _attributes(forecasts: Forecasts, name: str) -> dict[str, Any]:
    """What the store says of a variable, and CF; a unit is said in any case."""
    known, noted = BY_WEATHERBENCH.get(name), forecasts.attributes(name)
    long_name = noted.get("long_name", known.long_name if known else name.replace("_", " "))
    units = noted.get("units", known.units if known else "1")
    return {"long_name": long_name, "units": units, **cf.of_variable(name)}
