"""The step `extend_world`: the embedded world goes on by some days a night, so that there is something new to score.

The first night, and where the store ended then, are noted once beside the store for each experiment name; where a
night's world ends follows from these. So a repeated night does nothing, missed nights are caught up in one go, and an
earlier night never goes back.
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from graphufs.config.data import EMBEDDED
from graphufs.config.experiment import Experiment
from graphufs.config.request import Request
from graphufs.errors import UserError
from graphufs.nightly.initial_times import nightly_period
from graphufs.replay.synthetic.store import ensure_world, present
from graphufs.replay.times import instant, text
from graphufs.steps import Progress, ShouldStop
from graphufs.storage.atomic import create_json
from graphufs.storage.paths import Paths


def run(
    experiment: Experiment, root: Path, *, progress: Progress, should_stop: ShouldStop, request: Request
) -> dict[str, Any]:
    """Let time pass up to the night in question; see graphufs.steps.Run.

    Raises
    ------
    UserError
        If the world cannot go on.
    Stopped
        After a polite stop; finished stretches are kept.
    """
    tonight = request.night or datetime.now(UTC).date()
    if experiment.data.source.url != EMBEDDED:
        return {"status": "unchanged", "message": "the source grows by itself", "night": tonight.isoformat()}
    paths = Paths(experiment, root)
    was = present(paths.world)
    if was is None:
        message = "there is no world yet; `graphufs prepare` makes it"
        return {"status": "unchanged", "message": message, "present": None, "was": None, "night": tonight.isoformat()}
    first, end = _first_night(paths.world / "nights" / f"{experiment.name}.json", tonight, was)
    nights = (tonight - first).days + 1
    target = end + np.timedelta64(nights * experiment.nightly.days_per_night, "D")
    target = min(target, instant(nightly_period(experiment).end))
    if target > was:
        ensure_world(
            paths.world,
            experiment.data.source.world,
            target.astype("datetime64[h]"),
            exact=True,
            progress=progress,
            should_stop=should_stop,
        )
    now = present(paths.world)
    if now is None:
        raise UserError(f"{paths.world} vanished while it was extended; repeat the command")
    return {
        "status": "completed" if now > was else "unchanged",
        "present": text(now),
        "was": text(was),
        "night": tonight.isoformat(),
    }


def _first_night(note: Path, tonight: date, end: np.datetime64) -> tuple[date, np.datetime64]:
    """The first night and where the store ended then, noted now if this is it."""
    create_json(note, {"first_night": tonight.isoformat(), "end": text(end)})
    try:
        content = json.loads(note.read_text())
        return date.fromisoformat(content["first_night"]), instant(content["end"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{note} cannot be read ({error!r}); remove it, and nights are counted anew from today"
        ) from None
