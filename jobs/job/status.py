"""What state jobs are in, by evidence: a result file, the scheduler's word on that very job, or nothing.

A job is over only on positive proof: its own result file, or a final state that the scheduler reports for it. That it
is not in the queue proves nothing. A job that no source knows is UNKNOWN, after a while LOST; both are shown with
since when and who was asked, and neither is ever taken for success or for permission to submit again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from graphufs.storage.atomic import write_json
from jobs.job.answers import Answers
from jobs.job.folder import JobFolder
from jobs.job.last_words import last_words
from jobs.job.reading import Broken, NoJob, read_json, unreadable
from jobs.job.records import Attempt, Intent, Snapshot, now, seconds_since
from jobs.scheduler import processes, slurm
from jobs.site import as_noted

SETTLE = 30.0
"""Seconds for which a final state that Slurm may still take back, or a missing result file, is given time."""
ENDINGS = {
    "TIMEOUT": "time_limit",
    "DEADLINE": "time_limit",
    "OUT_OF_MEMORY": "out_of_memory",
    "NODE_FAIL": "node_failure",
    "BOOT_FAIL": "node_failure",
    "PREEMPTED": "preempted",
    "CANCELLED": "cancelled",
}


@dataclass(frozen=True)
class Status:
    """A job's state, since when it is known, and its folder as it was `seen`.

    The state is NEW (intent without attempt), SUBMITTING, PENDING, RUNNING, COMPLETED, FAILED, CANCELLED, REFUSED,
    UNKNOWN or LOST. The ending of an attempt that did not complete is a name of jobs.site.Policy. The message is the
    exception, the site's own words, or who was asked.
    """

    seen: Snapshot
    state: str
    ending: str = ""
    message: str = ""
    since: str = ""
    id: str | None = None

    @property
    def job(self) -> JobFolder:
        """The job's folder."""
        return self.seen.job

    @property
    def intent(self) -> Intent:
        """What the job is to do."""
        return self.seen.intent

    @property
    def attempt(self) -> Attempt | None:
        """The job's last attempt."""
        return self.seen.attempt

    @property
    def over(self) -> bool:
        """Whether the job will do nothing more by itself."""
        return self.state in ("COMPLETED", "FAILED", "CANCELLED", "REFUSED")

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        attempt = self.attempt
        request = {"request": self.intent.request} if self.intent.request else {}
        odd = {"odd": [str(one) for one in self.seen.odd]} if self.seen.odd else {}
        return {
            "key": self.job.key,
            "step": self.intent.step,
            "site": self.intent.site,
            "executor": self.intent.executor,
            "labels": self.intent.labels,
            **request,
            **odd,
            "begun": attempt.begun if attempt else None,
            "age": seconds_since(attempt.begun) if attempt else None,
            "state": self.state,
            "over": self.over,
            "ending": self.ending or None,
            "message": self.message,
            "since": self.since or None,
            "attempt": attempt.number if attempt else None,
            "id": self.id,
            "segments": len(self.seen.segments),
            "progress": self.seen.progress,
            "result": self.seen.result,
            "folder": str(self.job.path),
        }


def read_statuses(jobs: Sequence[JobFolder]) -> list[Status]:
    """The states of jobs, in one call of squeue and one of sacct for all of them together.

    Raises
    ------
    UserError
        If there is no such job, or its folder is `Broken`.
    """
    return statuses_of([job.read() for job in jobs])


def statuses_of(snapshots: Sequence[Snapshot]) -> list[Status]:
    """As `read_statuses`, of folders read just now; the result of a job that is not live is read once more."""
    answers = Answers.of(snapshots)
    return [_status_or_broken(seen, answers) for seen in snapshots]


def survey(
    jobs: Sequence[JobFolder], wanted: Callable[[Snapshot], bool] = lambda seen: True
) -> tuple[list[Status], list[Broken]]:
    """As `read_statuses`, of those that are there, can be read and are `wanted`; and those that cannot be read."""
    snapshots, statuses, broken = [], [], list[Broken]()
    for job in jobs:
        try:
            snapshots.append(job.read())
        except Broken as error:
            error.folder = job.key
            broken.append(error)
        except NoJob:  # gone since
            continue
    snapshots = [seen for seen in snapshots if wanted(seen)]
    answers = Answers.of(snapshots)
    for seen in snapshots:
        try:
            statuses.append(_status_or_broken(seen, answers))
        except Broken as error:
            error.folder = seen.job.key
            broken.append(error)
    return statuses, broken


