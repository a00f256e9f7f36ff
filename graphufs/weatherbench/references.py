"""What an experiment's forecasts are scored against: the prepared Replay data, or ERA5 in WeatherBench2's layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xarray as xr

from graphufs import masking
from graphufs.config.experiment import Experiment
from graphufs.data.dataset import PreparedData
from graphufs.data.static_fields import land_fraction
from graphufs.errors import UserError
from graphufs.grid.grid import Grid
from graphufs.grid.regridding import Method, Regridder
from graphufs.replay.times import stamps_in, text
from graphufs.storage.credentials import options_of
from graphufs.storage.paths import Paths, digest
from graphufs.storage.provenance import provenance
from graphufs.storage.zarr_io import open_zarr, require_whole, store_damage
from graphufs.vocabulary.conventions import DRY_METRES
from graphufs.vocabulary.derived_variables import DERIVED_VARIABLES
from graphufs.vocabulary.variables import weatherbench_name
from graphufs.weatherbench.climatology.store import write_store
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.inputs.derived_truth import DerivedTruth
from graphufs.weatherbench.inputs.forecasts import Forecasts
from graphufs.weatherbench.inputs.layout_checks import grid_of
from graphufs.weatherbench.inputs.native_layers import as_levels
from graphufs.weatherbench.inputs.truth import ClimatologyReader, FrameWindow, PreparedTruth, Truth
from graphufs.weatherbench.on_grid import RegriddedTruth, climatology_on, forecasts_on, land_on, truth_on
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.scoring.baselines import Baseline

FLOOR = "replay"
"""The name of Replay scored as a forecast of itself against another truth."""

Report = Callable[[str, str], Callable[[int, int], None]]
"""From a label and a unit to what is told of the progress."""


@dataclass(frozen=True)
class Reference:
    """A truth, on the grid of the scores, with all that is scored against it."""

    name: str
    """`replay` or `era5`."""
    description: str
    forecasts: Forecasts
    truth: Truth
    climatology_reader: ClimatologyReader
    climatology: xr.Dataset
    usable: np.ndarray
    """The times with all that scores need."""
    lacking: Callable[[np.datetime64], str]
    """Why a time is none of these."""
    land: np.ndarray | None
    vertical: str
    floor: dict[str, Baseline] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    """The forecasts' variables that are not scored, and why."""
    source: str = ""
    """Tells truths apart whose statistics must not be mixed; none for Replay."""


def open_reference(
    name: str,
    experiment: Experiment,
    paths: Paths,
    prepared: PreparedData,
    report: Report,
    forecasts: xr.Dataset | None = None,
) -> Reference:
    """What an experiment's forecasts are scored against, its climatology made if there is none yet.

    The `forecasts` are in their store's layout; where they are not given they are those of the store.

    Raises
    ------
    UserError
        If it cannot be read, or does not fit the forecasts.
    """
    make = _against_replay if name == "replay" else _against_era5
    return make(experiment, paths, prepared, report, forecasts)


def climatology_of(name: str, experiment: Experiment, paths: Paths, channels: Sequence[Channel]) -> str:
    """Where the climatology of a truth lies or will lie: an address, or a path relative to the root."""
    options = experiment.evaluation
    if name == "era5" and options.era5.climatology is not None:
        return options.era5.climatology
    folder = paths.climatology.relative_to(paths.root)
    if name == "replay":
        own = "climatology" if not options.derived else f"climatology-{digest(sorted(options.derived))}"
        return str(folder / f"{own}.zarr")
    key = digest({"url": masking.place(options.era5.url or ""), "channels": sorted(map(str, channels))})
    return str(folder / f"era5-{key}.zarr")


def open_climatology(scores: Scores, experiment: Experiment, paths: Paths) -> xr.Dataset:
    """The climatology that scores were made with.

    Raises
    ------
    UserError
        If it is not there, or one of ours is damaged.
    """
    place = scores.dataset.attrs.get("climatology") or climatology_of("replay", experiment, paths, ())
    own = paths.root / place
    if own.is_dir():
        require_whole(own, "evaluate")
    options = experiment.evaluation.era5
    if place == options.climatology:
        place = options.climatology  # scores tell it without its credentials
    return open_zarr(own if own.is_dir() else place, storage_options=options_of(options))


