"""What the steps after `prepare` would refuse and can be seen without their input: for `graphufs check`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from graphufs.config.data import EMBEDDED
from graphufs.config.experiment import Experiment
from graphufs.data.selection import Selection
from graphufs.data.static_fields import present_mask
from graphufs.errors import UserError
from graphufs.graph.icosphere import count_vertices
from graphufs.graph.partition import require_parts
from graphufs.grid.grid import Grid
from graphufs.grid.regridding import Regridder, named_grid
from graphufs.replay.source import ReplayStore
from graphufs.replay.times import hours, text, wanted_stamps
from graphufs.storage.credentials import options_of
from graphufs.storage.paths import Paths
from graphufs.storage.zarr_io import open_zarr
from graphufs.vocabulary.regions import LAND
from graphufs.vocabulary.variables import LAND_SEA_MASK, LAND_STATIC, naming, weatherbench_name
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
    _check_training(experiment, Paths(experiment, root).initial_weights, store, selection)
    options, grid = experiment.evaluation, Grid(store.latitude, store.longitude)
    if options.grid != "native":
        own, grid = grid, named_grid(options.grid)
        Regridder(own, grid, options.regridding)
    if options.plume_points:
        from graphufs.report.ensemble.plumes import nearest

        for point in options.plume_points:
            nearest(grid, point)
    era5 = _check_era5(experiment, selection, store) if "era5" in options.truths else None
    _check_land(experiment, selection, era5)


def _check_training(experiment: Experiment, weights: Path | None, store: ReplayStore, selection: Selection) -> None:
    """Ask the rules of a training itself, on an outline of the domain; what its machine must have, it alone knows."""
    settings = experiment.training
    asked = settings.augmentation.asked, settings.freeze, settings.learning_rate_factors, settings.loss.channel_weights
    if not any(asked) and settings.compute.mesh.space == 1 and weights is None:
        return
    import jax

    from graphufs.deepmind.as_it_is import model_as_it_is
    from graphufs.deepmind.warm_start import require_weights
    from graphufs.emulator import symmetries
    from graphufs.emulator.domain import Domain
    from graphufs.emulator.emulator import ReplayEmulator
    from graphufs.train.loss_weights import channel_factors
    from graphufs.train.optimizer import rate_factors, split

    embedded, mask = experiment.data.source.url == EMBEDDED, None
    if settings.augmentation.asked and not embedded:
        mask = present_mask(store, selection, np.intersect1d(wanted_stamps(experiment), store.times))
    domain = Domain.outline(
        store.latitude,
        store.longitude,
        selection.channels,
        selection.static,
        mask,
        on_pressure_levels=store.on_pressure_levels,
    )
    symmetries.check(settings.augmentation, domain.latitude, domain.longitude, domain.masks(experiment.data))
    points = domain.latitude.size * domain.longitude.size
    require_parts(settings.compute.mesh.space, count_vertices(experiment.model.mesh_size), points)
    levels = {name: [level for level, _ in domain.levels(name)] for name in experiment.data.targets}
    channel_factors(settings.loss.channel_weights, levels)
    if settings.freeze or settings.learning_rate_factors:
        network = jax.eval_shape(lambda: ReplayEmulator.untrained(experiment, domain).network)
        split(network, settings.freeze)
        rate_factors(network, settings.learning_rate_factors)
    if weights is not None:
        emulator = ReplayEmulator.untrained(experiment, domain)
        require_weights(emulator, weights) if settings.stages else model_as_it_is(emulator, weights)


def _check_land(experiment: Experiment, selection: Selection, era5: xr.Dataset | None) -> None:
    """Refuse land versions of regions where nothing says what is land."""
    wanted = [name for name in experiment.evaluation.regions if name.endswith(LAND)]
    data_have_it = bool({LAND_STATIC, LAND_SEA_MASK} & set(selection.static))
    era5_has_it = era5 is not None and LAND_SEA_MASK in era5
    without = [name for name in experiment.evaluation.truths if not (data_have_it or (name == "era5" and era5_has_it))]
    if wanted and without:
        data = experiment.data
        own = LAND_SEA_MASK if naming({*data.inputs, *data.targets}) == "WeatherBench2" else LAND_STATIC
        raise UserError(
            f"evaluation.regions has {', '.join(wanted)}, which needs to know what is land, and there is no {own} "
            f"among data.inputs{f' and no {LAND_SEA_MASK} in ERA5' if 'era5' in without else ''}; add it, or leave the "
            "region out"
        )


def _check_era5(experiment: Experiment, selection: Selection, store: ReplayStore) -> xr.Dataset:
    options = experiment.evaluation.era5
    era5 = open_zarr(options.url or "", storage_options=options_of(options), what="ERA5")
    check_observations(era5, f"ERA5 at {options.url}")
    grid_of(era5, f"ERA5 at {options.url}")
    targets = set(experiment.data.targets)
    names = {name: weatherbench_name(name) for name in sorted(targets)}
    shared = {name for name, known in names.items() if known in era5}
    on_layers = {channel.variable for channel in selection.channels if channel.level is not None}
    layered = shared & (set() if store.on_pressure_levels else on_layers)
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
    valid = _valid_times(experiment)
    _check_times(experiment, era5, valid)
    if options.climatology is not None:
        where = f"the climatology at {options.climatology}"
        climatology = open_zarr(options.climatology, storage_options=options_of(options), what="the climatology")
        check_climatology(climatology, where)
        known = {str(name).removesuffix("_mean") for name in climatology.data_vars}
        if lacking := sorted(names[name] for name in scored if names[name] not in known):
            raise UserError(f"{where} has no {', '.join(lacking)}; name one that has what is scored")
        needed = set(((valid - valid.astype("datetime64[D]")) // hours(1)).tolist())
        if absent := sorted(needed - {int(hour) for hour in climatology["hour"].values}):
            raise UserError(
                f"{where} has no {', '.join(f'{hour:02d}' for hour in absent)} UTC, for which there are forecasts; "
                "name one with these hours, or start forecasts at others"
            )
    return era5


def _valid_times(experiment: Experiment) -> np.ndarray:
    """The times [time] that forecasts are for."""
    initial, step = np.array(experiment.initial_times, "datetime64[ns]"), experiment.data.time_step
    return np.unique(initial[:, None] + hours(step) * np.arange(1, experiment.forecast.lead_time // step + 1))


def _check_times(experiment: Experiment, era5: xr.Dataset, valid: np.ndarray) -> None:
    if valid.size and not np.isin(valid, era5["time"].values).any():
        raise UserError(
            f"ERA5 at {experiment.evaluation.era5.url} has no field at any of the {valid.size} times that forecasts "
            f"are for, {text(valid[0])} to {text(valid[-1])}; choose a store that has them"
        )