def survey_root(
    root: Path, wanted: Callable[[Snapshot], bool] = lambda seen: True
) -> tuple[list[Status], list[Broken]]:
    """As `survey`, of all jobs of a root."""
    jobs, odd = JobFolder.below(root)
    statuses, broken = survey(jobs, wanted)
    return statuses, odd + broken


def _status_or_broken(seen: Snapshot, answers: Answers) -> Status:
    with unreadable(seen.job.path):
        return _status(seen, answers)


def _status(seen: Snapshot, answers: Answers) -> Status:
    job, attempt, number = seen.job, seen.attempt, seen.id
    status = partial(Status, seen, id=number)
    if seen.result is not None:
        return status("COMPLETED", since=seen.result["finished"])
    if attempt is None:
        return status("NEW", message="nothing was submitted yet", since=seen.intent.created)
    if attempt.phase in ("refused", "blocked", "waiting"):
        if (job.path / "cancel.json").exists():
            return status("CANCELLED", "cancelled", attempt.message, attempt.begun)
        if attempt.phase == "waiting":
            return status("PENDING", message=attempt.message, since=attempt.begun)
        ending = "refused" if attempt.phase == "refused" else "dependency"
        return status("REFUSED", ending, attempt.message, attempt.begun)
    if number is None:
        message = "the scheduler's answer is not noted; the next submit or tend looks the job up"
        return status("SUBMITTING", message=attempt.message or message, since=attempt.begun)
    live: Status | None = None
    rows = answers.rows(number)
    if seen.intent.executor == "slurm":
        live = _queued(job, attempt, rows, status)
    elif running := processes.alive(*process_of(seen, number)):
        wish = "cancel wanted; repeat `graphufs-jobs cancel` here" if (job.path / "cancel.json").exists() else ""
        live = status("RUNNING" if seen.segments else "PENDING", message=wish, since=attempt.begun)
    if live is not None:
        return live
    if (result := job.result()) is not None:  # written since
        return Status(replace(seen, result=result), "COMPLETED", since=result["finished"], id=number)
    if seen.intent.executor == "slurm":
        return _left_slurm(seen, attempt, rows, answers.silent, status)
    if running is None:
        host = process_of(seen, number)[1].get("host")
        words = f"the process runs on another machine, {host}"
        if (job.path / "cancel.json").exists():
            words = f"cancel wanted, but {words}; run `graphufs-jobs cancel {job.key}` there"
        return _unknown(job, attempt, [words], status)
    return _process_gone(seen, attempt, process_of(seen, number)[1], status)


def process_of(seen: Snapshot, number: str) -> tuple[int, dict[str, Any], str]:
    """What `processes` knows a local job's process by: its number, identity and mark.

    The identity is as its submitter noted it, or it itself.
    """
    assert seen.attempt is not None
    noted = seen.attempt.process or next((one["process"] for one in seen.segments if one.get("process")), {})
    return int(number.split(".")[0]), noted, f"/jobs/{seen.job.key}/attempts/{seen.attempt.number}/submitit"


def _process_gone(seen: Snapshot, attempt: Attempt, process: dict[str, Any], status: Any) -> Status:
    """The state of a local job without a result whose process runs no more."""
    before, after = process.get("oom_kills"), processes.oom_kills()
    if before is not None and after is not None and after > before and processes.same_boot(process):
        words = "its process is gone, and memory ran out on this machine since it started (oom_kill in /proc/vmstat)"
        return _over(seen, attempt, "out_of_memory", words, status)
    return _over(seen, attempt, "", "its process is gone", status)


