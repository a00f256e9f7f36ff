"""See after jobs that were submitted: go on after an ending whose policy says so, start what waits, cancel."""

from __future__ import annotations

import contextlib
from itertools import takewhile
from pathlib import Path

from graphufs.errors import UserError
from graphufs.storage.atomic import write_json
from jobs.job import queue
from jobs.job.folder import JobFolder
from jobs.job.reading import unreadable
from jobs.job.records import now
from jobs.job.status import Status, process_of, read_statuses
from jobs.scheduler import processes, slurm
from jobs.site import as_noted, resources_as_noted
from jobs.submission.attempts import heal, needed_numbers, start_if_room, start_next


def tend(job: JobFolder) -> tuple[str, Status]:
    """See after one job: heal what is half submitted, and go on after an ending whose policy says so.

    What was done (`nothing`, `healed`, `started`, `continued`, `waits for a person`, `stopped`), and the status.
    """
    status = read_statuses([job])[0]
    if not may_need_tending(status):
        return "nothing", status
    with job.exclusive():
        status = read_statuses([job])[0]
        attempt = status.attempt
        if attempt is None:
            return "nothing", status
        with unreadable(job.path):
            site, resources = as_noted(attempt.site), resources_as_noted(attempt.resources)
        if status.state == "SUBMITTING":
            status = heal(status, site)
            return "healed" if status.state != "SUBMITTING" else "nothing", status
        if queue.waits(status):
            needed = needed_numbers(job.root, status.intent.needs)
            if isinstance(needed, str):
                job.write_attempt(attempt, phase="blocked", message=needed)
                status = read_statuses([job])[0]
                return outlook(status), status
            start_if_room(status.intent, attempt, site, job)
            status = read_statuses([job])[0]
            return "nothing" if queue.waits(status) else "started", status
        what = outlook(status)
        if what != "goes on":
            return what, status
        note = job.folder(attempt.number) / "ending.json"
        if not note.exists():
            write_json(note, {"ending": status.ending, "message": status.message, "at": now(), "id": status.id})
        (job.path / "cancel.json").unlink(missing_ok=True)
        return "continued", start_next(status, status.intent.needs, site, resources, status.ending)


def may_need_tending(status: Status) -> bool:
    """Whether `tend` could do something about a job."""
    return status.state == "SUBMITTING" or queue.waits(status) or (status.over and status.state != "COMPLETED")


def outlook(status: Status) -> str:
    """What comes after a status: `nothing`, `goes on` with the next tend, `waits for a person`, or it is `stopped`."""
    if status.attempt is None or not status.over or status.state == "COMPLETED":
        return "nothing"
    with unreadable(status.job.path):
        site = as_noted(status.attempt.site)
    action = getattr(site.policy, status.ending, "wait")  # a newer version may know more endings
    if (
        status.ending == "dependency"
        and action != "stop"
        and not isinstance(needed_numbers(status.job.root, status.intent.needs), str)
    ):
        action = "continue"  # what it needs is done or under way again
    if action == "continue" and _automatic(status.job) >= site.max_attempts - 1:
        action = "wait"
    return {"continue": "goes on", "stop": "stopped", "wait": "waits for a person"}[action]


def _automatic(job: JobFolder) -> int:
    """How many attempts there were since a person last asked for one."""
    causes = (attempt.cause for number in reversed(job.attempts()) if (attempt := job.attempt(number)))
    return len(list(takewhile(lambda cause: cause != "person", causes)))


def cancel(job: JobFolder, *, gone: bool = False) -> Status:
    """Ask for the end of a job and see that its scheduler knows.

    A process of another machine cannot be ended from here: the wish is noted, and the job stays as live as it was until
    it has ended, or somebody says that the process is `gone`, as with its machine. That is believed of a LOST job only.

    Raises
    ------
    slurm.Silent
        If Slurm does not answer; the wish is noted, and `cancel` may be repeated.
    """
    job.require()
    with job.exclusive():
        status = read_statuses([job])[0]
        if status.over:
            return status
        write_json(job.path / "cancel.json", {"at": now(), **({"gone": True} if gone else {})})
        attempt = status.attempt
        if attempt is None:
            return status
        if status.state == "SUBMITTING":
            with unreadable(job.path):
                site = as_noted(attempt.site)
            status = heal(status, site)
        if status.id is not None and status.intent.executor == "slurm":
            try:
                slurm.scancel(status.id)
            except slurm.Silent:
                if status.state != "LOST":  # of a lost job this is a person's word that it is over
                    raise
        elif status.id is not None and status.state in ("PENDING", "RUNNING"):
            processes.end(*process_of(status.seen, status.id))
        status = read_statuses([job])[0]
    if status.over and status.intent.executor == "local":
        start_waiting(job.root)
    return status


def start_waiting(root: Path) -> None:
    """Start local jobs that wait for room, as far as there is some now."""
    for other in queue.waiting(root):
        with contextlib.suppress(UserError):  # one that is not well keeps no other from starting
            tend(other)
