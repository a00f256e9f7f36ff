"""The step `register`: a finished training and the scores of its evaluation enter the registry as a candidate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.config.request import Request
from graphufs.emulator import checkpoint
from graphufs.forecast.step import finished_checkpoint
from graphufs.registry import registry
from graphufs.registry.registry import RegisteredModel, model_id
from graphufs.steps import Progress, ShouldStop
from graphufs.storage.paths import Paths
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.results.table import small_table

USES = ("training", "validation", "normalization", "climatology", "evaluation")


def run(
    experiment: Experiment, root: Path, *, progress: Progress, should_stop: ShouldStop, request: Request
) -> dict[str, Any]:
    """Register the experiment's model; see graphufs.steps.Run. Over in a moment: it neither reports nor stops.

    Raises
    ------
    UserError
        If the training is not finished, or there are no scores yet.
    """
    paths = Paths(experiment, root)
    scores = Scores.open(paths.scores)
    path = finished_checkpoint(paths)
    meta = checkpoint.read_meta(path)
    periods = experiment.seen_periods | experiment.periods
    model = RegisteredModel(
        id=model_id(experiment.name, paths.run.name, meta["update"]),
        experiment_name=experiment.name,
        experiment=loading.dump(without_keys(experiment)),
        run=paths.run.name,
        run_folder=paths.run.relative_to(paths.root).as_posix(),
        checkpoint=path.name,
        update=meta["update"],
        periods={use: str(periods[use]) for use in USES if use in periods},
        provenance=meta["provenance"],
        parent=request.champion,
        scores=small_table(scores),
    )
    registered, new = registry.register(paths.root, model, registry.whoever())
    return {
        "status": "completed" if new else "unchanged",
        "model": registered.id,
        "checkpoint": f"{registered.run_folder}/checkpoints/{registered.checkpoint}",
        "role": registered.role,
        "scores": dict(registered.scores),
    }


def without_keys(experiment: Experiment) -> Experiment:
    """The experiment without options of storage, which may hold keys and determine no result."""
    source = experiment.data.source.model_copy(update={"storage_options": {}})
    era5 = experiment.evaluation.era5.model_copy(update={"storage_options": {}})
    return experiment.model_copy(
        update={
            "data": experiment.data.model_copy(update={"source": source}),
            "normalization": experiment.normalization.model_copy(update={"storage_options": {}}),
            "evaluation": experiment.evaluation.model_copy(update={"era5": era5}),
        }
    )
