"""A process is known by more than its number: whoever has the number now is left alone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess

import psutil
import pytest

from jobs.job.status import read_statuses
from jobs.scheduler import processes
from jobs.site import Site
from jobs.submission import tend as tending
from tests.jobs import job_of, until

LOCAL = Site.model_validate({"executor": "local"})
MARK = "/jobs/job/attempts/1/submitit"


@pytest.fixture
def sleeper():
    """Starts a process that sleeps, the first of a session, and ends it after the test."""
    started = []

    def start():
        started.append(subprocess.Popen(["sleep", "300"], start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def orphan():
    """Starts a session whose first process ends at once and leaves one that sleeps: both, with their numbers."""
    left = []

    def start(**environment):
        script = "sleep 300 >/dev/null 2>&1 & echo $!"
        process = subprocess.Popen(
            ["sh", "-c", script], start_new_session=True, stdout=subprocess.PIPE, env=os.environ | environment
        )
        known = processes.identity(process.pid)
        left.append(int(process.communicate()[0]))
        return process.pid, {**known, "ticks": processes.start_ticks(left[-1])}, left[-1]

    yield start
    for number in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def earlier(process):
    """What would be noted of a process that had the same number before."""
    known = processes.identity(process.pid)
    return {**known, "ticks": known["ticks"] - 100}


def test_a_process_is_alive_until_it_is_ended(sleeper):
    process = sleeper()
    known = processes.identity(process.pid)
    assert processes.alive(process.pid, known) is True
    processes.end(process.pid, known)
    assert processes.alive(process.pid, known) is False and process.wait() == -signal.SIGTERM


def test_a_stranger_with_the_number_of_a_dead_process_is_neither_alive_nor_ended(sleeper):
    process = sleeper()
    assert processes.alive(process.pid, earlier(process), MARK) is False
    processes.end(process.pid, earlier(process), MARK)
    assert process.poll() is None


def test_another_boot_is_another_process(sleeper):
    process = sleeper()
    known = {**processes.identity(process.pid), "boot": "another"}
    assert processes.alive(process.pid, known, MARK) is False
    processes.end(process.pid, known, MARK)
    assert process.poll() is None


def test_what_a_dead_process_has_started_is_alive_and_can_be_ended(orphan):
    number, known, child = orphan(**{processes.MARKED: f"python -m jobs.worker.bootstrap '/root{MARK}'"})
    assert processes.alive(number, known, MARK) is True
    processes.end(number, known, MARK)
    assert processes.alive(number, known, MARK) is False and processes.process_row(child) is None


def test_a_session_that_a_stranger_left_behind_is_not_the_dead_process(orphan):
    """Its first process had the number too, and has ended as well: only the mark tells them apart."""
    number, known, child = orphan(**{processes.MARKED: "'/root/jobs/job/attempts/11/submitit'"})
    assert processes.alive(number, known, MARK) is False
    processes.end(number, known, MARK)
    assert psutil.Process(child).status() != psutil.STATUS_ZOMBIE


def test_a_job_whose_number_a_stranger_has_is_over_and_cancelling_it_harms_nobody(tmp_path, sleeper):
    process = sleeper()
    job = job_of(tmp_path, site=LOCAL, id=str(process.pid), process=earlier(process))
    (found,) = read_statuses([job])
    assert (found.state, found.ending) == ("FAILED", "killed")
    assert tending.cancel(job).state == "FAILED" and process.poll() is None


def test_a_process_that_only_waits_to_be_reaped_does_not_run():
    process = subprocess.Popen(["sleep", "300"], start_new_session=True)
    known = processes.identity(process.pid)
    process.kill()
    until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
    assert processes.alive(process.pid, known, MARK) is False
    process.wait()


@pytest.mark.parametrize(("now", "ending", "then"), [(4, "out_of_memory", "stopped"), (3, "killed", "goes on")])
def test_a_job_that_the_kernel_ended_for_its_memory_is_not_started_again(tmp_path, monkeypatch, now, ending, then):
    (tmp_path / "vmstat").write_text(f"nr_free_pages 1\noom_kill {now}\n")
    monkeypatch.setattr(processes, "VMSTAT", tmp_path / "vmstat")
    process = subprocess.Popen(["true"], start_new_session=True)
    known = {**processes.identity(process.pid), "ticks": 1, "oom_kills": 3}
    process.wait()
    (found,) = read_statuses([job_of(tmp_path, site=LOCAL, id=str(process.pid), process=known)])
    assert (found.ending, tending.outlook(found)) == (ending, then)
