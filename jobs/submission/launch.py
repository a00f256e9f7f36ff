"""Launch an attempt through submitit: on Slurm, as a local process, or right here.

The payload is on disk before anything is launched, and the job itself puts it where submitit looks for it. (submitit
alone would do that after sbatch's answer: a submitter killed in between leaves a job that waits for it in vain.)
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from submitit import SlurmExecutor
from submitit.core.utils import DelayedSubmission
from submitit.local.debug import DebugJob

from graphufs.errors import UserError
from graphufs.storage.atomic import write_text
from jobs.job.folder import RESERVE, JobFolder
from jobs.job.records import Attempt
from jobs.permissions import SHARED
from jobs.scheduler import slurm
from jobs.scheduler.processes import identity
from jobs.site import Resources, Site, minutes, resources_as_noted
from jobs.worker.bootstrap import work


def write_payload(job: JobFolder, attempt: Attempt, site: Site, dependency: list[str]) -> None:
    """Write what the job runs into the attempt's folder, `script.sh` to be submitted."""
    folder = job.folder(attempt.number)
    submitit = job.submitit(attempt.number)
    submitit.mkdir(parents=True, exist_ok=True)
    resources = resources_as_noted(attempt.resources)
    delayed = DelayedSubmission(work, {"root": str(job.root), "key": job.key, "attempt": attempt.number})
    delayed.set_timeout(minutes(resources.time_limit), site.max_requeues)
    delayed.dump(folder / "payload.pkl")
    (folder / RESERVE).write_bytes(os.urandom(2**16))
    script = folder / "script.sh"
    if site.executor == "slurm":
        number = "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
        more: dict[str, Any] = {"chdir": str(job.root), "comment": attempt.name}
        if dependency:
            more |= {"dependency": "afterok:" + ":".join(dependency), "kill-on-invalid-dep": "yes"}
        setup = _setup(job, attempt, site, number)
        write_text(script, sbatch_text(submitit, site, resources, attempt.name, setup, more))
    else:
        # the local controller of submitit, which starts the work again when that asks to be requeued
        controller = f"exec {python_of(site)} -u -m submitit.local._local {shlex.quote(str(submitit))}"
        write_text(script, "\n".join(["#!/bin/bash", *_setup(job, attempt, site, "$$"), controller]))


def _setup(job: JobFolder, attempt: Attempt, site: Site, number: str) -> list[str]:
    """Shell lines before Python: the site's own, and the payload put in place unless a requeue left a newer one."""
    folder, submitit = job.folder(attempt.number), job.submitit(attempt.number)
    place = f"{shlex.quote(str(submitit))}/{number}"
    return [
        *site.setup,
        # what lies in the working directory must not hide installed packages
        "export PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1",
        f"export SUBMITIT_PREEMPT_SIGNAL={site.signal}",
        f"export {SHARED}={int(site.shared_with_group)}",
        f"if [ ! -e {place}_submitted.pkl ]; then",
        f"  cp {shlex.quote(str(folder / 'payload.pkl'))} {place}.tmp && mv {place}.tmp {place}_submitted.pkl",
        "fi",
    ]


def sbatch_text(
    folder: Path, site: Site, resources: Resources, name: str, setup: list[str], more: dict[str, Any]
) -> str:
    """A script for sbatch that asks for these resources, and for what `more` says, by the names of sbatch's options.

    Raises
    ------
    UserError
        If this machine has no Slurm.
    """
    if shutil.which("srun") is None:
        raise UserError("there is no Slurm here (srun is not found); run this on a login node")
    executor = SlurmExecutor(folder, max_num_timeout=site.max_requeues)
    asked = resources.model_dump(include={"partition", "account", "qos", "constraint", "exclude"}, exclude_none=True)
    if resources.gpus:
        asked["gpus_per_node"] = resources.gpus
    executor.update_parameters(
        job_name=name,
        time=minutes(resources.time_limit),
        nodes=resources.nodes,
        ntasks_per_node=1,
        cpus_per_task=resources.cpus,
        mem=resources.memory,
        signal_delay_s=site.lead,
        setup=setup,
        # a process that fails must not leave the others of its job waiting for it
        srun_args=["--kill-on-bad-exit=1"],
        additional_parameters={
            "signal": f"{site.signal}@{site.lead}",
            "requeue": True,
            **more,
            **resources.sbatch,
        },
        **asked,
    )
    if resources.blocks > 1:
        executor.parameters["map_count"] = resources.blocks
    return executor._make_submission_file_text(_begin(site, folder), uid="")


def python_of(site: Site) -> str:
    """The command that starts the site's Python."""
    return site.python or shlex.quote(sys.executable)


def _begin(site: Site, submitit: Path) -> str:
    """What each process of a job runs: submitit's own start, with a signal held back that comes too early for it."""
    return f"{python_of(site)} -u -m jobs.worker.bootstrap {shlex.quote(str(submitit))}"


def as_process(job: JobFolder, attempt: Attempt, site: Site) -> tuple[str, dict[str, Any]]:
    """Start the attempt as a process that outlives this one: its number, and host and start time to know it by."""
    resources = resources_as_noted(attempt.resources)
    folder, submitit = job.folder(attempt.number), job.submitit(attempt.number)
    environment = slurm.environment() | {
        "SUBMITIT_EXECUTOR": "local",
        "SUBMITIT_LOCAL_NTASKS": "1",
        "SUBMITIT_LOCAL_COMMAND": _begin(site, submitit),
        "SUBMITIT_LOCAL_TIMEOUT_S": str(60 * minutes(resources.time_limit)),
        "SUBMITIT_LOCAL_SIGNAL_DELAY_S": str(site.lead),
        "SUBMITIT_LOCAL_NODEID": "0",
        "SUBMITIT_LOCAL_JOB_NUM_NODES": "1",
        "SUBMITIT_LOCAL_WITH_SHELL": "",
        "SUBMITIT_STDERR_TO_STDOUT": "",
    }
    # a new session: neither Ctrl-C nor the end of the terminal reaches it
    with open(folder / "controller.log", "ab") as log:
        process = subprocess.Popen(
            ["bash", str(folder / "script.sh")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=job.root,
            env=environment,
            start_new_session=True,
        )
    return str(process.pid), identity(process.pid)


def here(job: JobFolder, attempt: Attempt) -> dict[str, Any] | None:
    """Run the attempt in this process through submitit's debug executor: an exception ends in the debugger."""
    delayed = DelayedSubmission.load(job.folder(attempt.number) / "payload.pkl")
    result: dict[str, Any] | None = DebugJob(job.submitit(attempt.number), delayed).results()[0]
    return result
