"""The step `rollback`: the former champion is the champion again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from graphufs.config.experiment import Experiment
from graphufs.config.request import Request
from graphufs.errors import UserError
from graphufs.registry import registry
from graphufs.registry.decisions import rollback
from graphufs.steps import Progress, ShouldStop
from graphufs.storage.paths import Paths


def run(
    experiment: Experiment, root: Path, *, progress: Progress, should_stop: ShouldStop, request: Request
) -> dict[str, Any]:
    """Take the last promotion of the experiment's name back; see graphufs.steps.Run. Over in a moment.

    Raises
    ------
    UserError
        If there is no former champion.
    """
    folder, by = Paths(experiment, root).root, request.decided_by or registry.whoever()
    event = rollback(folder, experiment.name, by, request.why, request.rollback_to)
    champion = registry.champion(folder, experiment.name)
    if champion is None:  # rolling back never removes the last one: the history was deleted
        raise UserError(f"{experiment.name} has no champion any more; restore the registry from a copy")
    message = f"{champion.id} is the champion {'again' if event else 'already'}"
    return {"status": "completed" if event else "unchanged", "model": champion.id, "message": message}
