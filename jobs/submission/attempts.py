"""Start an attempt once: what to wait for, whether there is room, and the number that got lost on the way.

Who finds an attempt without a number looks it up by its name, in squeue and in accounting. Only when both answer that
there is no such job, and the attempt is old enough for a late sbatch to have come through, is the same attempt
submitted again; even then the job that starts first claims the work and the other does nothing.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

from jobs.job import queue
from jobs.job.folder import JobFolder
from jobs.job.records import Attempt, Intent, moment, now, seconds_since
from jobs.job.status import Status, read_statuses, seen_since, survey
from jobs.permissions import require_private
from jobs.scheduler import processes, slurm
from jobs.site import Resources, Site
from jobs.submission import launch

LATE = 90.0
"""Seconds after which no sbatch that was called is still on its way: Slurm's commands give up sooner."""


def start_next(status: Status, needs: Sequence[str], site: Site, resources: Resources, cause: str) -> Status:
    """Start the attempt after that of the status. The caller holds the lock."""
    job = status.job
    require_private(job.root, job.path / "attempts", group=site.shared_with_group)
    number = 1 if status.attempt is None else status.attempt.number + 1
    name = f"graphufs.{job.key}.{number}.{secrets.token_hex(3)}"
    attempt = Attempt(
        number, "submitting", name, now(), resources.model_dump(mode="json"), site.model_dump(mode="json"), cause
    )
    needed = needed_numbers(job.root, needs)
    if isinstance(needed, str):
        job.write_attempt(attempt, phase="blocked", message=needed)
        return read_statuses([job])[0]
    launch.write_payload(job, attempt, site, needed)
    start_if_room(status.intent, attempt, site, job)
    return read_statuses([job])[0]


def start_if_room(intent: Intent, attempt: Attempt, site: Site, job: JobFolder) -> None:
    """Start an attempt where the site lets one more run now, else have it wait."""
    with queue.door(job.root):
        why = queue.why_it_waits(job, intent.step, site, intent.needs)
        if not why:
            begun = {"begun": now(), "host": processes.host()}
            attempt = job.write_attempt(attempt, phase="submitting", message="", **begun)
        elif (attempt.phase, attempt.message) != ("waiting", why):
            job.write_attempt(attempt, phase="waiting", message=why)
    if not why:
        _start(job, attempt, site)


def needed_numbers(root: Path, needs: Sequence[str]) -> list[str] | str:
    """The numbers of the jobs to wait for, or why there is nothing to wait for."""
    numbers = []
    jobs = [JobFolder(root, key) for key in needs]
    statuses, broken = survey(jobs)
    if broken:
        return f"the job {broken[0].folder}, which this one needs, cannot be known: {broken[0]}"
    if gone := [job.key for job in jobs if not job.exists]:
        return f"the job {gone[0]}, which this one needs, is not there any more"
    for status in statuses:
        if status.state == "COMPLETED":
            continue
        if status.over or (status.id is None and not queue.waits(status)):
            return f"the job {status.job.key}, which this one needs, is {status.state}"
        numbers += [status.id] if status.id is not None else []
    return numbers


def _start(job: JobFolder, attempt: Attempt, site: Site) -> None:
    """Hand the attempt over, and note the answer."""
    if site.executor == "slurm":
        try:
            number = slurm.sbatch(str(job.folder(attempt.number) / "script.sh"))
        except slurm.Refused as refused:
            job.write_attempt(attempt, phase="refused", message=str(refused))
        except slurm.Silent as silent:
            job.write_attempt(attempt, message=f"{silent}; whether the job was taken is found out later")
        else:
            job.write_attempt(attempt, phase="submitted", id=number)
    elif site.executor == "local":
        number, process = launch.as_process(job, attempt, site)
        job.write_attempt(attempt, phase="submitted", id=number, process=process)
    else:
        process = {**processes.identity(os.getpid()), "here": True}
        job.write_attempt(attempt, phase="submitted", id=f"{os.getpid()}.{time.time_ns()}", process=process)


def heal(status: Status, site: Site) -> Status:
    """Find the number of an attempt whose answer was not noted, or submit it again. The caller holds the lock."""
    job, attempt = status.job, status.attempt
    assert attempt is not None
    begun, cancelled = attempt.begun, (job.path / "cancel.json").exists()
    if attempt.host not in ("", processes.host()):  # whose clock may be an hour off
        begun = seen_since(job.folder(attempt.number) / "unsent.json", attempt.begun)
    late = seconds_since(begun) >= LATE
    again = late and not cancelled
    if site.executor != "slurm":
        started = [segment for segment in status.seen.segments if "process" in segment]
        if started:
            job.write_attempt(attempt, phase="submitted", id=started[0]["id"], process=started[0]["process"])
        elif again:  # should its process still come, one of the two claims the work
            _start(job, attempt, site)
        elif late:
            job.write_attempt(attempt, phase="refused", message="cancelled before it had started")
        return read_statuses([job])[0]
    try:
        numbers = slurm.find(attempt.name, moment(attempt.begun))
    except slurm.Silent as silent:
        job.write_attempt(attempt, message=f"{silent}; whether the job was taken is not known yet")
        return read_statuses([job])[0]
    if numbers:
        job.write_attempt(attempt, phase="submitted", id=numbers[0], message="found by its name")
    elif again:
        _start(job, job.write_attempt(attempt, begun=now(), host=processes.host()), site)
    elif late:
        job.write_attempt(attempt, phase="refused", message="cancelled before the scheduler had taken it")
    else:
        message = "neither squeue nor accounting knows the job yet; it is submitted again if that stays so"
        job.write_attempt(attempt, message=message)
    return read_statuses([job])[0]
