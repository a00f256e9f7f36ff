"""Job folders made by hand, and commands of Slurm that answer what a test has them say.

Only how answers are read and what follows from them is tested with these; tests/slurm has a real Slurm.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from graphufs.config import loading
from graphufs.storage.atomic import write_json
from jobs.job.folder import JobFolder
from jobs.job.records import Attempt, Intent, now
from jobs.site import Resources, Site
from tests.conftest import TINY

SLURM = Site.model_validate({"executor": "slurm", "lost_after": 600})
EXPERIMENT = loading.load(TINY)


def ago(seconds):
    """A time as files have it."""
    return (datetime.now(UTC) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def attempt_of(number=1, site=SLURM, **changes):
    content = {"phase": "submitted", "name": f"graphufs.job.{number}.abc", "begun": now(), "id": "12", **changes}
    return Attempt(number, resources=Resources().model_dump(mode="json"), site=site.model_dump(mode="json"), **content)


def job_of(root, key="job", site=SLURM, *, step="prepare", needs=(), attempt=True, result=False, **changes):
    """A job's folder with one attempt, by default one that Slurm knows as 12."""
    job = JobFolder(root, key)
    intent = Intent(key, step, "fake", site.executor, "0" * 12, now(), tuple(needs))
    write_json(job.path / "intent.json", asdict(intent))
    if attempt:
        job.write_attempt(attempt_of(site=site, **changes))
    if result:
        finish(job)
    return job


def finish(job):
    """Give a job its proof."""
    write_json(job.path / "result.json", {"key": job.key, "attempt": 1, "id": "12", "finished": now(), "result": {}})


class FakeSlurm:
    """Executables that note how they are called and print what they are told to; nothing else is on the PATH."""

    def __init__(self, folder, site="{executor: slurm}\n"):
        self.bin, self.sites = folder / "bin", folder / "sites"
        self.bin.mkdir()
        self.sites.mkdir()
        (self.sites / "fake.yaml").write_text(site)
        self.environment = {"PATH": str(self.bin), "GRAPHUFS_SITES": str(self.sites)}
        self.say("sbatch", "Submitted batch job 12")
        for command in ("squeue", "sacct", "scancel", "srun"):
            self.say(command)

    def say(self, command, out="", error="", code=0, seconds=0.0):
        """What a command answers from now on."""
        (self.bin / f"{command}.out").write_text(out + "\n" if out else "")
        (self.bin / f"{command}.err").write_text(error)
        place = self.bin / command
        lines = ["#!/bin/bash", f'echo "$*" >> {place}.calls', f"/bin/sleep {seconds}" if seconds else ""]
        place.write_text("\n".join([*lines, f"/bin/cat {place}.out", f"/bin/cat {place}.err >&2", f"exit {code}\n"]))
        place.chmod(0o755)

    def row(self, state, number="12", why="None"):
        """Have squeue know one job."""
        self.say("squeue", f"{number}|{state}|{why}|2024-01-01T00:00:00|N/A|node1")

    def account(self, state, number="12", code="0:0"):
        """Have sacct know one job, and squeue none."""
        self.say("squeue")
        self.say("sacct", f"{number}|{state}|{code}|2024-01-01T00:00:00|2024-01-01T01:00:00|node1")

    def silence(self, *commands):
        for command in commands:
            self.say(command, error=f"{command}: error: Unable to contact slurm controller", code=1)

    def missing(self, command):
        (self.bin / command).unlink()

    def calls(self, command):
        """The arguments of each call."""
        noted = self.bin / f"{command}.calls"
        return noted.read_text().splitlines() if noted.exists() else []


def until(condition, seconds=40.0):
    """Wait for something to become true, and return it."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(0.1)
    return answer


def jobs_command(*arguments):
    """The command line as a process is started with it."""
    return [sys.executable, "-m", "jobs", *map(str, arguments)]


def surroundings(**more):
    return os.environ | more
