"""The step `evaluate`: score the forecasts of an experiment, and the baselines, against the prepared Replay data.

What is learnt from the training years (the climatology and how fast anomalies fade) lies below the root under its own
hash and is shared by all experiments that mean the same; the scores lie in the run folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from graphufs.errors import Stopped, UserError
from graphufs.experiment import Experiment
from graphufs.files import write_json
from graphufs.layout import Layout, digest
from graphufs.lock import locked
from graphufs.provenance import provenance
from graphufs.replay.frames import PreparedData
from graphufs.replay.times import stamps_in, text
from graphufs.replay.variables import weatherbench_name
from graphufs.steps import Event, Progress, ShouldStop
from graphufs.weatherbench.baselines import baselines, lag_correlation
from graphufs.weatherbench.climatology import day_of_year
from graphufs.weatherbench.climatology_store import Climatology, write_store
from graphufs.weatherbench.layout import Forecasts, Grid, open_zarr
from graphufs.weatherbench.regridding import RegriddedNormals, RegriddedTruth, Regridder, named_grid
from graphufs.weatherbench.scores import Scores
from graphufs.weatherbench.scoring import FORECAST, score, spatial_means, usable_initial_times
from graphufs.weatherbench.table import shown_leads
from graphufs.weatherbench.truth import Normals, PreparedTruth, Truth

LAND = "land_static"
"""Replay's land mask that does not change with sea ice: 1 is land."""

VERTICAL_UNITS = {"fv3": "hPa", "mom6": "m"}


def run(experiment: Experiment, root: Path, *, progress: Progress, should_stop: ShouldStop) -> dict[str, Any]:
    """Score the forecasts; see graphufs.steps.Run.

    Raises
    ------
    UserError
        If forecasts or prepared data are missing or do not fit together, or no initial time has its truth.
    Stopped
        After a polite stop. A finished climatology is kept.
    """
    layout = Layout(experiment, root)
    if layout.scores.is_dir():
        return _result("unchanged", layout, Scores.open(layout.scores))
    if not layout.forecasts.is_dir():
        raise UserError(f"no forecasts at {layout.forecasts}; run `graphufs forecast` with this experiment first")

    def waiting() -> None:
        progress(Event("waiting for another process that evaluates with the same climatology", 0, 1))

    with locked(layout.climatology, should_stop=should_stop, waiting=waiting):
        scores = _evaluate(experiment, layout, progress, should_stop)
        scores.write(layout.scores)
    return _result("completed", layout, scores)


def _evaluate(experiment: Experiment, layout: Layout, progress: Progress, should_stop: ShouldStop) -> Scores:
    def report(label: str, unit: str) -> Callable[[int, int], None]:
        def tell(done: int, total: int) -> None:
            progress(Event(label, done, total, unit))
            if should_stop() and done < total:
                raise Stopped(f"stopped in {label}; what is unfinished is done again")

        return tell

    targets = [weatherbench_name(name) for name in experiment.data.targets]
    forecasts = Forecasts.open(layout.forecasts, targets)
    prepared = PreparedData.open(layout.data)
    truth = PreparedTruth(prepared, forecasts.channels, forecasts.grid)
    climatology_stamps = np.intersect1d(
        stamps_in(experiment.climatology_period, experiment.data.time_step), truth.stamps
    )
    path = layout.climatology / "climatology.zarr"
    if not path.is_dir():
        write_store(
            path,
            truth,
            climatology_stamps,
            {
                "period": str(experiment.climatology_period),
                "window_days": experiment.evaluation.climatology_window,
                "method": "explicit, triangular window (WeatherBench2)",
                "vertical": forecasts.vertical,
                "frames": int(climatology_stamps.size),
                "provenance": provenance(),
            },
            window=experiment.evaluation.climatology_window,
            progress=report("climatology", "frames"),
        )
    dataset = open_zarr(path)
    normals: Normals = Climatology(dataset, forecasts.channels, forecasts.grid)
    scored: Truth = truth
    land = _land(prepared, truth)
    options = experiment.evaluation
    if options.grid != "native":
        regridder = Regridder(forecasts.grid, named_grid(options.grid), options.regridding)
        forecasts, scored = forecasts.regridded(regridder), RegriddedTruth(truth, regridder)
        normals = RegriddedNormals(normals, regridder)
        land = None if land is None else regridder(land)
    correlation = _lag_correlation(experiment, layout, scored, normals, forecasts.leads, report)
    usable, excluded = usable_initial_times(forecasts.initial_times, forecasts.leads, truth.stamps)
    wanted = np.array(experiment.initial_times, "datetime64[ns]")
    unusable = {text(time): f"no usable truth at {text(at)}" for time, at in excluded.items()}
    unusable |= {text(time): "no forecast" for time in np.setdiff1d(wanted, forecasts.initial_times)}
    states = score(
        forecasts,
        scored,
        normals,
        usable,
        baselines(correlation),
        regions=("global", *options.regions),
        land_sea_mask=land,
        convention=options.convention,
        skipna=options.skipna,
        after_each=report("scores", "initial times"),
    )
    attributes = {
        "independent_initial_times": independent(experiment, usable),
        "excluded_initial_times": dict(sorted(unusable.items())),
        "truth": f"the prepared Replay data themselves, from {experiment.data.source.url}",
        "grid": forecasts.grid.description,
        "vertical": forecasts.vertical,
        "level_units": VERTICAL_UNITS[prepared.component],
        "native_levels": {f"{c.level:g}": c.native for c in prepared.channels if c.level is not None},
        "climatology_period": str(experiment.climatology_period),
        "climatology_window_days": experiment.evaluation.climatology_window,
        "climatology_frames": dataset.attrs["frames"],
        "climatology_days_without_data": days_without_data(dataset, usable, forecasts.leads),
        "hashes": layout.hashes,
        "provenance": provenance(),
    }
    return Scores.from_states(states, attributes, {name: forecasts.attributes(name) for name in targets})


