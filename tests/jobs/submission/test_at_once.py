"""A local site runs no more of a step at the same time than its file says; the others wait, and all come to run."""

from __future__ import annotations

import subprocess

import pytest

from graphufs.errors import UserError
from jobs.job import queue
from jobs.job.folder import JobFolder
from jobs.job.records import now
from jobs.job.status import read_statuses
from jobs.scheduler import processes
from jobs.site import Site
from jobs.submission import attempts, submit
from jobs.submission import tend as tending
from jobs.submission.submit import Request
from jobs.submission.tend import tend
from jobs.worker import runner
from tests.jobs import EXPERIMENT, ago, finish, job_of, until

LOCAL = Site.model_validate({"executor": "local"})


class Machine:
    """A root whose jobs are processes that only sleep."""

    def __init__(self, root):
        self.root, self.started = root, []

    def as_process(self, job, attempt, site):
        self.started.append(subprocess.Popen(["sleep", "300"], start_new_session=True))
        number = self.started[-1].pid
        return str(number), processes.identity(number)

    def submit(self, key, step="train", site=LOCAL, **more):
        return submit.submit(Request(step, EXPERIMENT, "local", site, self.root, key, **more))[1]

    def states(self, *keys):
        return [status.state for status in read_statuses([JobFolder(self.root, key) for key in keys])]

    def running(self):
        return [process for process in self.started if process.poll() is None]

    def end(self):
        for process in self.running():
            process.kill()
            process.wait()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    machine = Machine(tmp_path)
    monkeypatch.setattr(attempts.launch, "as_process", machine.as_process)
    yield machine
    machine.end()


def test_one_trains_the_others_wait_and_are_attached_to(machine):
    assert [machine.submit(key).state for key in "abc"] == ["PENDING"] * 3
    assert len(machine.started) == 1
    waiting = machine.submit("b")
    assert waiting.attempt.phase == "waiting" and "at_once" in waiting.message and "now a" in waiting.message
    assert tend(waiting.job)[0] == "nothing" and len(machine.started) == 1
    assert machine.submit("other", "normalize").attempt.phase == "submitted"


def test_after_the_end_of_one_the_next_is_started_by_whoever_tends(machine):
    for key in "abc":
        machine.submit(key)
    finish(JobFolder(machine.root, "a"))
    assert tend(JobFolder(machine.root, "b"))[0] == "started" and tend(JobFolder(machine.root, "c"))[0] == "nothing"
    machine.end()
    assert tend(JobFolder(machine.root, "c"))[0] == "started"  # b was killed
    assert tend(JobFolder(machine.root, "b"))[1].attempt.phase == "waiting" and len(machine.running()) == 1


def test_after_a_reboot_tend_starts_no_more_than_at_once(machine):
    site = LOCAL.model_copy(update={"at_once": {"train": 2}})
    for number in range(8):
        dead = {"host": processes.host(), "boot": "before", "ticks": 1}
        job_of(machine.root, f"job-{number}", site=site, step="train", id="1", process=dead)
    for job in JobFolder.all(machine.root):
        assert tend(job)[0] == "continued"
    assert len(machine.running()) == 2
    assert [job.attempt().phase for job in JobFolder.all(machine.root)] == ["submitted"] * 2 + ["waiting"] * 6


def test_cancelling_the_one_that_runs_starts_one_that_waits_and_a_waiting_one_is_cancelled_at_once(machine):
    for key in "abc":
        machine.submit(key)
    assert tending.cancel(JobFolder(machine.root, "b")).state == "CANCELLED"
    assert tending.cancel(JobFolder(machine.root, "a")).state == "CANCELLED"
    assert machine.states("a", "b", "c") == ["CANCELLED", "CANCELLED", "PENDING"]
    assert JobFolder(machine.root, "c").attempt().phase == "submitted" and len(machine.running()) == 1
    assert machine.submit("b").attempt.phase == "waiting"


def test_a_job_that_needs_one_takes_no_room_before_that_is_done(machine):
    machine.submit("first", "normalize")
    assert "needs" in machine.submit("after", needs=("first",)).message
    assert machine.submit("other").attempt.phase == "submitted"
    finish(JobFolder(machine.root, "other"))
    finish(JobFolder(machine.root, "first"))
    assert tend(JobFolder(machine.root, "after"))[0] == "started"


def test_a_job_that_waits_for_one_that_was_cancelled_waits_no_longer(machine):
    machine.submit("first", "normalize")
    after = machine.submit("after", needs=("first",)).job
    tending.cancel(JobFolder(machine.root, "first"))
    (found,) = read_statuses([after])
    assert (found.state, found.ending) == ("REFUSED", "dependency") and "first" in found.message
    machine.submit("first", "normalize")
    assert tend(after)[1].attempt.phase == "waiting"


def test_a_job_that_needs_one_that_waits_is_submitted(machine):
    machine.submit("a")
    machine.submit("b")
    assert machine.submit("after", "forecast", needs=("b",)).attempt.phase == "submitted"


def test_a_job_whose_work_has_ended_makes_room_while_its_process_does(machine):
    job = machine.submit("a").job
    job.add_segment(1, segment="1", start=now())
    machine.submit("b")
    job.add_segment(1, segment="1", reason="error", end=now())
    assert tend(JobFolder(machine.root, "b"))[0] == "started"


def test_a_job_folder_that_cannot_be_read_keeps_nobody_from_starting(machine):
    odd = job_of(machine.root, "odd", site=LOCAL, step="train")
    (odd.path / "intent.json").write_text("{")
    assert machine.submit("a").attempt.phase == "submitted"


def test_a_job_that_ends_has_the_next_one_looked_at(tmp_path):
    at_once = {"executor": "local", "python": "/bin/true", "at_once": {"prepare": 1}}
    site = Site.model_validate(at_once)
    job_of(tmp_path, "runs", site=site, phase="submitting", id=None, begun=ago(1))
    what = Request("prepare", EXPERIMENT, "local", site, tmp_path, "next")
    assert submit.submit(what)[1].attempt.phase == "waiting"
    finish(JobFolder(tmp_path, "runs"))
    assert [job.key for job in queue.waiting(tmp_path)] == ["next"]
    runner.start_waiting(tmp_path)
    until(lambda: JobFolder(tmp_path, "next").attempt().phase == "submitted")


@pytest.mark.parametrize("at_once", [{"trian": 1}, {"train": 0}])
def test_a_wrong_limit_is_named(at_once):
    with pytest.raises((ValueError, UserError), match="at_once"):
        Site.model_validate({"executor": "local", "at_once": at_once})
