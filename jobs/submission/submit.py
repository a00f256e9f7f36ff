"""Submit a job exactly once, whatever dies in between.

Under the job's lock: intent, payload and an attempt that says `submitting` are on disk before sbatch is called, its
answer is noted after. Who finds an attempt without a number looks it up by its name, in squeue and in accounting. Only
when both answer that there is no such job, and the attempt is old enough for a late sbatch to have come through, is
the same attempt submitted again; even then the job that starts first claims the work and the other does nothing.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from graphufs.config.experiment import Experiment
from graphufs.config.request import Request as RunRequest
from graphufs.errors import UserError
from graphufs.steps import NOTHING_ASKED, STEPS
from graphufs.storage.atomic import write_json
from graphufs.storage.formats import require_root
from graphufs.storage.paths import digest
from jobs.job import queue
from jobs.job.folder import Attempt, Intent, JobFolder, Snapshot, default_key, identity, moment, now, seconds_since
from jobs.job.reading import unreadable
from jobs.job.status import Status, process_of, read_statuses, seen_since, statuses_of, survey
from jobs.permissions import make_root, require_private
from jobs.scheduler import processes, slurm
from jobs.site import Resources, Site, as_noted, resources_as_noted
from jobs.submission import launch

LATE = 90.0
"""Seconds after which no sbatch that was called is still on its way: Slurm's commands give up sooner."""
SEVERAL_NODES = ("prepare", "normalize", "train", "evaluate")


@dataclass(frozen=True)
class Request:
    """What a person or a DAG asks for.

    It `needs` the results of the jobs of these keys; `labels` say where it comes from; `force` does finished work
    again; `resources` are overrides like `gpus=2`. What is `asked` of the run tells jobs apart; a step is given what it
    reads of it.
    """

    step: str
    experiment: Experiment
    site_name: str
    site: Site
    root: Path
    key: str | None = None
    needs: tuple[str, ...] = ()
    force: bool = False
    resources: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    asked: RunRequest = NOTHING_ASKED

    def job(self) -> JobFolder:
        """The folder of the job asked for."""
        return JobFolder(self.root, self.key or default_key(self.step, self.experiment, self.site_name, self.asked))


def submit(request: Request) -> tuple[str, Status]:
    """Submit a job, or attach to it where it is live or done: what happened, and the job's status.

    What happened is `submitted`, `attached`, `completed already` or `healed`.

    Raises
    ------
    UserError
        If the request is wrong, or its key belongs to other work.
    """
    if request.step not in STEPS:
        raise UserError(f"{request.step!r} is not a step; the steps are {', '.join(STEPS)}")
    require_root(request.root, note=False)
    resources = request.site.resources_of(request.step, request.resources)
    _check(request, resources)
    job = request.job()
    make_root(request.root, group=request.site.shared_with_group)
    with job.exclusive():
        status = statuses_of([_intended(job, request)])[0]
        healed = status.state == "SUBMITTING"
        if healed:
            status = _heal(status, request.site)
        if status.state == "COMPLETED":
            if not request.force:
                return "completed already", status
            assert status.attempt is not None
            # the proof goes, so that the work is done again; it stays beside as a record
            os.replace(job.path / "result.json", job.path / f"result-{status.attempt.number}.json")
        elif not status.over and status.state != "NEW":
            return "healed" if healed and status.state != "SUBMITTING" else "attached", status
        (job.path / "cancel.json").unlink(missing_ok=True)
        if status.intent.needs != request.needs:
            changed = replace(status.intent, needs=request.needs, request=request.asked.given)
            job.write_intent(changed, request.experiment)
        return "submitted", _launch(status, request.needs, request.site, resources, "person")


def check(request: Request) -> None:
    """See whether a step can be done as asked for, before anything of its chain is submitted."""
    _check(replace(request, needs=()), request.site.resources_of(request.step, request.resources))


