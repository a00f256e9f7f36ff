"""The official engine on an experiment's own scores: its stores as they are, and as copies where they are no zarr."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from rich.table import Table

from graphufs.config.experiment import Experiment
from graphufs.data.dataset import PreparedData
from graphufs.errors import UserError
from graphufs.grid.grid import Grid
from graphufs.storage.atomic import remove_folder
from graphufs.storage.paths import Paths
from graphufs.storage.zarr_io import write_zarr
from graphufs.vocabulary.conventions import DEFAULT
from graphufs.weatherbench.climatology.compute import day_of_year, hour_of_day
from graphufs.weatherbench.inputs.channels import Channel, unpack
from graphufs.weatherbench.inputs.layout_checks import grid_of
from graphufs.weatherbench.official.engine import differences, require, run, table
from graphufs.weatherbench.references import Reference, open_reference
from graphufs.weatherbench.results.official_files import weatherbench2_results
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.score_request import ScoreRequest, StorePaths
from graphufs.weatherbench.scoring.score import FORECAST


def compare(experiment: Experiment, root: Path, truth: str) -> Table:
    """Let the official engine score the forecasts of an evaluated experiment; the differences for a terminal.

    It is given the forecasts and the climatology themselves, or copies of them as they are scored where they are
    regridded, derived variables are added, or initial times left out; and a copy of the truth at all valid times. Its
    results stay beside the scores. It holds all of it in memory at once.

    Raises
    ------
    UserError
        If the package is not there, or there is something in the experiment that it cannot score.
    """
    require()
    options = experiment.evaluation
    if options.convention != DEFAULT:
        raise UserError(f"the official engine follows {DEFAULT}, not {options.convention}")
    paths = Paths(experiment, root)
    place = paths.scores_against(truth)
    state = Scores.open(place).states()[FORECAST]
    prepared = PreparedData.open(paths.data)
    what = open_reference(truth, experiment, paths, prepared, lambda label, unit: lambda done, total: None)
    if not what.truth.mask.all() and not options.skipna:
        raise UserError("the official engine makes land points NaN in ocean scores: set evaluation.skipna with it")
    times, folder = state.initial_times, place.with_name(f"{place.stem}-official")
    valid = np.unique(times[:, None] + what.forecasts.leads)
    copies = folder / ".copies"
    try:
        write_zarr(copies / "truth.zarr", {None: _truth(what, valid)})
        channels = what.forecasts.channels
        stores = StorePaths(
            _forecast(what, times, paths, copies / "forecast.zarr", whole=not options.derived),
            str(copies / "truth.zarr"),
            _climatology(what, valid, copies / "climatology.zarr"),
        )
        wanted = ScoreRequest(
            tuple(sorted({name for name, _ in channels})),
            tuple(sorted({level for _, level in channels if level is not None})),
            regions=state.axes.regions,
            skipna=options.skipna,
            period=(times.min(), times.max()),
        )
        return table(differences(weatherbench2_results(state), run(stores, wanted, folder)))
    finally:
        remove_folder(copies)


def _dataset(values: np.ndarray, channels: Sequence[Channel], grid: Grid, leading: dict[str, np.ndarray]) -> xr.Dataset:
    """Fields [*leading, channel, lat, lon] in WeatherBench2's layout."""
    variables, level = unpack(values, channels, [*leading, "channel", "latitude", "longitude"])
    return xr.Dataset(variables, leading | {"latitude": grid.latitude, "longitude": grid.longitude} | level)


def _truth(what: Reference, valid: np.ndarray) -> xr.Dataset:
    grid = what.forecasts.grid
    dataset = _dataset(what.truth.read(valid), what.truth.channels, grid, {"time": valid})
    if what.land is not None:
        dataset["land_sea_mask"] = (("latitude", "longitude"), what.land)
    return dataset


def _forecast(what: Reference, times: np.ndarray, paths: Paths, copy: Path, *, whole: bool) -> str:
    forecasts = what.forecasts
    if whole and np.array_equal(np.sort(forecasts.initial_times), times) and not forecasts.is_regridded:
        return str(paths.forecasts)
    values = np.stack([forecasts.read(time) for time in times])
    leading = {"time": times, "prediction_timedelta": forecasts.leads}
    write_zarr(copy, {None: _dataset(values, forecasts.channels, forecasts.grid, leading)})
    return str(copy)


def _climatology(what: Reference, valid: np.ndarray, copy: Path) -> str:
    """The climatology's own store where it is local and on the grid of the scores, else a copy of the needed days."""
    source = what.climatology.encoding.get("source")
    grid = what.forecasts.grid
    if source and Path(source).is_dir() and grid.agrees(grid_of(what.climatology, "the climatology")):
        return str(source)
    hours, days = np.unique(hour_of_day(valid)), np.unique(day_of_year(valid))
    values = np.full((len(hours), len(days), len(what.truth.channels), *grid.shape), np.nan, np.float32)
    for time in valid:
        at = np.searchsorted(hours, hour_of_day(time)), np.searchsorted(days, day_of_year(time))
        values[at] = what.climatology_reader.read(np.array([time]))[0]
    write_zarr(copy, {None: _dataset(values, what.truth.channels, grid, {"hour": hours, "dayofyear": days})})
    return str(copy)
