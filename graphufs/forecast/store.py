"""The forecast store: a zarr in the layout that WeatherBench2's own tools read, filled initial time by initial time.

Dimensions are (time, prediction_timedelta, [level], latitude, longitude), where `time` is the initial time. The store
grows under a temporary name with a list of the initial times that are in it, and gets its own name when it is full.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from graphufs.files import fsync, write_json
from graphufs.replay import variables as names

LAYOUT_SOURCE = "WeatherBench2 forecast layout (time = initial time)"


class ForecastWriter:
    """Writes a forecast store in blocks of initial times; after a kill it goes on with the blocks that lack.

    Parameters
    ----------
    path : the finished store's place.
    template : an empty dataset from `template`, which fixes coordinates, variables and attributes.
    """

    def __init__(self, path: Path, template: xr.Dataset) -> None:
        self.path = path
        self._part = path.with_name(path.name + ".part")
        self._progress = self._part / ".done.json"
        self.done: set[int] = set()
        if self._progress.is_file():
            self.done = set(json.loads(self._progress.read_text()))
        else:
            shutil.rmtree(self._part, ignore_errors=True)
            _create(self._part, template)
            write_json(self._progress, [])
        self._group = zarr.open_group(self._part, mode="r+", use_consolidated=False)
        self._shape = {str(name): variable.shape for name, variable in template.data_vars.items()}

    def write(self, first: int, forecasts: Mapping[str, NDArray[np.float32]]) -> None:
        """Write initial times `first`, `first`+1, ..., each variable [initial time, lead, [level], lat, lon]."""
        count = len(next(iter(forecasts.values())))
        for name, values in forecasts.items():
            array = self._group[name]
            assert isinstance(array, zarr.Array)
            array[first : first + count] = values.reshape((count, *self._shape[name][1:]))
            for index in range(first, first + count):
                chunk = self._part / name / ".".join([str(index), *["0"] * (array.ndim - 1)])
                fsync(chunk)
        self.done |= set(range(first, first + count))
        write_json(self._progress, sorted(self.done))

    def finish(self) -> None:
        """Give the full store its name."""
        total = next(iter(self._shape.values()))[0]
        if len(self.done) != total:
            raise RuntimeError(f"only {len(self.done)} of {total} initial times are written")
        self._progress.unlink()
        for file in self._part.rglob(".z*"):
            fsync(file)
        os.rename(self._part, self.path)
        fsync(self.path.parent)


def template(
    initial_times: NDArray[np.datetime64],
    leads: NDArray[np.timedelta64],
    latitude: NDArray[np.float64],
    longitude: NDArray[np.float64],
    levels: Mapping[str, tuple[tuple[float, float], ...]],
    attributes_of_all: Mapping[str, Any],
) -> xr.Dataset:
    """An empty forecast dataset.

    Parameters
    ----------
    levels : for each Replay variable its (wanted, native) levels, empty for a surface variable.
    attributes_of_all : global attributes, such as provenance.
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
        known = names.BY_REPLAY.get(variable)
        level = (len(of_variable),) if of_variable else ()
        dims = ("time", "prediction_timedelta", *(("level",) if level else ()), "latitude", "longitude")
        empty = np.broadcast_to(np.float32(np.nan), (*shape, *level, len(latitude), len(longitude)))
        attributes = {"long_name": known.long_name, "units": known.units} if known else {"long_name": variable}
        if level:
            attributes["vertical"] = "native model layers"
        dataset[names.weatherbench_name(variable)] = (dims, empty, attributes)
    return dataset


def _create(path: Path, dataset: xr.Dataset) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    encoding: dict[str, dict[str, Any]] = {
        str(name): {"chunks": (1, *variable.shape[1:]), "_FillValue": np.nan}
        for name, variable in dataset.data_vars.items()
    }
    encoding["time"] = {"units": "hours since 1970-01-01", "dtype": "int64"}
    # xarray adds the attribute dtype: timedelta64[ns], without which readers take the numbers for plain integers.
    encoding["prediction_timedelta"] = {"units": "hours", "dtype": "int64"}
    # Only the variables are lazy, and so left unwritten by compute=False; coordinates are written now.
    lazy = dataset.assign({name: variable.chunk({"time": 1}) for name, variable in dataset.data_vars.items()})
    lazy.to_zarr(path, mode="w", zarr_format=2, consolidated=True, compute=False, encoding=encoding)
