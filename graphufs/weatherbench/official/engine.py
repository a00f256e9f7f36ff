"""The official engine: the package weatherbench2 scores the same files, and the difference is told.

Needs Google's package, which is on no package index. What is used of its interface: config.{Selection, Paths, Data,
Eval}, metrics.{MSE, MAE, Bias, ACC, SEEPS, WindVectorMSE}, regions.{SliceRegion, LandRegion, CombinedRegion},
derived_variables.DERIVED_VARIABLE_DICT, evaluation.{evaluate_in_memory, make_latitude_increasing}. It was run with
the real package at 021c0b3, whose scores were equal to 1e-8. The tests run it against a look-alike of that interface
(tests/official), whose scores equal the recorded ones of the real package (tests/golden).
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from rich.table import Table

from graphufs.config.credentials import true
from graphufs.errors import UserError
from graphufs.storage.atomic import remove_folder
from graphufs.storage.zarr_io import open_zarr, write_zarr
from graphufs.vocabulary.conventions import DRY_METRES
from graphufs.vocabulary.derived_variables import DERIVED_VARIABLES
from graphufs.vocabulary.regions import LAND, REGIONS, Box
from graphufs.weatherbench.inputs.channels import VECTORS
from graphufs.weatherbench.results.official_files import weatherbench2_results
from graphufs.weatherbench.score_request import OpenStores, ScoreRequest, StorePaths
from graphufs.weatherbench.score_stores import ScoringResult
from graphufs.weatherbench.scoring.score import FORECAST

PACKAGE = "weatherbench2"
CONFIG = "official_deterministic"
"""The name of the official results' file."""

INSTALL = (
    "the official engine needs Google's own source in this environment: "
    '`pip install --no-deps "git+https://github.com/google-research/weatherbench2"`, and what it imports, with nothing '
    "of the lock moved, with `.tools/bin/uv pip install --python .venv/bin/python --override requirements/dev.lock "
    "absl-py apache-beam xarray-beam scikit-learn` in a checkout. Or leave --engine out: graphufs' own scores need "
    "none of it"
)
METRICS = ("acc", "bias", "mae", "mse", "seeps_24hr", "seeps_6hr")
"""What both score."""


class Difference(NamedTuple):
    """How far two engines are apart for a variable and a metric, over all regions, leads and levels."""

    variable: str
    metric: str
    ours: float
    """Ours where they differ most."""
    official: float
    relative: float
    """The largest difference; of a bias, relative to the root mean square error."""
    nan: int
    """How many scores only one of the two has: `lone` in the table."""


def require() -> None:
    """Check that the official package can be imported.

    Raises
    ------
    UserError
        If not; the message says how to get it.
    """
    if find_spec(PACKAGE) is None:
        raise UserError(INSTALL)


def run(stores: StorePaths, wanted: ScoreRequest, folder: Path) -> xr.Dataset:
    """Let the official engine score stores; its results, which also lie in `folder`.

    The request names its variables (those in the files; derived ones are named in `derived`), levels, regions and
    period: nothing is found out here.

    Raises
    ------
    UserError
        If the package is not there, cannot be imported, or fails.
    """
    require()
    try:
        config, evaluation = (importlib.import_module(f"{PACKAGE}.{name}") for name in ("config", "evaluation"))
        metrics = _metrics(stores, wanted, evaluation)
        regions = _regions(stores, wanted)
        derived = (
            importlib.import_module(f"{PACKAGE}.derived_variables").DERIVED_VARIABLE_DICT if wanted.derived else {}
        )
    except (ImportError, AttributeError) as error:
        raise UserError(f"the package {PACKAGE} is there but cannot be imported ({error}); {INSTALL}") from error
    if lacking := [name for name in wanted.derived if name not in derived]:
        raise UserError(f"the official engine knows no derived variable {', '.join(lacking)}; leave it out")
    folder.mkdir(parents=True, exist_ok=True)
    first, last = (str(time.astype("datetime64[s]")) for time in wanted.period or ())
    data = config.Data(
        selection=config.Selection(
            variables=list(wanted.variables or ()),
            levels=[int(level) if float(level).is_integer() else level for level in wanted.levels or ()] or None,
            time_slice=slice(first, last),
        ),
        paths=config.Paths(
            forecast=true(stores.forecast),
            obs=true(stores.truth),
            climatology=true(stores.climatology),
            output_dir=str(folder),
        ),
        by_init=not wanted.by_valid,
        rename_variables=dict(stores.rename) or None,
        pressure_level_suffixes=stores.pressure_level_suffixes,
    )
    scored = config.Eval(metrics=metrics, regions=regions, derived_variables={n: derived[n] for n in wanted.derived})
    try:
        evaluation.evaluate_in_memory(data, {CONFIG: scored}, skipna=wanted.skipna)
    # the official code raises what its libraries raise: all of it is told, none of it is ours
    except Exception as error:
        raise UserError(f"the official engine failed ({type(error).__name__}: {error})") from error
    with xr.open_dataset(folder / f"{CONFIG}.nc") as results:
        return results.load()


