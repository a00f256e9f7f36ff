"""The step `evaluate`: score the forecasts of an experiment, and the baselines, against Replay, ERA5 or both.

The scores lie in the run folder; what is learnt from the training years lies beside it, see
`graphufs.weatherbench.one_truth`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from graphufs import parallel
from graphufs.config.credentials import to_worker, true
from graphufs.config.experiment import Experiment
from graphufs.errors import Stopped, UserError
from graphufs.steps import Event, Progress, ShouldStop
from graphufs.storage.atomic import remove_folder
from graphufs.storage.lock import locked
from graphufs.storage.paths import Paths
from graphufs.storage.zarr_io import require_whole, store_damage
from graphufs.vocabulary.labels import json_number
from graphufs.weatherbench.one_truth import Ready, Share, merged_shares, open_again, score_times
from graphufs.weatherbench.references import Report
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.results.table import shown_leads
from graphufs.weatherbench.scoring.parallel import cores, score_in_shares
from graphufs.weatherbench.scoring.score import FORECAST


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
    if todo and not experiment.forecast.keep_members:
        raise UserError(
            f"no whole scores at {places[todo[0]]}, and the members that they are of are not kept: "
            "`graphufs forecast` with this experiment makes both again, or set forecast.keep_members"
        )

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
    report = reporting(progress, should_stop)
    ready = Ready.open(name, experiment, paths, report)

    def here(times: np.ndarray, advance: Callable[[], None]) -> Share:
        # what reads stores keeps what it read last: no two threads can use the same
        own = ready.reference if len(times) == len(ready.usable) else open_again(experiment, paths, name)
        return score_times(experiment, own, ready.correlation, times, lambda done, total: advance())

    label = "scores" if name == experiment.evaluation.truths[0] else f"scores against {name}"
    with parallel.connected(experiment.evaluation.dask, "evaluation.dask"):
        share = score_in_shares(
            ready.usable,
            here,
            partial(_score_there, to_worker(experiment), str(paths.root), name, ready.correlation),
            merged_shares,
            threads=cores(),
            progress=report(label, "initial times"),
            should_stop=should_stop,
        )
    return ready.finished(share)


def reporting(progress: Progress, should_stop: ShouldStop) -> Report:
    """What tells of the progress, and raises Stopped after a wish to stop."""

    def report(label: str, unit: str) -> Callable[[int, int], None]:
        def tell(done: int, total: int) -> None:
            progress(Event(label, done, total, unit))
            if should_stop() and done < total:
                raise Stopped(f"stopped in {label}; what is unfinished is done again")

        return tell

    return report


def _score_there(content: str, root: str, name: str, correlation: np.ndarray, times: np.ndarray) -> Share:
    """Score some initial times on a dask worker."""
    experiment = Experiment.model_validate_json(true(content))
    reference = open_again(experiment, Paths(experiment, Path(root)), name)
    return score_times(experiment, reference, correlation, times, lambda done, total: None)


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
