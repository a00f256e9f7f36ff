"""How forecasts are laid out: WeatherBench2's dimensions, names and units, described as CF has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from graphufs.config.experiment import Experiment
from graphufs.emulator.domain import Domain
from graphufs.vocabulary import cf
from graphufs.vocabulary.physical_bounds import QUANTITIES
from graphufs.vocabulary.variables import BY_REPLAY, BY_WEATHERBENCH, weatherbench_name, weatherbench_scale

LAYOUT_SOURCE = "WeatherBench2 forecast layout (time = initial time)"


def forecast_template(
    experiment: Experiment, domain: Domain, initial_times: NDArray[np.datetime64], steps: int, members: int = 1
) -> xr.Dataset:
    """The empty dataset, in WeatherBench2's layout, of forecasts from initial times [time].

    Several members lie along `number`, after the time.
    """
    data, grid = experiment.data, (domain.latitude, domain.longitude)
    levels = {name: domain.levels(name) for name in data.targets}
    pairs = sorted({pair for of_variable in levels.values() for pair in of_variable})
    leads = np.arange(1, steps + 1) * np.timedelta64(data.time_step, "h")
    coordinates: dict[str, Any] = {
        "time": ("time", initial_times.astype("datetime64[ns]"), cf.INITIAL_TIME),
        "prediction_timedelta": ("prediction_timedelta", leads.astype("timedelta64[ns]"), cf.LEAD_TIME),
        "latitude": ("latitude", grid[0], cf.LATITUDE),
        "longitude": ("longitude", grid[1], cf.LONGITUDE),
    }
    layers = cf.PRESSURE if domain.on_pressure_levels else cf.LAYERS
    vertical = layers if data.source.component == "fv3" else cf.DEPTH
    if members > 1:
        coordinates["number"] = ("number", np.arange(members), cf.MEMBER)
    if pairs:
        wanted = np.array([wanted for wanted, _ in pairs])
        whole = wanted.astype(np.int64)  # as WeatherBench2 has them, where nothing is lost
        about = cf.of_levels(vertical)
        coordinates["level"] = ("level", whole if (whole == wanted).all() else wanted, about)
        own = {"long_name": "the level's own value in the source", "units": about["units"]}
        coordinates["native_level"] = ("level", np.array([native for _, native in pairs]), own)
    attributes = {
        "Conventions": cf.CONVENTIONS,
        "layout": LAYOUT_SOURCE,
        "experiment": experiment.name,
        "source": data.source.url,
    }
    dataset = xr.Dataset(coords=coordinates, attrs=attributes)
    for variable, of_variable in levels.items():
        known = BY_REPLAY.get(variable) or BY_WEATHERBENCH.get(variable)
        level = (len(of_variable),) if of_variable else ()
        of_members = ("number",) if members > 1 else ()
        fields = ("prediction_timedelta", *(("level",) if level else ()), "latitude", "longitude")
        dims = ("time", *of_members, *fields)
        sizes = (members,) if members > 1 else ()
        shape = (len(initial_times), *sizes, steps, *level, len(grid[0]), len(grid[1]))
        notes = {"long_name": variable}
        if known:
            notes = {"long_name": known.long_name, "units": known.units, **cf.of_variable(known.weatherbench)}
        elif variable in QUANTITIES:
            notes["units"] = QUANTITIES[variable].units
        if level:
            notes["vertical"] = vertical
        dataset[weatherbench_name(variable)] = (dims, np.broadcast_to(np.float32(np.nan), shape), notes)
    return dataset


def in_weatherbench_units(predictions: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Predictions, of any shape, under WeatherBench2's names and in its units."""
    return {
        weatherbench_name(name): values * np.float32(weatherbench_scale(name)) for name, values in predictions.items()
    }