def _metrics(stores: StorePaths, wanted: ScoreRequest, evaluation: Any) -> dict[str, Any]:
    official = importlib.import_module(f"{PACKAGE}.metrics")
    climatology = evaluation.make_latitude_increasing(open_zarr(stores.climatology))
    variables = wanted.variables or ()
    vectors = [
        official.WindVectorMSE(u_name=u, v_name=v, vector_name=name)
        for name, (u, v) in VECTORS.items()
        if u in variables and v in variables
    ]
    metrics = {
        "mse": official.MSE(wind_vector_mse=vectors),
        "acc": official.ACC(climatology=climatology),
        "bias": official.Bias(),
        "mae": official.MAE(),
    }
    thresholds = climatology
    if stores.seeps is not None:
        thresholds = evaluation.make_latitude_increasing(open_zarr(stores.seeps))
    for name, dry in DRY_METRES.items():
        if name in variables and f"{name}_seeps_threshold" in thresholds:
            metrics[f"seeps_{name.rsplit('_', 1)[1]}"] = official.SEEPS(
                climatology=thresholds, precip_name=name, dry_threshold_mm=1000 * dry
            )
    return metrics


def _regions(stores: StorePaths, wanted: ScoreRequest) -> dict[str, Any]:
    official = importlib.import_module(f"{PACKAGE}.regions")
    land, names = None, wanted.regions or ()
    if any(name.endswith(LAND) for name in names):
        evaluation = importlib.import_module(f"{PACKAGE}.evaluation")
        dataset = evaluation.make_latitude_increasing(open_zarr(stores.land_sea_mask or stores.truth))
        mask = dataset["land_sea_mask"].compute()
        land = official.LandRegion(land_sea_mask=mask)
    made = {}
    for name in names:
        region = official.SliceRegion(**_slices(REGIONS["WeatherBench2"][name.removesuffix(LAND)]))
        made[name] = official.CombinedRegion(regions=[region, land]) if name.endswith(LAND) else region
    return made


def _slices(boxes: Sequence[Box]) -> dict[str, Any]:
    """A region's slices of latitude and longitude; one that reaches over the meridian has two."""
    latitudes = [slice(box.south, box.north) for box in boxes]
    box = boxes[0]
    longitudes = [slice(box.west, box.east)] if box.west <= box.east else [slice(box.west, None), slice(None, box.east)]
    return {"lat_slice": latitudes, "lon_slice": longitudes}


def differences(ours: xr.Dataset, official: xr.Dataset) -> list[Difference]:
    """Compare results in WeatherBench2's layout.

    Raises
    ------
    UserError
        If they have nothing in common.
    """
    found = []
    for variable in sorted(set(map(str, ours.data_vars)) & set(map(str, official.data_vars))):
        mine, theirs = xr.align(ours[variable], official[variable], join="inner", exclude={"metric"})
        for metric in METRICS:
            if metric not in mine["metric"] or metric not in theirs["metric"]:
                continue
            dims = mine.isel(metric=0).dims
            one, other = (part.sel(metric=metric).transpose(*dims).values for part in (mine, theirs))
            here = np.isfinite(one) & np.isfinite(other)
            lone = int((np.isfinite(one) != np.isfinite(other)).sum())
            if not here.any():
                if lone:
                    found.append(Difference(variable, metric, np.nan, np.nan, np.nan, lone))
                continue
            scale = np.sqrt(mine.sel(metric="mse").transpose(*dims).values) if metric == "bias" else np.abs(other)
            with np.errstate(invalid="ignore", divide="ignore"):
                relative = np.where(one == other, 0.0, np.abs(one - other) / scale)
            relative[~here] = -1
            at = np.unravel_index(relative.argmax(), relative.shape)
            found.append(Difference(variable, metric, one[at], other[at], float(relative[at]), lone))
    if not found:
        raise UserError("the two engines have no score in common")
    return found


def table(found: Sequence[Difference]) -> Table:
    """The differences for a terminal."""
    made = Table(
        title="graphufs and weatherbench2, where they differ most", title_justify="left", box=None, padding=(0, 1, 0, 0)
    )
    made.add_column("variable", min_width=max((len(one.variable) for one in found), default=0))
    made.add_column("metric", min_width=5)
    for heading in ("graphufs", "weatherbench2", "difference", "lone"):
        made.add_column(heading, justify="right", no_wrap=True)
    for one in found:
        values = (f"{one.ours:.7g}", f"{one.official:.7g}", f"{one.relative:.1e}")
        made.add_row(one.variable, one.metric, *values, str(one.nan) if one.nan else "")
    return made


def compare_stores(
    stores: StorePaths, opened: OpenStores, wanted: ScoreRequest, outcome: ScoringResult, folder: Path
) -> Table:
    """Let the official engine score the stores that an outcome is of; the differences for a terminal.

    Where initial times were left out for want of truth, which the official engine cannot do, it is given a copy of the
    forecasts without them.
    """
    state = outcome.states[FORECAST]
    times, axes = state.initial_times, state.axes
    made = {DERIVED_VARIABLES[name].variable for name in wanted.derived}
    variables = sorted({name for name, _ in axes.channels} - made - set(VECTORS))
    levels = sorted({level for _, level in axes.channels if level is not None})
    copy = folder / ".forecasts-for-the-official-engine.zarr"
    try:
        if outcome.excluded:
            there = opened.forecast["time"].values
            write_zarr(copy, {None: opened.forecast.isel(time=np.isin(there, times)).load()})
            stores = replace(stores, forecast=str(copy), rename={}, pressure_level_suffixes=False)
        asked = replace(
            wanted,
            variables=tuple(variables),
            levels=tuple(levels),
            regions=axes.regions,
            period=(times.min(), times.max()),
        )
        return table(differences(weatherbench2_results(state), run(stores, asked, folder)))
    finally:
        remove_folder(copy)