def _check(request: Request, resources: Resources) -> None:
    if resources.nodes > 1 and request.step not in SEVERAL_NODES:
        raise UserError(
            f"{request.step} runs on one node, but {resources.nodes} are asked for; several nodes are possible for "
            f"{', '.join(SEVERAL_NODES)}; a forecast is divided by resources.blocks"
        )
    if resources.blocks > 1 and (request.step != "forecast" or request.site.executor != "slurm"):
        raise UserError("resources.blocks applies only to forecasts on a site with Slurm; leave it out")
    if resources.nodes > 1 and request.site.executor != "slurm":
        raise UserError(f"{resources.nodes} nodes are asked for, but the site's executor is {request.site.executor}")
    for key in request.needs:
        JobFolder(request.root, key).require()
    require_private(request.root, request.job().path / "attempts", group=request.site.shared_with_group)


def _intended(job: JobFolder, request: Request) -> Snapshot:
    """Note what is to be done, or see that it is what was noted; returns the folder as it is then."""
    wanted = digest({"step": request.step, "experiment": identity(request.experiment, request.asked)})
    if not job.exists:
        intent = Intent(
            job.key,
            request.step,
            request.site_name,
            request.site.executor,
            wanted,
            now(),
            request.needs,
            request.labels,
            request.asked.given,
        )
        job.write_intent(intent, request.experiment)
        return job.read()
    seen = job.read()
    there = seen.intent
    if (there.digest, there.site, there.executor) != (wanted, request.site_name, request.site.executor):
        kind = f"site ({there.site})" if there.site != request.site_name else f"executor ({there.executor})"
        what = "step, experiment or request" if there.digest != wanted else kind
        raise UserError(
            f"the key {job.key} belongs to other work: its {what} is not the one given; take another --key, or see "
            f"`graphufs-jobs status {job.key}` for what it stands for"
        )
    job.keep_credentials(request.experiment)
    if there.labels != request.labels:
        seen = replace(seen, intent=replace(there, labels=request.labels, request=request.asked.given))
        job.write_intent(seen.intent, request.experiment)
    return seen


def _launch(status: Status, needs: Sequence[str], site: Site, resources: Resources, cause: str) -> Status:
    """Start the attempt after that of the status. The caller holds the lock."""
    job = status.job
    require_private(job.root, job.path / "attempts", group=site.shared_with_group)
    number = 1 if status.attempt is None else status.attempt.number + 1
    name = f"graphufs.{job.key}.{number}.{secrets.token_hex(3)}"
    attempt = Attempt(
        number, "submitting", name, now(), resources.model_dump(mode="json"), site.model_dump(mode="json"), cause
    )
    needed = _needed(job.root, needs)
    if isinstance(needed, str):
        job.write_attempt(attempt, phase="blocked", message=needed)
        return read_statuses([job])[0]
    launch.write_payload(job, attempt, site, needed)
    _start_if_room(status.intent, attempt, site, job)
    return read_statuses([job])[0]


def _start_if_room(intent: Intent, attempt: Attempt, site: Site, job: JobFolder) -> None:
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


def _needed(root: Path, needs: Sequence[str]) -> list[str] | str:
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


def _heal(status: Status, site: Site) -> Status:
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
            status = _heal(status, site)
            return "healed" if status.state != "SUBMITTING" else "nothing", status
        if queue.waits(status):
            needed = _needed(job.root, status.intent.needs)
            if isinstance(needed, str):
                job.write_attempt(attempt, phase="blocked", message=needed)
                status = read_statuses([job])[0]
                return outlook(status), status
            _start_if_room(status.intent, attempt, site, job)
            status = read_statuses([job])[0]
            return "nothing" if queue.waits(status) else "started", status
        what = outlook(status)
        if what != "goes on":
            return what, status
        note = job.folder(attempt.number) / "ending.json"
        if not note.exists():
            write_json(note, {"ending": status.ending, "message": status.message, "at": now(), "id": status.id})
        (job.path / "cancel.json").unlink(missing_ok=True)
        return "continued", _launch(status, status.intent.needs, site, resources, status.ending)


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
        and not isinstance(_needed(status.job.root, status.intent.needs), str)
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
            status = _heal(status, site)
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


def chain(step_names: Sequence[str], **common: Any) -> list[Request]:
    """Requests for steps one after the other, each needing the one before."""
    requests: list[Request] = []
    for step in step_names:
        needs = (requests[-1].job().key,) if requests else ()
        requests.append(Request(step, needs=needs, **common))
    return requests
