"""The step `extend_world`: the embedded world goes on by some days a night, so that there is something new to score.

The first night, and where the store ended then, are noted once beside the store for each experiment name; where a
night's world ends follows from these. So a repeated night does nothing, missed nights are caught up in one go, and an
earlier night never goes back.
"""

from __future__ import annotations

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
from graphufs.storage.checksums import Damaged, checked, is_checked, read_checked, write_checked
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


def notes_damage(world: Path) -> list[str]:
    """What is wrong with the notes of first nights beside a world; none of version 0.1.0 has a checksum or a copy."""
    wrong = []
    for note in sorted({_note_of(path) for path in (world / "nights").glob("*.json")}):
        for path in (note, _copy_of(note)):
            try:
                _read(path)
            except FileNotFoundError:
                if path == note or is_checked(note):
                    wrong.append(f"{path} is missing")
            except ValueError as error:
                wrong.append(str(error))
    return [f"{line}; `graphufs extend-world` restores it from its copy" for line in wrong]


def _first_night(note: Path, tonight: date, end: np.datetime64) -> tuple[date, np.datetime64]:
    """The first night and where the store ended then, noted now if this is it.

    Nothing else could tell them again, so there is a copy; what is damaged is restored.
    """
    copy = _copy_of(note)
    if not copy.exists():
        create_json(note, checked({"first_night": tonight.isoformat(), "end": text(end)}))
    whole: dict[Path, dict[str, Any]] = {}
    wrong: list[str] = []
    for path in (copy, note):
        try:
            whole[path] = _read(path)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            wrong.append(str(error))
    if not whole:
        raise UserError(f"{'; '.join(wrong)}; remove {note} and {copy}, and nights are counted anew from today")
    content = whole.get(copy) or whole[note]
    for path in (note, copy):
        if whole.get(path) != content or not is_checked(path):
            write_checked(path, content)
    return date.fromisoformat(content["first_night"]), instant(content["end"])


def _read(path: Path) -> dict[str, Any]:
    """A note of a first night.

    Raises
    ------
    Damaged
        If it is none. The file that is not there raises FileNotFoundError.
    """
    content = read_checked(path)
    try:
        date.fromisoformat(content["first_night"]), instant(content["end"])
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"{path} cannot be read as the note of a first night ({error!r})") from None
    return content


def _copy_of(note: Path) -> Path:
    return note.with_name(f".{note.stem}.copy.json")


def _note_of(path: Path) -> Path:
    name = path.name
    return path.with_name(f"{name[1:].removesuffix('.copy.json')}.json") if name.startswith(".") else path
