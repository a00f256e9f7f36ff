"""What forecasts are scored against, written as WeatherBench2 lays it out: the truth, and the climatology.

Both are of an experiment's prepared data, from whatever source these are: its variables and levels, under
WeatherBench2's names and in its units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from graphufs.config.experiment import Experiment
from graphufs.data.dataset import PreparedData
from graphufs.errors import Stopped, UserError
from graphufs.grid.grid import Grid
from graphufs.grid.regridding import Method, Regridder, named_grid
from graphufs.products.convert import require_replaceable
from graphufs.products.zarr_store import chunks
from graphufs.replay.times import listing, wanted_stamps
from graphufs.steps import ShouldStop, never_stop
from graphufs.storage.atomic import new_folder
from graphufs.storage.zarr_io import add_checksums, time_encoding
from graphufs.vocabulary import cf
from graphufs.vocabulary.variables import BY_WEATHERBENCH, weatherbench_name, weatherbench_scale
from graphufs.weatherbench.inputs.channels import Channel, unpack
from graphufs.weatherbench.inputs.truth import TOGETHER, PreparedTruth, Truth
from graphufs.weatherbench.on_grid import RegriddedTruth
from graphufs.weatherbench.references import write_climatology

Progress = Callable[[int, int], None]
DIMENSIONS = ("time", "channel", "latitude", "longitude")
Period = tuple[np.datetime64, np.datetime64]


def write_reference(
    what: str,
    experiment: Experiment,
    prepared: PreparedData,
    output: Path,
    *,
    variables: Sequence[str] = (),
    period: Period | None = None,
    grid: str = "native",
    regridding: Method = "conservative",
    progress: Progress = lambda done, total: None,
    should_stop: ShouldStop = never_stop,
) -> int:
    """Write the `truth` or the `climatology` of an experiment; return the number of stamps it is of.

    The truth is of the stamps without missing values: the experiment's, or all that are prepared in a period, both ends
    included; it has the static fields too. The climatology's period is by default the experiment's for it. Variables
    are all, or those named by WeatherBench2's names. What an earlier conversion left at `output` is replaced.

    Raises
    ------
    UserError
        If there is no such variable or stamp, or something else lies at `output`.
    Stopped
        If `should_stop()` turned true; nothing appears then.
    """
    require_replaceable(output, "zarr", alone=False)
    truth: Truth = _truth(prepared, variables)
    target = None
    if grid != "native":
        target = named_grid(grid)
        truth = RegriddedTruth(truth, Regridder(truth.grid, target, regridding))

    def tell(done: int, total: int) -> None:
        if should_stop():
            raise Stopped(f"stopped after {done} of {total} stamps; repeat it from the beginning")
        progress(done, total)

    if what == "climatology":
        return write_climatology(output, experiment, truth, vertical_of(prepared), tell, period)
    stamps = truth.stamps
    if period is None:
        stamps = np.intersect1d(stamps, wanted_stamps(experiment))
    else:
        stamps = stamps[(stamps >= period[0]) & (stamps <= period[1])]
    if not stamps.size:
        raise UserError(
            f"no stamps without missing values are prepared in this period; there are {listing(truth.stamps[[0, -1]])}"
            if truth.stamps.size
            else "all prepared stamps have missing values"
        )
    static = _static(prepared, variables, truth.grid, target, regridding)
    _write_truth(output, _template(experiment, prepared, truth, stamps, static), truth, stamps, tell)
    return int(stamps.size)


def vertical_of(prepared: PreparedData) -> str:
    """What the levels of prepared data are, as CF's attributes call them here."""
    if prepared.component != "fv3":
        return cf.DEPTH
    if not any(channel.level is not None for channel in prepared.channels):
        return "surface only"
    return cf.PRESSURE if prepared.on_pressure_levels else cf.LAYERS