def _land(prepared: PreparedData, truth: PreparedTruth) -> np.ndarray | None:
    """The fraction of land, [lat, lon] in the truth's order of latitudes; None where the data have no land mask."""
    if (mask := prepared.static.get(LAND)) is None:
        return None
    own = Grid(prepared.latitude, prepared.longitude)
    return (mask == 1).astype(np.float64)[truth.grid.orientation(own, "the prepared data")]


def _lag_correlation(
    experiment: Experiment,
    layout: Layout,
    truth: Truth,
    climatology: Normals,
    leads: np.ndarray,
    report: Callable[[str, str], Callable[[int, int], None]],
) -> np.ndarray:
    """The lag correlation [lead, channel] over the training period, from its file if it was computed before."""
    hours = (leads / np.timedelta64(1, "h")).tolist()
    period = experiment.data.training
    options = experiment.evaluation
    grid = {} if options.grid == "native" else {"grid": options.grid, "regridding": options.regridding}
    key = digest({"period": str(period), "lead_hours": hours, **grid})
    path = layout.climatology / f"lag-correlation-{key}.json"
    names = [str(channel) for channel in truth.channels]
    if path.is_file():
        by_channel = json.loads(path.read_text())["correlation"]
        return np.array([by_channel[name] for name in names]).T
    stamps = np.intersect1d(stamps_in(period, experiment.data.time_step), truth.stamps)
    correlation = lag_correlation(
        truth, climatology, stamps, leads, spatial_means(truth), progress=report("damped persistence", "initial times")
    )
    by_channel = dict(zip(names, correlation.T.tolist(), strict=True))
    write_json(path, {"period": str(period), "lead_hours": hours, "correlation": by_channel})
    return correlation


def days_without_data(climatology: xr.Dataset, initial_times: np.ndarray, leads: np.ndarray) -> int:
    """How many of the scored days of the year the climatology has no data for within its window."""
    days = np.unique(day_of_year(initial_times[:, None] + leads))
    covered = climatology["covered"].values[:, days - 1]
    return int((~covered).any(axis=0).sum())


def independent(experiment: Experiment, initial_times: np.ndarray) -> int:
    """How many forecasts use and verify on no time of the training and validation periods."""
    before = timedelta(hours=(experiment.data.input_frames - 1) * experiment.data.time_step)
    after = timedelta(hours=experiment.forecast.lead_time)
    seen = (experiment.data.training, experiment.data.validation)
    times = initial_times.astype("datetime64[s]").tolist()
    return sum(all(time + after < period.start or time - before > period.end for period in seen) for time in times)


def _result(status: str, layout: Layout, scores: Scores) -> dict[str, Any]:
    leads = shown_leads(scores)
    hours = [f"{lead / np.timedelta64(1, 'h'):g}h" for lead in leads]
    worst: dict[str, dict[str, float | None]] = {}
    for baseline in scores.forecasts:
        if baseline != FORECAST:
            worst[baseline] = {
                hour: _json(np.max([scores.ratio(FORECAST, baseline, channel, lead) for channel in scores.channels]))
                for hour, lead in zip(hours, leads, strict=True)
            }
    return {
        "status": status,
        "scores": str(layout.scores),
        "initial_times": len(scores.initial_times),
        "excluded_initial_times": scores.dataset.attrs["excluded_initial_times"],
        "worst_rmse_ratio": worst,
    }


def _json(value: float) -> float | None:
    """A number rounded for reading; None for NaN and infinity, which JSON lacks."""
    return round(float(value), 4) if np.isfinite(value) else None
