"""Submit a job exactly once, whatever dies in between.

Under the job's lock: intent, payload and an attempt that says `submitting` are on disk before sbatch is called, its
answer is noted after (`jobs.submission.attempts`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from graphufs.config.experiment import Experiment
from graphufs.config.request import Request as RunRequest
from graphufs.errors import UserError
from graphufs.steps import NOTHING_ASKED, STEPS
from graphufs.storage.formats import require_root
from graphufs.storage.paths import digest
from jobs.job.folder import JobFolder, default_key, identity
from jobs.job.records import Intent, Snapshot, now
from jobs.job.status import Status, statuses_of
from jobs.permissions import make_root, require_private
from jobs.site import Resources, Site
from jobs.submission.attempts import heal, start_next

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
            status = heal(status, request.site)
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
        return "submitted", start_next(status, request.needs, request.site, resources, "person")


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


def chain(step_names: Sequence[str], **common: Any) -> list[Request]:
    """Requests for steps one after the other, each needing the one before."""
    requests: list[Request] = []
    for step in step_names:
        needs = (requests[-1].job().key,) if requests else ()
        requests.append(Request(step, needs=needs, **common))
    return requests
