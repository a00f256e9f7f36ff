"""What the steps after `prepare` would refuse and can be seen without their input: for `graphufs check`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from graphufs.config.experiment import Experiment
from graphufs.data.selection import Selection
from graphufs.errors import UserError
from graphufs.grid.grid import Grid
from graphufs.grid.regridding import Regridder, named_grid
from graphufs.replay.source import ReplayStore
from graphufs.replay.times import hours, text
from graphufs.storage.credentials import options_of
from graphufs.storage.paths import Paths
from graphufs.storage.zarr_io import open_zarr
from graphufs.vocabulary.variables import weatherbench_name
from graphufs.weatherbench.inputs.layout_checks import check_climatology, check_observations, grid_of
from graphufs.weatherbench.inputs.native_layers import as_levels


def check_later_steps(experiment: Experiment, root: Path, store: ReplayStore, selection: Selection) -> None:
    """Look at what else the experiment names: published statistics, weights to start from, the grid of scores, ERA5.

    Raises
    ------
    UserError
        If a later step could not use it.
    """
    if experiment.normalization.url is not None:
        from graphufs.normalization.step import published_statistics

        statistics = published_statistics(experiment, selection.channels, selection.static)
        statistics.check(set(experiment.data.targets) & set(selection.varying), experiment.normalization.url)
    if (weights := Paths(experiment, root).initial_weights) is not None:
        from graphufs.deepmind.warm_start import require_weights  # brings JAX

        require_weights(weights)
    options = experiment.evaluation
    if options.grid != "native":
        Regridder(Grid(store.latitude, store.longitude), named_grid(options.grid), options.regridding)
    if "era5" in options.truths:
        _check_era5(experiment, selection)


def _check_era5(experiment: Experiment, selection: Selection) -> None:
    options = experiment.evaluation.era5
    era5 = open_zarr(options.url or "", storage_options=options_of(options), what="ERA5")
    check_observations(era5, f"ERA5 at {options.url}")
    grid_of(era5, f"ERA5 at {options.url}")
    targets = set(experiment.data.targets)
    names = {name: weatherbench_name(name) for name in sorted(targets)}
    shared = {name for name, known in names.items() if known in era5}
    layered = {channel.variable for channel in selection.channels if channel.level is not None} & shared
    if layered and options.native_layers == "refuse":
        raise UserError(
            f"{', '.join(sorted(layered))} lies on native model layers, which follow the ground, and ERA5 on pressure "
            "levels: the two cannot be compared. Set evaluation.era5.native_layers to leave_out to score the surface "
            "only, or to as_levels where layers are near enough to the levels they are called by"
        )
    if layered and options.native_layers == "as_levels":
        used = (channel for channel in selection.channels if channel.variable in layered)
        native = {c.level: c.native for c in used if c.level is not None and c.native is not None}
        as_levels(native, experiment.data.source.url)
    scored = shared - (layered if options.native_layers == "leave_out" else set())
    if not scored and not experiment.evaluation.derived:
        raise UserError(
            f"ERA5 at {options.url} has none of what is forecast at levels it could be scored on "
            f"({', '.join(names.values())}); choose another store, or evaluation.truth replay"
        )
    _check_times(experiment, era5)
    if options.climatology is not None:
        climatology = open_zarr(options.climatology, storage_options=options_of(options), what="the climatology")
        check_climatology(climatology, f"the climatology at {options.climatology}")


def _check_times(experiment: Experiment, era5: xr.Dataset) -> None:
    initial, step = np.array(experiment.initial_times, "datetime64[ns]"), experiment.data.time_step
    valid = np.unique(initial[:, None] + hours(step) * np.arange(1, experiment.forecast.lead_time // step + 1))
    if valid.size and not np.isin(valid, era5["time"].values).any():
        raise UserError(
            f"ERA5 at {experiment.evaluation.era5.url} has no field at any of the {valid.size} times that forecasts "
            f"are for, {text(valid[0])} to {text(valid[-1])}; choose a store that has them"
        )