def _forecasts(
    experiment: Experiment, paths: Paths, dataset: xr.Dataset | None, variables: Sequence[str] | None = None
) -> Forecasts:
    """The forecasts given or else those that lie there, with the derived variables asked for."""
    derived = [
        name
        for name in experiment.evaluation.derived
        if variables is None or DERIVED_VARIABLES[name].variable in variables
    ]
    if variables is None:
        targets = [weatherbench_name(name) for name in experiment.data.targets]
        variables = [*targets, *(DERIVED_VARIABLES[name].variable for name in derived)]
    dataset = open_zarr(paths.forecasts) if dataset is None else dataset
    return Forecasts(dataset, variables, origin=str(paths.forecasts), derived=derived)


def _replay(prepared: PreparedData, channels: Sequence[Channel], derived: Sequence[str], grid: Grid) -> Truth:
    """The prepared data as a truth."""
    there = {channel.variable for channel in channels}
    made = [name for name in derived if DERIVED_VARIABLES[name].variable in there]
    if not made:
        return PreparedTruth(prepared, channels, grid)
    return DerivedTruth(lambda wanted: PreparedTruth(prepared, wanted, grid), channels, made)


def _against_replay(
    experiment: Experiment, paths: Paths, prepared: PreparedData, report: Report, given: xr.Dataset | None
) -> Reference:
    options = experiment.evaluation
    native = _forecasts(experiment, paths, given)
    truth = _replay(prepared, native.channels, options.derived, native.grid)
    path = paths.root / climatology_of("replay", experiment, paths, native.channels)
    _write_climatology(path, experiment, truth, native.vertical, report)
    dataset = open_zarr(path)
    forecasts, method = forecasts_on(options.grid, native, options.regridding)
    return Reference(
        name="replay",
        description=f"the prepared {'analysis itself' if prepared.on_pressure_levels else 'Replay data themselves'}, "
        f"from {experiment.data.source.url}",
        forecasts=forecasts,
        truth=_regridded_truth(truth, forecasts.grid, options.regridding),
        climatology_reader=climatology_on(forecasts.grid, dataset, forecasts.channels, method),
        climatology=dataset,
        usable=truth.stamps,
        lacking=lambda time: f"no usable truth at {text(time)}",
        land=_land(prepared, native.grid, forecasts.grid, options.regridding),
        vertical=native.vertical,
    )


def _against_era5(
    experiment: Experiment, paths: Paths, prepared: PreparedData, report: Report, given: xr.Dataset | None
) -> Reference:
    options = experiment.evaluation
    era5 = open_zarr(options.era5.url or "", storage_options=options_of(options.era5))
    whole = _forecasts(experiment, paths, given)
    variables, left_out = _comparable(whole, era5, experiment)
    native = _forecasts(experiment, paths, given, variables)
    vertical = native.vertical
    if vertical not in ("pressure levels", "surface only"):
        vertical = as_levels(
            {c.level: c.native for c in prepared.channels if c.level is not None and c.native is not None},
            experiment.data.source.url,
        )
    forecasts, method = forecasts_on(options.grid, native, options.regridding)
    made = [name for name in options.derived if DERIVED_VARIABLES[name].variable not in era5]
    made = [name for name in made if DERIVED_VARIABLES[name].variable in variables]
    truth = truth_on(forecasts.grid, era5, forecasts.channels, method, made, "ERA5")
    path = climatology_of("era5", experiment, paths, native.channels)
    if options.era5.climatology is None:
        own = truth_on(grid_of(era5, "ERA5"), era5, forecasts.channels, None, made, "ERA5")
        _write_climatology(paths.root / path, experiment, own, vertical, report)
        climatology = open_zarr(paths.root / path)
    else:
        climatology = open_zarr(path, storage_options=options_of(options.era5))
    replay = _replay(prepared, native.channels, options.derived, native.grid)
    stamps, of_replay = np.intersect1d(truth.stamps, replay.stamps), replay.stamps
    window = FrameWindow(_regridded_truth(replay, forecasts.grid, options.regridding).read)
    land = land_on(forecasts.grid, era5, method)
    if land is None:
        land = _land(prepared, native.grid, forecasts.grid, options.regridding)
    return Reference(
        name="era5",
        description=f"ERA5 in WeatherBench2's layout, from {options.era5.url}",
        forecasts=forecasts,
        truth=truth,
        climatology_reader=climatology_on(forecasts.grid, climatology, forecasts.channels, method),
        climatology=climatology,
        usable=stamps,
        lacking=lambda time: f"no {'ERA5' if time in of_replay else 'usable prepared data'} at {text(time)}",
        land=land,
        vertical=vertical,
        floor={FLOOR: lambda inputs: window.read(inputs.valid)},
        left_out=left_out,
        source=masking.place(options.era5.url or ""),
    )


