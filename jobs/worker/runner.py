"""What runs inside a job: the step, with its progress, its end and the proof of it written into the job's folder.

The step runs in a thread. The main thread is then free to take signals at once, even while a compiled program runs:
it asks the step to stop, waits until it has saved, and has the job requeued. What the step has on disk is all the
state there is; the payload only names the folder and the attempt.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from submitit import JobEnvironment
from submitit.core.utils import DelayedSubmission

from graphufs import reading
from graphufs.errors import Diverged, UserError
from graphufs.masking import cleaned, hide, hide_in_output
from graphufs.steps import STEPS, Event, Part, run_step
from graphufs.storage.atomic import create_text, write_json
from graphufs.storage.lock import locked
from jobs.job import queue
from jobs.job.folder import RESERVE, JobFolder
from jobs.job.records import now
from jobs.job.status import read_statuses
from jobs.scheduler import processes, slurm
from jobs.site import as_noted, minutes

SAVED_BY = 15.0
"""Seconds kept back of the lead time, for asking Slurm to requeue the job."""
FILES_LAG = 60.0
"""Seconds that a file written on one node may take to be seen on another."""
EARLY = 75.0
"""Slurm sends its signal up to a minute too early."""
MOST_STARTED = 100
"""Waiting jobs that are looked at when one ends."""
_running: list[Running] = []
"""What this process runs, once it has begun: a signal reaches it nowhere else."""


class NotMine(RuntimeError):
    """This job must not do the work: another one does, or a later attempt."""


class NeededFailed(RuntimeError):
    """A job whose result this one needs did not end well."""


class StoppedByOthers(RuntimeError):
    """The step was asked to stop and has saved, but is not done."""


def work(what: dict[str, Any], release: Callable[[], None]) -> dict[str, Any] | None:
    """Do an attempt's work (see bootstrap.work); `release` lets the signal come that was held back till now."""
    hide_in_output()  # it is a log that others may read
    running = Running(JobFolder(Path(what["root"]), what["key"]), what["attempt"])
    _running[:] = [running]
    try:
        return running.run(release)
    finally:
        if running.site.executor == "local":
            start_waiting(running.job.root)


def start_waiting(root: Path) -> None:
    """Have a process that outlives this one see whether jobs that wait may start now."""
    keys = [job.key for job in queue.waiting(root)]
    if keys:
        command = [sys.executable, "-m", "jobs", "tend", "--root", str(root), *keys[:MOST_STARTED]]
        quiet = subprocess.DEVNULL
        environment = slurm.environment()  # without what marks the processes of this job
        with contextlib.suppress(OSError):  # who tends them does the same
            subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, env=environment, start_new_session=True)


def requeued(function: Callable[..., Any], what: dict[str, Any]) -> DelayedSubmission:
    """Stop the step, so that it has saved all it did, and have the function called after the requeue."""
    for running in _running:
        running.stop_for_requeue()
    return DelayedSubmission(function, what)


