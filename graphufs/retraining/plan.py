"""The step `plan_retraining`: the windows of a challenger's training, and the fresh initial times of the comparison.

Counted back from the end of the data: the comparison, before it the validation, before it the training window. None of
them touches the period that the experiment reserves for evaluation, and the comparison lies after all that both models
were trained and validated on.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from graphufs.config import credentials, loading
from graphufs.config.base import Period, format_time
from graphufs.config.experiment import Experiment
from graphufs.errors import UserError
from graphufs.nightly.initial_times import SourceTimes
from graphufs.registry import registry
from graphufs.registry.model_experiment import experiment_of
from graphufs.registry.registry import RegisteredModel
from graphufs.steps import Progress, ShouldStop


def run(experiment: Experiment, root: Path, *, progress: Progress, should_stop: ShouldStop) -> dict[str, Any]:
    """Plan a round; see graphufs.steps.Run.

    The result's `experiment`, and the champion as its `request`, are what the round's other steps are given.

    Raises
    ------
    UserError
        If there is nothing to train, the champion cannot be used, the source cannot be opened, or the rule names what
        the experiment lacks.
    """
    root = Path(root).expanduser().absolute()
    if not experiment.training.stages:
        raise UserError(
            f"{experiment.name} has no training.stages, so that a challenger would learn nothing; give it stages, and "
            "the champion stays the model it is"
        )
    champion = registry.champion(root, experiment.name) or _first(registry.models(root, experiment.name))
    if champion is None:
        return _nothing(None, f"no model of {experiment.name} is registered: train one, and run `graphufs register`")
    own = experiment_of(champion, experiment)
    stamps = SourceTimes.look(own, root).stamps
    if not stamps.size:
        return _nothing(champion, "the source has no data yet")
    end: datetime = stamps.max().astype("datetime64[h]").item()
    others = _settled(root, experiment.name)
    windows = _windows(experiment, end)
    if isinstance(words := _refused(experiment, windows, stamps, champion, others), str):
        return _nothing(champion, f"nothing new: {words}")
    planned = _challenger(experiment, own, champion, root, windows)
    training, validation, comparison = windows
    times = planned.initial_times
    return {
        "status": "completed",
        "experiment": loading.dump(planned),
        "request": {"champion": champion.id},
        "champion": champion.id,
        "training": str(training),
        "validation": str(validation),
        "comparison": str(comparison),
        "initial_times": [format_time(time) for time in times],
        "message": f"training {training}, validation {validation}, {len(times)} initial times from "
        f"{format_time(times[0])} to {format_time(times[-1])}",
    }


def _windows(experiment: Experiment, end: datetime) -> tuple[Period, Period, Period]:
    """Training, validation and comparison, counted back from the end of the data."""
    rule, step = experiment.retraining, timedelta(hours=experiment.data.time_step)
    before = (experiment.data.input_frames - 1) * step
    length = (rule.comparison_times - 1) * timedelta(hours=experiment.forecast.every)
    begin = end - timedelta(hours=experiment.forecast.lead_time) - length - before
    # as the experiment's own periods, all begin a whole number of steps from the training period's start
    begin -= (begin - experiment.data.training.start) % step
    validation = Period(start=begin - timedelta(days=rule.validation_days), end=begin - step)
    training = Period(start=validation.start - timedelta(days=rule.training_days), end=validation.start - step)
    return training, validation, Period(start=begin, end=end)


def _refused(
    experiment: Experiment,
    windows: tuple[Period, Period, Period],
    stamps: np.ndarray,
    champion: RegisteredModel,
    others: list[RegisteredModel],
) -> str | None:
    """Why these windows cannot be used yet; None if they can."""
    training, _, comparison = windows
    rule, reserved = experiment.retraining, experiment.data.evaluation
    first: datetime = stamps.min().astype("datetime64[h]").item()
    span = comparison.end - training.start
    if training.start < first:
        return f"the windows need {span.days} days of data, which begin at {format_time(first)}"
    for name, window in zip(("training", "validation", "comparison"), windows, strict=True):
        if window.overlaps(reserved):
            return (
                f"the {name} window {window} would touch the evaluation period {reserved}, which is kept for nights; "
                f"the windows need data up to {format_time(reserved.end + span)}"
            )
    newest = max(_end(model, "training") for model in others)
    wanted = newest + timedelta(days=rule.new_days)
    if training.end < wanted:
        return (
            f"the training window would end at {format_time(training.end)}, and a model was trained up to "
            f"{format_time(newest)}; {format_time(comparison.end + (wanted - training.end))} is the end of data needed"
        )
    seen = max(_end(champion, "training"), _end(champion, "validation"))
    if comparison.start <= seen:
        return f"the comparison needs data after {format_time(seen)}, which the champion was chosen by"
    return None


def _first(models: list[RegisteredModel]) -> RegisteredModel | None:
    """While there is no champion: the newest candidate that is nobody's challenger."""
    return next((one for one in reversed(models) if one.role == "candidate" and one.parent is None), None)


def _settled(root: Path, name: str) -> list[RegisteredModel]:
    """Models that count as trained: not a challenger whose round was not finished, which is to go on."""
    decided = {event.model for event in registry.history(root) if event.kind in ("promoted", "held", "refused")}
    return [model for model in registry.models(root, name) if model.parent is None or model.id in decided]


def _end(model: RegisteredModel, use: str) -> datetime:
    return datetime.fromisoformat(model.periods[use].split("..")[1])


def _challenger(
    experiment: Experiment,
    own: Experiment,
    champion: RegisteredModel,
    root: Path,
    windows: tuple[Period, Period, Period],
) -> Experiment:
    """The experiment of the challenger, whose forecasts are those of the comparison."""
    training, validation, comparison = windows
    content = credentials.content(experiment)
    content["data"] |= {"training": _json(training), "validation": _json(validation)}
    # weights and scores keep their meaning: the champion's statistics, and its climatology
    if content["normalization"]["url"] is None and own.training.stages:
        content["normalization"]["period"] = _json(own.statistics_period)
    content["evaluation"]["climatology"] = _json(own.climatology_period)
    if experiment.retraining.warm_start:
        content["training"]["init_from"] = str(root / champion.run_folder / "checkpoints" / champion.checkpoint)
    every = timedelta(hours=experiment.forecast.every)
    before = (experiment.data.input_frames - 1) * timedelta(hours=experiment.data.time_step)
    times = [comparison.start + before + number * every for number in range(experiment.retraining.comparison_times)]
    content["forecast"] |= {"period": None, "initial_times": [format_time(time) for time in times]}
    return loading.validate(Experiment, content, "the planned challenger is wrong", "graphufs schema")


def _json(period: Period) -> dict[str, str]:
    return {"start": format_time(period.start), "end": format_time(period.end)}


def _nothing(model: RegisteredModel | None, message: str) -> dict[str, Any]:
    named = None if model is None else model.id
    return {"status": "completed", "experiment": None, "champion": named, "initial_times": [], "message": message}
