"""The step `report`: the scores of an experiment as one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.config.request import Request
from graphufs.data.dataset import PreparedData
from graphufs.data.static_fields import land_fraction
from graphufs.errors import Stopped, UserError
from graphufs.grid.grid import Grid
from graphufs.report import training_log
from graphufs.report.ensemble.plumes import plumes
from graphufs.report.maps import Case
from graphufs.report.page import Content, render
from graphufs.report.typical import typical_lead, typical_time
from graphufs.steps import Event, Progress, ShouldStop
from graphufs.storage import run_files
from graphufs.storage.paths import Paths, digest
from graphufs.storage.zarr_io import require_whole
from graphufs.vocabulary.variables import weatherbench_name
from graphufs.weatherbench.climatology.store import Climatology
from graphufs.weatherbench.inputs.forecasts import Forecasts
from graphufs.weatherbench.inputs.truth import PreparedTruth
from graphufs.weatherbench.references import open_climatology
from graphufs.weatherbench.results.scores import Scores

FORMAT = 2
"""Raised when the page's making changes, so that old pages are made anew."""

MAP_LEADS = tuple(np.timedelta64(hours, "h") for hours in (24, 72, 120, 240))


def run(experiment: Experiment, root: Path, *, progress: Progress, should_stop: ShouldStop) -> dict[str, Any]:
    """Write the report; see graphufs.steps.Run.

    Raises
    ------
    UserError
        If there are no scores yet, or what the page is made of is damaged.
    """
    paths = Paths(experiment, root)
    scores = Scores.open(paths.scores)
    key = _key(experiment, paths, scores)
    if _is_of(paths, paths.report, key):
        return {"status": "unchanged", "report": str(paths.report)}
    progress(Event("report", 0, 2, "parts"))
    content = _content(experiment, paths, scores)
    if should_stop():
        raise Stopped("stopped before drawing; nothing was written")
    progress(Event("report", 1, 2, "parts"))
    run_files.keep(paths.run, _name(paths, paths.report), render(content, key))
    progress(Event("report", 2, 2, "parts"))
    return {"status": "completed", "report": str(paths.report), "bytes": paths.report.stat().st_size}


def write_nightly(path: Path, experiment: Experiment, paths: Paths, scores: Scores) -> bool:
    """Write the report on the nights so far to `path`, with maps of tonight's forecasts; False if it is there already.

    The experiment is tonight's, the scores are those of all nights.
    """
    key = digest({"format": FORMAT, "scores": scores.checksums, "holes": scores.dataset.attrs["holes"]})
    if _is_of(paths, path, key):
        return False
    times = tuple(scores.initial_times.astype("datetime64[s]").tolist())
    forecast = experiment.forecast.model_copy(update={"period": None, "initial_times": times})
    whole = experiment.model_copy(update={"forecast": forecast})
    run_files.keep(paths.run, _name(paths, path), render(_content(whole, paths, scores), key))
    return True


def _is_of(paths: Paths, path: Path, key: str) -> bool:
    """Whether the page at `path` was made from what `key` stands for, and is whole."""
    if not path.is_file() or f'content="{key}"' not in path.read_text("utf-8", errors="replace")[:2000]:
        return False
    return run_files.damage(paths.run, _name(paths, path)) is None


def _name(paths: Paths, path: Path) -> str:
    return path.relative_to(paths.run).as_posix()


def _content(experiment: Experiment, paths: Paths, scores: Scores) -> Content:
    """What a page on the scores is made of; its maps are of a typical one of the layout's forecasts."""
    if wrong := run_files.damage(paths.run, run_files.METRICS):
        raise UserError(wrong)
    prepared = PreparedData.open(paths.data)
    grid = Grid(prepared.latitude, prepared.longitude)
    lead = typical_lead(scores)
    case = found = None
    if paths.forecasts.is_dir() and scores.truth_name == "replay":
        require_whole(paths.forecasts, "forecast")
        forecasts = Forecasts.open(paths.forecasts, [weatherbench_name(name) for name in experiment.data.targets])
        climatology = Climatology(open_climatology(scores, experiment, paths), forecasts.channels, grid)
        truth = PreparedTruth(prepared, forecasts.channels, grid)
        time = typical_time(scores, lead, forecasts.initial_times)
        case = _case(time, forecasts, truth, climatology)
        if forecasts.members is not None and experiment.evaluation.plume_points:
            found = plumes(forecasts, truth, time, experiment.evaluation.plume_points)
    return Content(
        experiment=experiment,
        scores=scores,
        prepared=prepared,
        grid=grid,
        case=case,
        case_lead=lead,
        log=training_log.read(paths.metrics),
        metrics_path=paths.metrics,
        land=land_fraction(prepared.static),
        plumes=found,
    )


def _case(time: np.datetime64, forecasts: Forecasts, truth: PreparedTruth, climatology: Climatology) -> Case:
    there = [position for position, lead in enumerate(forecasts.leads) if lead in MAP_LEADS]
    chosen = there or [len(forecasts.leads) - 1]
    stamps = time + forecasts.leads[chosen]
    order = truth.grid.orientation(forecasts.grid, "the forecast store")
    return Case(
        forecasts.channels,
        time,
        list(forecasts.leads[chosen]),
        forecasts.read(time)[chosen][..., order, :],
        truth.read(stamps),
        climatology.read(stamps),
    )


def _key(experiment: Experiment, paths: Paths, scores: Scores) -> str:
    """What determines the page: the scores, the whole experiment, the training log, and how pages are made."""
    log = paths.metrics.stat().st_size if paths.metrics.is_file() else None
    states = scores.checksums
    return digest({"format": FORMAT, "experiment": loading.dump(experiment, Request()), "scores": states, "log": log})
