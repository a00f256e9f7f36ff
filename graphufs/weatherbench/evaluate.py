"""The step `evaluate`: score the forecasts of an experiment, and the baselines, against Replay, ERA5 or both.

What is learnt from the training years (the climatology and how fast anomalies fade) lies below the root under its own
hash and is shared by all experiments that mean the same; the scores lie in the run folder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from graphufs import parallel
from graphufs.config.credentials import to_worker, true
from graphufs.config.experiment import Experiment
from graphufs.data.dataset import PreparedData
from graphufs.errors import Stopped, UserError
from graphufs.replay.times import stamps_in, text
from graphufs.steps import Event, Progress, ShouldStop
from graphufs.storage.atomic import remove_folder
from graphufs.storage.checksums import Damaged, read_checked, write_checked
from graphufs.storage.lock import locked
from graphufs.storage.paths import Paths, digest
from graphufs.storage.provenance import provenance
from graphufs.storage.zarr_io import require_whole, store_damage
from graphufs.vocabulary.conventions import DRY_METRES, Convention
from graphufs.vocabulary.labels import json_number
from graphufs.weatherbench.climatology.compute import day_of_year
from graphufs.weatherbench.climatology.seeps import SeepsClimatology
from graphufs.weatherbench.climatology.thresholds import thresholds_in
from graphufs.weatherbench.inputs.channels import VECTORS
from graphufs.weatherbench.inputs.layout_checks import grid_of
from graphufs.weatherbench.references import Reference, Report, climatology_of, open_reference
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.results.table import shown_leads
from graphufs.weatherbench.scoring.baselines import baselines, lag_correlation
from graphufs.weatherbench.scoring.diagnostics import Diagnostics, diagnosed_leads
from graphufs.weatherbench.scoring.histograms import Histograms, merged_histograms
from graphufs.weatherbench.scoring.parallel import States, cores, merged, score_in_shares
from graphufs.weatherbench.scoring.score import FORECAST, score, spatial_means, usable_initial_times

Share = tuple[States, Diagnostics | None, Histograms | None]
"""What comes of some initial times: states, maps and spectra where these are kept, and histograms of ensembles."""

VERTICAL_UNITS = {"fv3": "hPa", "mom6": "m"}


def run(experiment: Experiment, root: Path, *, progress: Progress, should_stop: ShouldStop) -> dict[str, Any]:
    """Score the forecasts against each of the experiment's truths; see graphufs.steps.Run.

    Raises
    ------
    UserError
        If forecasts, prepared data or another truth are missing or do not fit together, or no initial time has its
        truth.
    Stopped
        After a polite stop. A finished climatology is kept.
    """
    paths = Paths(experiment, root)
    places = {name: paths.scores_against(name) for name in experiment.evaluation.truths}
    damaged = [path for path in sorted(paths.climatology.glob("[!.]*.zarr")) if store_damage(path) is not None]
    there = {name: _done(path, paths, damaged) for name, path in places.items()}
    todo = [name for name, scores in there.items() if scores is None]

    waiting = Event("waiting for another process that evaluates with the same climatology", 0, 1)
    if todo or damaged:
        with locked(paths.climatology, should_stop=should_stop, waiting=lambda: progress(waiting)):
            if todo:
                _require_forecasts(paths)
            for path in damaged:
                if path.is_dir() and store_damage(path) is not None:  # another process may have made it again
                    remove_folder(path)
            for name in todo:
                _evaluate(experiment, paths, name, progress, should_stop).write(places[name])
    first, *others = ((name, scores or Scores.open(places[name])) for name, scores in there.items())
    result = _result("completed" if todo else "unchanged", paths.scores, first[1])
    for name, scores in others:
        result[f"against_{name}"] = _result(result["status"], places[name], scores)
    return result


def _done(path: Path, paths: Paths, damaged: list[Path]) -> Scores | None:
    """The scores, if they are there and whole, and so is the climatology they were made with, which reports draw."""
    try:
        scores = Scores.open(path)
    except UserError:  # none, or damaged: both are made
        return None
    whole = scores.table_damage(path) is None
    return scores if whole and paths.root / scores.dataset.attrs.get("climatology", "") not in damaged else None


def _require_forecasts(paths: Paths) -> None:
    """See that there are forecasts, as they were written."""
    if not paths.forecasts.is_dir():
        raise UserError(f"no forecasts at {paths.forecasts}; run `graphufs forecast` with this experiment first")
    require_whole(paths.forecasts, "forecast")


def _evaluate(experiment: Experiment, paths: Paths, name: str, progress: Progress, should_stop: ShouldStop) -> Scores:
    def report(label: str, unit: str) -> Callable[[int, int], None]:
        def tell(done: int, total: int) -> None:
            progress(Event(label, done, total, unit))
            if should_stop() and done < total:
                raise Stopped(f"stopped in {label}; what is unfinished is done again")

        return tell

    options = experiment.evaluation
    prepared = PreparedData.open(paths.data)
    reference = open_reference(name, experiment, paths, prepared, report)
    forecasts = reference.forecasts
    correlation = _lag_correlation(experiment, paths, reference, report)
    usable, excluded = usable_initial_times(forecasts.initial_times, forecasts.leads, reference.usable)
    wanted = np.array(experiment.initial_times, "datetime64[ns]")
    unusable = {text(time): reference.lacking(at) for time, at in excluded.items()}
    unusable |= {text(time): "no forecast" for time in np.setdiff1d(wanted, forecasts.initial_times)}

    def here(times: np.ndarray, advance: Callable[[], None]) -> Share:
        # what reads stores keeps what it read last: no two threads can use the same
        own = reference if len(times) == len(usable) else _again(experiment, paths, name)
        return _score(experiment, own, correlation, times, lambda done, total: advance())

    label = "scores" if name == options.truths[0] else f"scores against {name}"
    with parallel.connected(options.dask, "evaluation.dask"):
        states, diagnostics, histograms = score_in_shares(
            usable,
            here,
            partial(_score_there, to_worker(experiment), str(paths.root), name, correlation),
            _merge,
            threads=cores(),
            progress=report(label, "initial times"),
            should_stop=should_stop,
        )
    variables = {channel.variable for channel in forecasts.channels}
    attributes = {
        "independent_initial_times": independent(experiment, usable),
        "excluded_initial_times": dict(sorted(unusable.items())),
        "truth": reference.description,
        "truth_name": reference.name,
        "not_scored": reference.left_out,
        "grid": forecasts.grid.description,
        "vertical": reference.vertical,
        "level_units": VERTICAL_UNITS[prepared.component],
        "native_levels": {f"{c.level:g}": c.native for c in prepared.channels if c.level is not None},
        "climatology": climatology_of(name, experiment, paths, forecasts.channels),
        "climatology_period": reference.climatology.attrs.get("period", str(experiment.climatology_period)),
        "climatology_window_days": experiment.evaluation.climatology_window,
        "climatology_frames": reference.climatology.attrs.get("frames", 0),
        "climatology_days_without_data": days_without_data(reference.climatology, usable, forecasts.leads),
        "hashes": paths.hashes,
        "provenance": provenance(),
    }
    units = {name: forecasts.attributes(name) for name in sorted(variables)}
    components = {name: units[of[0]] for name, of in VECTORS.items() if of[0] in units}
    kept = None if diagnostics is None else diagnostics.dataset()
    if histograms is not None:
        attributes["members"] = forecasts.members
    counted = None if histograms is None else histograms.dataset()
    return Scores.from_states(states, attributes, units | components, kept, counted)


def _diagnostics(experiment: Experiment, reference: Reference) -> Diagnostics | None:
    """What keeps maps and spectra, at the leads asked for that were forecast; None if none are asked for."""
    options, leads = experiment.evaluation, reference.forecasts.leads
    if not options.map_leads:
        return None
    return Diagnostics(
        reference.forecasts.channels,
        reference.forecasts.grid,
        diagnosed_leads(leads, options.map_leads),
        leads,
        convention=options.convention,
        skipna=options.skipna,
    )


def _score_there(content: str, root: str, name: str, correlation: np.ndarray, times: np.ndarray) -> Share:
    """Score some initial times on a dask worker."""
    experiment = Experiment.model_validate_json(true(content))
    reference = _again(experiment, Paths(experiment, Path(root)), name)
    return _score(experiment, reference, correlation, times, lambda done, total: None)


def _again(experiment: Experiment, paths: Paths, name: str) -> Reference:
    """A truth opened anew, whose climatology is there."""
    return open_reference(name, experiment, paths, PreparedData.open(paths.data), lambda *_: lambda done, total: None)


def _score(
    experiment: Experiment,
    reference: Reference,
    correlation: np.ndarray,
    times: np.ndarray,
    after_each: Callable[[int, int], None],
) -> Share:
    options = experiment.evaluation
    diagnostics, forecasts = _diagnostics(experiment, reference), reference.forecasts
    regions = ("global", *options.regions)
    thresholds = histograms = None
    if forecasts.members is not None:
        if forecasts.grid.agrees(grid_of(reference.climatology, "the climatology")):
            thresholds = thresholds_in(reference.climatology, forecasts.channels, forecasts.grid)
        quantiles = () if thresholds is None else thresholds.quantiles
        histograms = Histograms(forecasts.leads, forecasts.channels, regions, quantiles)
    states = score(
        forecasts,
        reference.truth,
        reference.climatology_reader,
        times,
        baselines(correlation) | reference.floor,
        regions=regions,
        land_sea_mask=reference.land,
        vectors=options.vectors,
        seeps=_seeps(reference, options.convention),
        convention=options.convention,
        skipna=options.skipna,
        thresholds=thresholds,
        histograms=histograms,
        observers=() if diagnostics is None else (diagnostics,),
        member_observers=() if diagnostics is None else (diagnostics,),
        after_each=after_each,
    )
    return states, diagnostics, histograms


def _merge(one: Share, other: Share) -> Share:
    (states, kept, counted), (others, too, more) = one, other
    maps = None if kept is None or too is None else kept.merge(too)
    return merged(states, others), maps, merged_histograms(counted, more)


def _seeps(reference: Reference, convention: Convention) -> SeepsClimatology | None:
    """The thresholds of precipitation, where the climatology has them on the grid of the scores."""
    channels = reference.forecasts.channels
    known = [f"{name}_seeps_threshold" for name, _ in channels if name in DRY_METRES]
    on_grid = reference.forecasts.grid.agrees(grid_of(reference.climatology, "the climatology"))
    if not known or not on_grid or not all(name in reference.climatology for name in known):
        return None
    return SeepsClimatology(reference.climatology, channels, reference.forecasts.grid, convention)


def _lag_correlation(experiment: Experiment, paths: Paths, reference: Reference, report: Report) -> np.ndarray:
    """The lag correlation [lead, channel] over the training period, from its file if it was computed before."""
    truth, leads = reference.truth, reference.forecasts.leads
    hours = (leads / np.timedelta64(1, "h")).tolist()
    period = experiment.data.training
    options = experiment.evaluation
    grid = {} if options.grid == "native" else {"grid": options.grid, "regridding": options.regridding}
    if reference.source or options.derived:
        grid |= {"source": reference.source, "channels": ", ".join(map(str, truth.channels))}
    key = digest({"period": str(period), "lead_hours": hours, **grid})
    path = paths.climatology / f"lag-correlation-{key}.json"
    names = [str(channel) for channel in truth.channels]
    with contextlib.suppress(FileNotFoundError, Damaged, KeyError, TypeError):  # damaged, it is computed again
        by_channel = read_checked(path)["correlation"]
        return np.array([by_channel[name] for name in names], np.float64).T
    stamps = np.intersect1d(stamps_in(period, experiment.data.time_step), truth.stamps)
    correlation = lag_correlation(
        truth,
        reference.climatology_reader,
        stamps,
        leads,
        spatial_means(truth),
        progress=report("damped persistence", "initial times"),
    )
    by_channel = dict(zip(names, correlation.T.tolist(), strict=True))
    write_checked(path, {"period": str(period), "lead_hours": hours, "correlation": by_channel})
    return correlation


def days_without_data(climatology: xr.Dataset, initial_times: np.ndarray, leads: np.ndarray) -> int:
    """How many of the scored days of the year the climatology has no data for within its window.

    Scored are the initial times [time] plus the leads [lead]. 0 if the climatology does not say.
    """
    if "covered" not in climatology:
        return 0
    days = np.unique(day_of_year(initial_times[:, None] + leads))
    covered = climatology["covered"].values[:, days - 1]
    return int((~covered).any(axis=0).sum())


def independent(experiment: Experiment, initial_times: np.ndarray) -> int:
    """How many forecasts [time] use and verify on no time of the training and validation periods."""
    before = timedelta(hours=(experiment.data.input_frames - 1) * experiment.data.time_step)
    after = timedelta(hours=experiment.forecast.lead_time)
    seen = (experiment.data.training, experiment.data.validation)
    times = initial_times.astype("datetime64[s]").tolist()
    return sum(all(time + after < period.start or time - before > period.end for period in seen) for time in times)


def _result(status: str, path: Path, scores: Scores) -> dict[str, Any]:
    leads = shown_leads(scores)
    hours = [f"{lead / np.timedelta64(1, 'h'):g}h" for lead in leads]
    worst = {
        baseline: {
            hour: json_number(np.max([scores.ratio(FORECAST, baseline, channel, lead) for channel in scores.channels]))
            for hour, lead in zip(hours, leads, strict=True)
        }
        for baseline in scores.forecasts
        if baseline != FORECAST
    }
    return {
        "status": status,
        "scores": str(path),
        "truth": scores.dataset.attrs["truth"],
        "initial_times": len(scores.initial_times),
        "excluded_initial_times": scores.dataset.attrs["excluded_initial_times"],
        "worst_rmse_ratio": worst,
    }
