"""What lies below a root and cannot be read: found, named, and on request set aside, where nothing looks for jobs."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from graphufs.errors import UserError
from graphufs.registry import event_files
from jobs.job.folder import KEY, JobFolder
from jobs.job.reading import Broken, entries
from jobs.job.status import survey
from jobs.scheduler import processes, slurm
from jobs.submission import tend as tending

SET_ASIDE = "set-aside"
"""Folder below the root for what was set aside: nothing reads it, and nothing removes it."""
BEING_MADE = 3600.0
"""Seconds for which a folder without an intent may be one that is just being made."""


@dataclass(frozen=True)
class Ailment:
    """Something that cannot be read: where and why. What may not be moved says what to do instead, as `instead`."""

    path: Path
    reason: str
    instead: str = ""


def find(root: Path) -> list[Ailment]:
    """What is broken or odd among a root's jobs and the events of its registry.

    Raises
    ------
    UserError
        If the folder of jobs or of the registry cannot be listed.
    """
    jobs, broken = JobFolder.below(root)
    found = [Ailment(error.path, error.reason) for error in broken]
    for name in entries(root / "jobs"):
        path = root / "jobs" / name
        if os.path.lexists(path / "intent.json"):
            continue
        if not path.is_dir():
            found.append(Ailment(path, "it is no folder of a job"))
        elif not KEY.fullmatch(name) or time.time() - path.stat().st_mtime > BEING_MADE:
            found.append(Ailment(path, "it has no intent.json, so it says of no job what is to be done"))
    statuses, more = survey(jobs)
    for status in statuses:
        found += [Ailment(odd.path, odd.reason) for odd in status.seen.odd]
        try:  # what only `tend` reads
            tending.outlook(status)
        except Broken as error:
            more.append(error)
    for one in more:
        folder = root / "jobs" / one.folder
        found.append(Ailment(folder, _within(folder, one), _instead(JobFolder(root, one.folder), one)))
    for path in event_files.odd(root):
        found.append(Ailment(path, "its name is not that of an event, so it is not read"))
    for line in event_files.damage(root):
        found.append(Ailment(root / "registry", line, "run `graphufs models repair`"))
    return found


def set_aside(root: Path, ailments: list[Ailment]) -> list[tuple[Path, Path]]:
    """Move what may be moved below `<root>/set-aside/<time>/`, each by one rename; from where to where.

    Raises
    ------
    UserError
        If something cannot be moved; what was moved before stays there.
    """
    moved = []
    place = root / SET_ASIDE / datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S.%fZ")
    for one in ailments:
        if one.instead:
            continue
        target = place / one.path.relative_to(root)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if one.path.parent == root / "jobs" and one.path.is_dir() and KEY.fullmatch(one.path.name):
                with JobFolder(root, one.path.name).exclusive():
                    os.rename(one.path, target)
            else:
                os.rename(one.path, target)
        except FileNotFoundError:  # gone since, or with the folder around it
            continue
        except OSError as error:
            raise UserError(f"{one.path} cannot be set aside as {target}: {error.strerror}") from None
        moved.append((one.path, target))
    return moved


def _within(folder: Path, error: Broken) -> str:
    return error.reason if error.path == folder else f"{error.path.relative_to(folder)}: {error.reason}"


def _instead(job: JobFolder, error: Broken) -> str:
    """What to do with a folder that must stay: a later version's, or that of a job which may be at work."""
    if error.later:
        return "it is whole; use the version that wrote it"
    numbers, alive = set[str](), False
    for number in _attempts(job):
        try:
            attempt = job.attempt(number)
            claims = job.claims(number).values()
        except Broken:
            continue
        if attempt is None or attempt.site.get("executor") != "slurm":
            pid = str(attempt.id if attempt else "").partition(".")[0]
            alive |= pid.isdecimal() and bool(attempt and processes.alive(int(pid), attempt.process) is not False)
            continue
        numbers |= {str(one).split("_")[0] for one in (attempt.id, *claims) if one}
    if numbers:
        try:
            live = {row.id.split("_")[0] for row in slurm.squeue().values() if row.state not in slurm.FINAL}
            alive |= bool(numbers & live)
        except slurm.Silent as silent:
            return f"its job {', '.join(sorted(numbers))} may be at work ({silent}); try again later"
    words = f" ({', '.join(sorted(numbers))})" if numbers else ""
    return f"its job is at work or may be{words}: end it first, or repair the file" if alive else ""


def _attempts(job: JobFolder) -> list[int]:
    try:
        return job.attempts()
    except Broken:
        return []
