"""The step `plan_nightly`: tonight's model, and its initial times that can be scored and were not yet."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from graphufs.config import loading
from graphufs.config.base import format_time
from graphufs.config.experiment import Experiment
from graphufs.config.request import Request
from graphufs.errors import UserError
from graphufs.nightly.initial_times import SourceTimes, nightly_times
from graphufs.nightly.scores import NightlyScores
from graphufs.registry import registry
from graphufs.registry.model_experiment import experiment_of
from graphufs.registry.registry import RegisteredModel
from graphufs.steps import Progress, ShouldStop
from graphufs.storage.paths import Paths


def run(
    experiment: Experiment, root: Path, *, progress: Progress, should_stop: ShouldStop, request: Request
) -> dict[str, Any]:
    """Plan a night; see graphufs.steps.Run. The result's `experiment` is what the night's other steps are given.

    Raises
    ------
    UserError
        If the chosen model does not exist or cannot be used, or the source cannot be opened.
    """
    model = registry.choose(Path(root), experiment.name, request.model)
    if model is None:
        return _result(
            None,
            f"no model of {experiment.name} is registered: train one, evaluate it, and run `graphufs register`",
        )
    own = experiment_of(model, experiment)
    paths = Paths(own, root)
    if paths.run.name != model.run:
        raise UserError(
            f"the model {model.id} was trained with another version of graphufs, whose runs this one does not read; "
            "train and register it anew, or choose another with --model"
        )
    place = NightlyScores(paths.nightly(model.checkpoint))
    scores = place.open()
    scored = set() if scores is None else set(scores.initial_times.astype("datetime64[s]").tolist())
    times = nightly_times(own)
    lacking = SourceTimes.look(own, paths.root).lacks(own, times)
    available = [time for time in times if time not in lacking]
    new = [time for time in available if time not in scored]
    planned = new[: experiment.nightly.at_most]
    newest = max([*available, *scored], default=None)
    holes = {time: why for time, why in lacking.items() if newest is not None and time < newest}
    place.note_holes({format_time(time): why for time, why in holes.items()})
    return _result(
        model,
        _message(own, times, available, planned, len(new)),
        experiment=loading.dump(experiment_of(model, experiment, planned)) if planned else None,
        initial_times=[format_time(time) for time in planned],
        scored=len(scored),
        remaining=len(new) - len(planned),
        holes=[{"initial_time": format_time(time), "why": why} for time, why in holes.items() if time not in scored],
    )


def _message(
    experiment: Experiment,
    times: Sequence[datetime],
    available: Sequence[datetime],
    planned: Sequence[datetime],
    new: int,
) -> str:
    if planned:
        more = f", {new - len(planned)} more are left for other nights" if new > len(planned) else ""
        return f"{len(planned)} initial times from {format_time(planned[0])} to {format_time(planned[-1])}{more}"
    following = [time for time in times if not available or time > available[-1]]
    if not following:
        return "nothing new: all initial times up to nightly.until are scored; a later one lets nights go on"
    window = experiment.windows(following[:1])[0]
    return (
        f"nothing new: the next initial time, {format_time(following[0])}, needs data up to {format_time(window.end)}"
    )


def _result(model: RegisteredModel | None, message: str, **content: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"experiment": None, "initial_times": [], "scored": 0, "remaining": 0, "holes": []}
    named = {"status": "completed", "model": None if model is None else model.id}
    return {**named, **empty, **content, "message": message}