def _truth(prepared: PreparedData, variables: Sequence[str]) -> PreparedTruth:
    there = [Channel(weatherbench_name(channel.variable), channel.level) for channel in prepared.channels]
    names = {channel.variable for channel in there} | set(map(weatherbench_name, prepared.static))
    if lacking := sorted(set(variables) - names):
        raise UserError(f"no variable {', '.join(lacking)} is prepared; there are {', '.join(sorted(names))}")
    wanted = [channel for channel in there if not variables or channel.variable in variables]
    if not wanted:
        raise UserError(f"{', '.join(variables)} do not change with time; name one of the others too")
    return PreparedTruth(prepared, wanted)


def _static(
    prepared: PreparedData, variables: Sequence[str], grid: Grid, target: Grid | None, method: Method
) -> Iterator[tuple[str, np.ndarray]]:
    """The static fields, by WeatherBench2's names, in its units, float32 [lat, lon]."""
    own = Grid(prepared.latitude, prepared.longitude)
    for name, field in prepared.static.items():
        known = weatherbench_name(name)
        if not variables or known in variables:
            values = field * np.float32(weatherbench_scale(name))
            yield known, values if target is None else Regridder(own, grid, method)(values).astype(np.float32)


def _template(
    experiment: Experiment,
    prepared: PreparedData,
    truth: Truth,
    stamps: np.ndarray,
    static: Iterator[tuple[str, np.ndarray]],
) -> xr.Dataset:
    """The store's dataset, its static fields there, its other fields (time, [level], latitude, longitude) empty."""
    vertical = vertical_of(prepared)
    empty = np.broadcast_to(np.float32(np.nan), (len(truth.channels), *truth.grid.shape))
    fields, levels = unpack(empty, truth.channels, DIMENSIONS[1:])
    coordinates: dict[str, Any] = {
        "latitude": ("latitude", truth.grid.latitude, cf.LATITUDE),
        "longitude": ("longitude", truth.grid.longitude, cf.LONGITUDE),
        **levels,
    }
    about = {
        "Conventions": cf.CONVENTIONS,
        "title": f"Truth of {experiment.name}",
        "experiment": experiment.name,
        "source": experiment.data.source.url,
    }
    dataset = xr.Dataset(fields, coordinates, about).expand_dims(time=stamps)  # no memory is taken by that
    dataset["time"].attrs = cf.TIME
    if levels:
        dataset["level"].attrs = cf.of_levels(vertical)
    units = {weatherbench_name(name): facts.attributes for name, facts in prepared.facts.items()}
    dataset = dataset.assign({name: (("latitude", "longitude"), values) for name, values in static})
    for name, array in dataset.items():
        known, noted = BY_WEATHERBENCH.get(str(name)), units.get(str(name), {})
        array.attrs = {
            "long_name": known.long_name if known else noted.get("long_name", str(name).replace("_", " ")),
            "units": known.units if known else noted.get("units", "1"),
            **cf.of_variable(str(name)),
            **({"vertical": vertical} if "level" in array.dims else {}),
        }
    return dataset


def _write_truth(path: Path, dataset: xr.Dataset, truth: Truth, stamps: np.ndarray, progress: Progress) -> None:
    """Write the dataset with the truth's fields at the stamps; some are in memory at a time."""
    varying = [str(name) for name, array in dataset.items() if "time" in array.dims]
    encoding = time_encoding(dataset)
    for name, array in dataset.items():
        encoding[str(name)] = {"_FillValue": np.nan, "chunks": chunks(array)}
    lazy = dataset.assign({name: dataset[name].chunk({"time": 1}) for name in varying})
    with new_folder(path) as temporary:
        # the variables with time are made empty by this, the others are written
        lazy.to_zarr(temporary, mode="w", zarr_format=2, consolidated=True, compute=False, encoding=encoding)
        group = zarr.open_group(temporary, mode="r+", use_consolidated=False)
        for first in range(0, stamps.size, TOGETHER):
            rows = slice(first, min(first + TOGETHER, stamps.size))
            fields, _ = unpack(truth.read(stamps[rows]), truth.channels, DIMENSIONS)
            for name in varying:
                stored = group[name]
                assert isinstance(stored, zarr.Array)
                stored[rows] = fields[name][1]
            progress(rows.stop, stamps.size)
        add_checksums(temporary)
