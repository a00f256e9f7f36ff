"""Local jobs that wait for each other: of some steps no more than a site's `at_once` run at the same time.

Nothing watches over them. A job that finds no room stays behind as an attempt in the phase `waiting`, without a
process; who tends it, and each local job as it ends, looks again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from graphufs.errors import UserError
from graphufs.storage.lock import locked
from jobs.job.folder import JobFolder
from jobs.job.records import Attempt
from jobs.job.status import Status, read_statuses
from jobs.scheduler import processes
from jobs.site import Site

REQUEUED = ("time limit", "preempted")
"""Why a segment ended after which the work goes on by itself."""


@contextmanager
def door(root: Path) -> Iterator[None]:
    """Let one at a time see whether there is room, and take it: an attempt that is `submitting` has."""
    with locked(root / "jobs", name=".room", should_stop=lambda: False, waiting=lambda: None):
        yield


def why_it_waits(job: JobFolder, step: str, site: Site, needs: tuple[str, ...]) -> str:
    """Why a job may not start now; empty where it may. The caller holds the door.

    A job that needs another one takes no room before that is done, else the two might wait for each other.
    """
    limit = site.at_once.get(step, site.at_once.get("default"))
    if site.executor != "local" or limit is None:
        return ""
    for key in needs:
        if JobFolder(job.root, key).result() is None:
            return f"waits for the job {key}, which it needs"
    others = (other for other in JobFolder.all(job.root) if other.key != job.key)
    running = list(islice((other.key for other in others if _runs_here(other, step)), limit))
    if len(running) < limit:
        return ""
    some = ", ".join(running[:3]) + (" ..." if limit > 3 else "")
    return f"waits for room: the site's at_once lets {limit} of the step {step} run at a time, now {some}"


def _runs_here(job: JobFolder, step: str) -> bool:
    """Whether a job of a step is at work on this machine, as far as its folder can be read."""
    try:
        intent = job.require()
        if (intent.step, intent.executor) != (step, "local") or job.result() is not None:
            return False
        (status,) = read_statuses([job])
    except UserError:
        return False
    attempt, segments = status.attempt, status.seen.segments
    if status.over or attempt is None or attempt.phase == "waiting":
        return False
    if segments and segments[-1].get("reason", REQUEUED[0]) not in REQUEUED:  # its process ends in a moment
        return False
    if status.state == "SUBMITTING":
        return attempt.host in ("", processes.host())
    return status.state in ("PENDING", "RUNNING")  # of those of other machines the state is UNKNOWN


def waits(status: Status) -> bool:
    """Whether a job waits for room."""
    return status.state == "PENDING" and status.attempt is not None and status.attempt.phase == "waiting"


def waiting(root: Path) -> list[JobFolder]:
    """The jobs that wait, first those that have waited longest."""
    found: list[tuple[str, JobFolder]] = []
    for job in JobFolder.all(root):
        try:
            attempt: Attempt | None = job.attempt()
        except UserError:
            continue
        if attempt is not None and attempt.phase == "waiting" and not (job.path / "cancel.json").exists():
            found.append((attempt.begun, job))
    return [job for _, job in sorted(found, key=lambda one: (one[0], one[1].key))]
