"""Stay until jobs are over, tending them meanwhile."""

from __future__ import annotations

import time

from rich.console import Console

from jobs.cli.tables import progress
from jobs.job.folder import JobFolder
from jobs.job.status import Status, read_statuses
from jobs.site import Site
from jobs.submission import tend as tending

LOOK = 0.2
"""Seconds between two looks at a new job's own files."""
WAIT = 2.0
"""Seconds between two looks at first; they grow to the site's poll interval."""


def wait_at_first(job: JobFolder, seconds: float) -> None:
    """Wait until a new job's own files say that it has ended, `seconds` at most. No scheduler is asked."""
    until = time.monotonic() + seconds
    while job.result() is None and time.monotonic() < until:
        if any((job.folder(number) / "ending.json").exists() for number in job.attempts()[-1:]):
            return
        time.sleep(LOOK)


def wait(jobs: list[JobFolder], site: Site, console: Console | None) -> list[Status]:
    """Look at jobs, tending them, until each is done, lost or waits for a person."""
    told: dict[str, str] = {}
    pause = WAIT
    while True:
        statuses, going_on = [], False
        for status in read_statuses(jobs):
            what = "nothing"
            if tending.may_need_tending(status):
                what, status = tending.tend(status.job)
            statuses.append(status)
            going_on |= what in ("continued", "healed") or not (status.over or status.state == "LOST")
            words = progress(status.seen.progress) if status.state == "RUNNING" else status.message
            line = f"{status.job.key}  {status.state}  {words}"
            if console is not None and told.get(status.job.key) != line:
                told[status.job.key] = line
                console.print(line, soft_wrap=True, markup=False)
        if not going_on:
            return statuses
        time.sleep(pause)
        pause = min(pause * 1.2, site.control.poll_interval)
