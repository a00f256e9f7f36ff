"""Forecasts as a dataset in the layout that WeatherBench2's own tools read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from graphufs.vocabulary.variables import BY_REPLAY, weatherbench_name

LAYOUT_SOURCE = "WeatherBench2 forecast layout (time = initial time)"


def template(
    initial_times: NDArray[np.datetime64],
    leads: NDArray[np.timedelta64],
    latitude: NDArray[np.float64],
    longitude: NDArray[np.float64],
    levels: Mapping[str, tuple[tuple[float, float], ...]],
    attributes_of_all: Mapping[str, Any],
) -> xr.Dataset:
    """An empty forecast dataset of initial times [time], leads [lead] and a grid in degrees [lat] and [lon].

    `levels` are (wanted, native) by Replay variable, none of a surface variable.
    """
    pairs = sorted({pair for of_variable in levels.values() for pair in of_variable})
    coordinates: dict[str, Any] = {
        "time": initial_times.astype("datetime64[ns]"),
        "prediction_timedelta": leads.astype("timedelta64[ns]"),
        "latitude": ("latitude", latitude, {"units": "degrees_north"}),
        "longitude": ("longitude", longitude, {"units": "degrees_east"}),
    }
    if pairs:
        wanted = np.array([wanted for wanted, _ in pairs])
        whole = wanted.astype(np.int64)  # as WeatherBench2 has them, where nothing is lost
        coordinates["level"] = ("level", whole if (whole == wanted).all() else wanted, {"units": "hPa"})
        coordinates["native_level"] = ("level", np.array([native for _, native in pairs]), {"units": "hPa"})
    dataset = xr.Dataset(coords=coordinates, attrs={"layout": LAYOUT_SOURCE, **attributes_of_all})
    shape = (len(initial_times), len(leads))
    for variable, of_variable in levels.items():
        known = BY_REPLAY.get(variable)
        level = (len(of_variable),) if of_variable else ()
        dims = ("time", "prediction_timedelta", *(("level",) if level else ()), "latitude", "longitude")
        empty = np.broadcast_to(np.float32(np.nan), (*shape, *level, len(latitude), len(longitude)))
        attributes = {"long_name": known.long_name, "units": known.units} if known else {"long_name": variable}
        if level:
            attributes["vertical"] = "native model layers"
        dataset[weatherbench_name(variable)] = (dims, empty, attributes)
    return dataset