def _queued(job: JobFolder, attempt: Attempt, rows: dict[str, slurm.Row], status: Any) -> Status | None:
    """The state of a job that Slurm has, waiting or running; None for any other."""
    if rows:
        (job.folder(attempt.number) / "observed.json").unlink(missing_ok=True)
    live = [row for row in rows.values() if row.state not in slurm.FINAL]
    if not live:
        return None
    (job.folder(attempt.number) / "settling.json").unlink(missing_ok=True)
    running = [row for row in live if row.state != "PENDING"]
    if not running:
        return status("PENDING", message=live[0].words, since=attempt.begun)
    return status("RUNNING", message=", ".join(sorted({row.nodes for row in running})))


def _left_slurm(
    seen: Snapshot, attempt: Attempt, rows: dict[str, slurm.Row], silent: tuple[str, ...], status: Any
) -> Status:
    """The state of a job without a result that Slurm does not have any more."""
    if not rows:
        asked = list(silent) or ["squeue and sacct both answered, neither knows the job"]
        return _unknown(seen.job, attempt, asked, status)
    worst = next((row for row in rows.values() if row.state != "COMPLETED"), next(iter(rows.values())))
    if worst.state == "COMPLETED" or worst.state in slurm.OFTEN_REQUEUED:
        # the result file may come late over a shared file system; a lost node's job may be put into the queue again
        # and only the controller knows whether it was
        unheard = worst.state in slurm.OFTEN_REQUEUED and any(words.startswith("squeue") for words in silent)
        if unheard or not _settled(seen.job, attempt, worst.state):
            return status("RUNNING", message=f"Slurm says {worst.state}; waiting for what follows")
    ending = ENDINGS.get(worst.state, "")
    said = ", ".join(word for word in (f"Slurm says {worst.state}", worst.words) if word)
    return _over(seen, attempt, ending, said, status)


def _settled(job: JobFolder, attempt: Attempt, what: str) -> bool:
    """Whether a state that may change soon has been seen for long enough."""
    return seconds_since(seen_since(job.folder(attempt.number) / "settling.json", what)) >= SETTLE


def seen_since(path: Path, state: str = "") -> str:
    """Since when this machine has seen a state, by its own clock: that of another machine may be an hour off.

    The file has the state and that time, for each machine that looked.
    """
    seen = read_json(path) or {}
    if seen.get("state", "") != state:
        seen = {}
    since = seen.get("since", {})
    if not isinstance(since, dict):  # version 0.1 noted one time for all machines
        since = {processes.host(): since}
    if processes.host() not in since:
        since[processes.host()] = now()
        with contextlib.suppress(OSError):  # a full disk must not keep anybody from seeing a state
            write_json(path, {"state": state, "since": since})
    return str(since[processes.host()])


def _unknown(job: JobFolder, attempt: Attempt, asked: list[str], status: Any) -> Status:
    """UNKNOWN, and LOST when it has been so for too long."""
    since = seen_since(job.folder(attempt.number) / "observed.json")
    lost = seconds_since(since) > as_noted(attempt.site).lost_after
    word = read_json(job.path / "cancel.json")
    # a process of another machine is asked for there; only who says that it is gone is believed without
    if lost and word is not None and (attempt.site["executor"] == "slurm" or word.get("gone")):
        return status("CANCELLED", "cancelled", "cancelled by a person while its state was unknown", since)
    return status("LOST" if lost else "UNKNOWN", message="; ".join(asked), since=since)


def _over(seen: Snapshot, attempt: Attempt, ending: str, message: str, status: Any) -> Status:
    """How an attempt ended: its own word first, then the scheduler's, then what its log shows."""
    job = seen.job
    note = job.folder(attempt.number) / "ending.json"
    own, asked = read_json(note, ending=str, message=str, at=str), (job.path / "cancel.json").exists()
    if asked or ending == "cancelled":
        # Slurm cancels jobs too whose dependency failed, by number 0
        for key in () if asked else seen.intent.needs:
            if not _succeeded(JobFolder(job.root, key)):
                return status("FAILED", "dependency", f"the job {key}, which this one needs, did not succeed")
        return status("CANCELLED", "cancelled", message)
    if own is not None:
        return status("FAILED", own["ending"], own["message"], own["at"])
    shown, last = last_words(job, attempt)
    return status("FAILED", ending or shown, f"{message}: {last}" if last else message)


def _succeeded(job: JobFolder) -> bool:
    try:
        return job.result() is not None
    except Broken:
        return False