class Running:
    """One process's part in one segment of an attempt."""

    def __init__(self, job: JobFolder, number: int) -> None:
        attempt = job.attempt(number)
        assert attempt is not None
        self.job, self.number, self.intent = job, number, job.require()
        self.site = as_noted(attempt.site)
        self.limit = 60 * minutes(attempt.resources["time_limit"])
        environment = JobEnvironment()
        self.id, self.rank, self.tasks = environment.job_id, environment.global_rank, environment.num_tasks
        self.nodes = environment.hostnames
        self.environment = environment
        element = environment.array_task_id
        self.element = int(element) if element is not None else 0
        blocks = int(attempt.resources["blocks"])
        self.part = Part(self.element, blocks) if self.intent.step == "forecast" and blocks > 1 else None
        restarts = os.environ.get("SLURM_RESTART_COUNT", "")
        self.segment = f"{self.id}.{restarts or 0}.{time.time_ns() // 10**6}"
        self.began = self.last_event = time.monotonic()
        self.written = 0.0
        self.event: Event | None = None
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._guarded, daemon=True, name="step")
        self.why = ""
        self.outcome: dict[str, Any] | None = None
        self.error: BaseException | None = None

    def run(self, release: Callable[[], None]) -> dict[str, Any] | None:
        """Run the step, or help with it."""
        if self.job.result() is not None:  # requeued after the end
            return self.job.result()
        if self.rank == 0:
            self._claim()
            place = {"process": processes.identity(int(self.id))} if self.site.executor == "local" else {}
            self._note("start", nodes=self.nodes, id=self.id, at=now(), part=self.element, **place)
            # submitit takes no notice of it, while Slurm announces the end of a cancelled job by it
            signal.signal(signal.SIGTERM, self._terminated)
        release()
        self.thread.start()
        try:
            while self.thread.is_alive():
                self.thread.join(1.0)
                if self.rank == 0 and time.monotonic() - self.last_event > self.site.hung_after:
                    self._hung()
        except SystemExit as end:  # submitit has had the job requeued; the thread may still compute
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code if isinstance(end.code, int) else 1)
        return self._finish()

    def stop_for_requeue(self) -> None:
        """Let the step save; the job will be requeued."""
        ran = time.monotonic() - self.began
        announced = ran >= self.limit - self.site.lead - EARLY
        self.why = "time limit" if announced else "preempted"
        self.stopping.set()
        if self.thread.ident is not None:  # begun
            self.thread.join(max(self.site.lead - SAVED_BY, 1.0))
        if self.outcome is not None and self.outcome["status"] != "stopped":
            self._succeed(self.outcome)
        self._note("end", reason=self.why, saved=not self.thread.is_alive(), at=now())

    def _claim(self) -> None:
        """See to it that at most one job does the work of an attempt, and none that of an earlier one.

        Two jobs of one attempt come about when sbatch's answer was lost and the job could not be found again.
        """
        if self.job.attempts()[-1] != self.number:
            raise NotMine(f"attempt {self.number} of {self.job.key} is past; there is a later one")
        path = self.job.folder(self.number) / f"claim-{self.element}"
        if not create_text(path, self.id) and (owner := reading.read_file(path).decode().strip()) != self.id:
            raise NotMine(f"job {owner} does the work of {self.job.key}; there is nothing left for job {self.id}")

    def _guarded(self) -> None:
        try:
            self.outcome = self._step()
        except BaseException as error:
            self.error = error

    def _step(self) -> dict[str, Any]:
        root = self.job.root
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(root / "cache" / "jax"))
        experiment = self.job.experiment()
        self._await_needed()
        options: dict[str, Any] = {
            "progress": self._progress,
            "should_stop": self.stopping.is_set,
            "request": self.job.request().only(STEPS[self.intent.step].asks),
        }
        if self.tasks == 1:
            return run_step(self.intent.step, experiment, root, part=self.part, **options)
        from jobs.worker import multi_process

        folder = self.job.folder(self.number)
        member = multi_process.Member(folder, self.id, self.rank, self.tasks, self.site.interface)
        return multi_process.run(self.intent.step, experiment, root, member, **options)

    def _await_needed(self) -> None:
        """Wait for the jobs this one needs, where no scheduler did that."""
        for key in self.intent.needs:
            needed, waited = JobFolder(self.job.root, key), time.monotonic()
            while needed.result() is None:
                if self.site.executor == "local":
                    failed = read_statuses([needed])[0].over
                else:  # the scheduler started this job after that one; the shared file system may lag behind
                    failed = time.monotonic() - waited > FILES_LAG
                if failed and needed.result() is None:
                    raise NeededFailed(f"the job {key}, which this one needs, did not succeed")
                self._progress(Event(f"waiting for {key}", 0.0, 1.0))
                if self.stopping.wait(0.5):
                    raise StoppedByOthers("stopped while it waited for the jobs it needs")

    def _progress(self, event: Event) -> None:
        self.last_event = time.monotonic()
        self.event = event
        if self.rank == 0 and (event.done >= event.total or self.last_event - self.written >= 1.0):
            self.written = self.last_event
            name = "progress.json" if self.part is None else f"progress-{self.element}.json"
            content = {**asdict(event), "at": now(), "segment": self.segment, "attempt": self.number}
            write_json(self.job.path / name, content)

    def _finish(self) -> dict[str, Any] | None:
        """What becomes of the step's end."""
        if self.rank:
            if self.error is not None:
                raise cleaned(self.error)
            return None
        if self.error is not None:
            self._note_ending(self.error)
            raise cleaned(self.error)
        assert self.outcome is not None
        if self.outcome["status"] == "stopped":
            self._wait_for_the_end()
        self._succeed(self.outcome)
        self._note("end", reason="done", at=now())
        return self.outcome

    def _succeed(self, outcome: dict[str, Any]) -> None:
        """Write the proof. Of an array's elements the last one finishes the step, when all others have done theirs."""
        if self.part is None:
            self._write_result(outcome)
            return
        folder = self.job.folder(self.number)
        write_json(folder / f"part-{self.element}.json", outcome)
        with locked(folder, should_stop=lambda: False, waiting=lambda: None):
            done = all((folder / f"part-{index}.json").exists() for index in range(self.part.count))
            if done and self.job.result() is None:
                self._write_result(run_step(self.intent.step, self.job.experiment(), self.job.root))

    def _write_result(self, outcome: dict[str, Any]) -> None:
        content = {"key": self.job.key, "attempt": self.number, "id": self.id, "finished": now(), "result": outcome}
        write_json(self.job.path / "result.json", content)

    def _terminated(self, number: int, frame: FrameType | None) -> None:
        self.why = "cancelled" if (self.job.path / "cancel.json").exists() else "terminated"
        self.stopping.set()

    def _wait_for_the_end(self) -> None:
        """After a polite stop that we did not request: the work is saved; what follows is for others to decide.

        A job that ends by itself while it is being preempted is not requeued, so it must wait to be killed.
        """
        self._note("end", reason=self.why, saved=True, at=now())
        if self.why == "terminated" and self.environment.name() == "slurm":
            while True:
                time.sleep(1)
        raise StoppedByOthers(f"the step stopped before its end ({self.why}); its work so far is saved")

    def _hung(self) -> None:
        """End a step that makes no progress, saying where it stands."""
        folder = self.job.folder(self.number)
        with open(folder / "hung.txt", "w") as file:
            faulthandler.dump_traceback(file, all_threads=True)
        message = f"no progress for {self.site.hung_after} s; where its threads stood is in {folder / 'hung.txt'}"
        write_json(folder / "ending.json", {"ending": "hung", "message": message, "at": now(), "id": self.id})
        self._note("end", reason="hung", saved=False, at=now())
        print(message, file=sys.stderr, flush=True)
        os._exit(1)

    def _note_ending(self, error: BaseException) -> None:
        if isinstance(error, StoppedByOthers | NotMine):
            return
        text = hide("".join(traceback.format_exception(error)))
        content = {"ending": name_of(error), "message": hide(str(error)), "traceback": text, "at": now(), "id": self.id}
        # where the disk is full, this makes room for what follows
        (self.job.folder(self.number) / RESERVE).unlink(missing_ok=True)
        try:
            write_json(self.job.folder(self.number) / "ending.json", content)
            self._note("end", reason=content["ending"], at=now())
        except OSError as trouble:  # the disk is full, say; submitit's log and Slurm's state still tell
            print(f"graphufs-ending {json.dumps(content['ending'])}: could not be written: {trouble}", file=sys.stderr)

    def _note(self, what: str, **content: Any) -> None:
        at = content.pop("at")
        event = self.event
        steps = None if event is None else {"label": event.label, "done": event.done, "total": event.total}
        metrics = {} if event is None else event.metrics
        self.job.add_segment(self.number, segment=self.segment, **{what: at}, **content, steps=steps, metrics=metrics)


def name_of(error: BaseException) -> str:
    """How a job ended that raised this."""
    for kind, name in ((Diverged, "diverged"), (NeededFailed, "dependency"), (UserError, "bad_input")):
        if isinstance(error, kind):
            return name
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return "out_of_memory"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk_full"
    return "error"