def _comparable(forecasts: Forecasts, era5: xr.Dataset, experiment: Experiment) -> tuple[list[str], dict[str, str]]:
    """The forecasts' variables that ERA5 has too, and why the others are not scored.

    Raises
    ------
    UserError
        If some lie on native layers and nothing was said about it, or none is left.
    """
    options = experiment.evaluation
    known = set(map(str, era5.data_vars))
    known |= {
        DERIVED_VARIABLES[name].variable
        for name in options.derived
        if set(DERIVED_VARIABLES[name].inputs) <= known and not DERIVED_VARIABLES[name].hours
    }
    on_layers = forecasts.vertical not in ("pressure levels", "surface only")
    variables, left_out = [], {}
    for name in dict.fromkeys(channel.variable for channel in forecasts.channels):
        layered = on_layers and any(c.variable == name and c.level is not None for c in forecasts.channels)
        if name not in known:
            left_out[name] = "ERA5 has no such variable"
        elif layered and options.era5.native_layers == "refuse":
            raise UserError(
                f"{name} lies on {forecasts.vertical}, which follow the ground, and ERA5 on pressure levels: the two "
                "cannot be compared. Set evaluation.era5.native_layers to leave_out to score the surface only, or to "
                "as_levels where layers are near enough to the levels they are called by"
            )
        elif layered and options.era5.native_layers == "leave_out":
            left_out[name] = f"it lies on {forecasts.vertical}, not on pressure levels"
        else:
            variables.append(name)
    if not variables:
        reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise UserError(f"no variable of the forecasts can be compared with ERA5 ({reasons})")
    return variables, left_out


def _write_climatology(path: Path, experiment: Experiment, truth: Truth, vertical: str, report: Report) -> None:
    """Make a climatology from the years of the experiment, where it is not there."""
    if path.is_dir() and store_damage(path, thorough=False) is None:
        return
    write_climatology(path, experiment, truth, vertical, report("climatology", "frames"))


def write_climatology(
    path: Path,
    experiment: Experiment,
    truth: Truth,
    vertical: str,
    progress: Callable[[int, int], None],
    period: tuple[np.datetime64, np.datetime64] | None = None,
) -> int:
    """Write the climatology of a truth, with the experiment's window; return the number of stamps it is of.

    Its dimensions are (hour, dayofyear, [level], latitude, longitude), as WeatherBench2 has them. It is of the stamps
    in a period, both ends included, by default of the experiment's stamps in its own.

    Raises
    ------
    UserError
        If there are none.
    """
    if period is None:
        stamps = np.intersect1d(stamps_in(experiment.climatology_period, experiment.data.time_step), truth.stamps)
        told = str(experiment.climatology_period)
    else:
        stamps = truth.stamps[(truth.stamps >= period[0]) & (truth.stamps <= period[1])]
        told = "..".join(text(stamp) for stamp in (stamps[[0, -1]] if stamps.size else period))
    write_store(
        path,
        truth,
        stamps,
        {
            "period": told,
            "window_days": experiment.evaluation.climatology_window,
            "method": "explicit, triangular window (WeatherBench2)",
            "vertical": vertical,
            "frames": int(stamps.size),
            "provenance": provenance(),
        },
        window=experiment.evaluation.climatology_window,
        seeps=any(channel.variable in DRY_METRES for channel in truth.channels),
        progress=progress,
    )
    return int(stamps.size)


def _land(prepared: PreparedData, grid: Grid, target: Grid, method: Method) -> np.ndarray | None:
    """The fraction of land, [lat, lon] on `target`, from `grid`, that of the data; None where these have no mask."""
    if (fraction := land_fraction(prepared.static)) is None:
        return None
    own = Grid(prepared.latitude, prepared.longitude)
    fraction = fraction[grid.orientation(own, "the prepared data")]
    return fraction if target.agrees(grid) else Regridder(grid, target, method)(fraction)


def _regridded_truth(truth: Truth, target: Grid, method: Method) -> Truth:
    return truth if target.agrees(truth.grid) else RegriddedTruth(truth, Regridder(truth.grid, target, method))
