"""One look at many jobs for a control plane: states, what was done about them, and what is new in their logs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphufs import reading
from graphufs.errors import UserError
from jobs.job.folder import JobFolder
from jobs.job.reading import Broken, unreadable
from jobs.job.status import survey
from jobs.submission import tend as tending

LIMIT = 65536
"""Bytes of log that a job may give at once; the rest comes with the next look."""

Cursor = dict[str, int]
"""How far each log file has been read, by `attempt/name`."""


def parse(text: str, root: Path) -> dict[JobFolder, Cursor]:
    """Jobs and their cursors, from JSON like `{"jobs": {"KEY": {"1/7_0_log.out": 4096}}}`.

    Raises
    ------
    UserError
        If it is anything else.
    """
    try:
        asked = reading.parse_json(text)["jobs"]
        wishes = {}
        for key, cursor in asked.items():
            if not all(type(offset) is int and 0 <= offset < 2**63 for offset in (cursor or {}).values()):
                raise ValueError(f"{reading.shown(cursor)} is not a cursor: give bytes from 0 to 2^63")
            wishes[JobFolder(root, key)] = dict(cursor or {})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        words = reading.cut(str(error), 300)
        raise UserError(f'poll reads JSON like {{"jobs": {{"KEY": {{}}}}}} from standard input: {words}') from None
    return wishes


def poll(wishes: Mapping[JobFolder, Cursor]) -> list[dict[str, Any]]:
    """The jobs' states in one look at the scheduler, those tended that it helps, and their logs beyond the cursors.

    A key that there is no job of is `{"key": ..., "state": "NONE"}`; a job whose folder cannot be read has the state
    `BROKEN` and the reason as its message: it may be at work, so it is not over.
    """
    answers: dict[str, dict[str, Any]] = {job.key: {"key": job.key, "state": "NONE"} for job in wishes}
    statuses, broken = survey([job for job in wishes if job.exists])
    for error in broken:
        answers[error.folder] = _broken(error.folder, error)
    for status in statuses:
        job, what = status.job, "nothing"
        try:
            if tending.may_need_tending(status):
                what, status = tending.tend(job)
            text, cursor = news(job, wishes[job])
        except Broken as error:
            answers[job.key] = _broken(job.key, error)
        else:
            answers[job.key] = {"what": what, **status.to_json(), "log": text, "cursor": cursor}
    return list(answers.values())


def _broken(key: str, error: Broken) -> dict[str, Any]:
    return {"key": key, "state": "BROKEN", "over": False, "what": "nothing", "message": str(error)}


def news(job: JobFolder, cursor: Cursor, limit: int = LIMIT) -> tuple[str, Cursor]:
    """What a job's logs, of all attempts, have beyond a cursor, whole lines only, and the cursor after it."""
    parts, after = [], dict(cursor)
    for number in job.attempts():
        for path in job.logs(number):
            name = f"{number}/{path.name}"
            with unreadable(path), reading.open_file(path) as file:
                file.seek(min(after.get(name, 0), os.fstat(file.fileno()).st_size))  # farther off, some systems refuse
                chunk = file.read(limit)
            # an unfinished line waits for its end, unless it fills the whole chunk
            end = chunk.rfind(b"\n") + 1 or (len(chunk) if len(chunk) == limit else 0)
            if end:
                parts.append(chunk[:end].decode(errors="replace"))
                after[name] = after.get(name, 0) + end
                limit -= end
            if limit <= 0:
                break
    return "".join(parts), after
