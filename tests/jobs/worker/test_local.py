"""Jobs as processes of this machine, and jobs in the command itself: started, seen, ended, killed, found again.

A job that needs one of which nobody knows anything waits for it: that is the work these tests have at hand.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from graphufs.registry import registry
from graphufs.registry.decisions import promote
from graphufs.storage.atomic import write_json
from jobs import site
from jobs.cli.wait import wait_at_first
from jobs.job.folder import JobFolder
from jobs.job.records import now
from jobs.job.status import read_statuses
from jobs.scheduler import processes
from jobs.site import Site
from jobs.submission import launch, submit
from jobs.submission import tend as tending
from jobs.submission.attempts import LATE
from jobs.submission.submit import Request
from jobs.submission.tend import tend
from tests.conftest import TINY
from tests.jobs import EXPERIMENT, ago, finish, job_of, jobs_command, surroundings, until
from tests.registry.test_registry import model

LOCAL = site.load("local")


def look(job):
    return read_statuses([job])[0]


def members(job):
    """The running processes that a job consists of: those whose command line names its folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(job.path).encode() in path.read_bytes() and processes.start_ticks(int(path.parent.name)):
                found.append(int(path.parent.name))
    return found


def kill(job):
    """End all processes of a job as the kernel would."""
    for number in members(job):
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


class Bench:
    """A root with jobs in it; what still runs at the end is killed."""

    def __init__(self, root):
        self.root = root
        job_of(root, "awaited", site=LOCAL, id="1", process={"host": "another", "ticks": 1})

    def request(self, **more):
        more = {"site": LOCAL, "key": "job", "needs": ("awaited",), **more}
        return Request("prepare", EXPERIMENT, "local", root=self.root, **more)

    def waiting(self, **more):
        """A job that runs, and waits."""
        what, status = submit.submit(self.request(**more))
        assert what == "submitted" and not status.over
        until(lambda: look(status.job).state == "RUNNING")
        return status.job

    def release(self):
        finish(JobFolder(self.root, "awaited"))

    def end(self):
        for job in JobFolder.all(self.root):
            kill(job)


@pytest.fixture
def bench(tmp_path):
    """A root without data: a job that is let go downloads nothing, it makes the embedded world."""
    bench = Bench(tmp_path / "root")
    yield bench
    bench.end()


def starting(job):
    """The process of a job that holds its signals back and has not begun to work."""
    for number in members(job):
        with contextlib.suppress(OSError):
            begins = b"jobs.worker.bootstrap" in Path(f"/proc/{number}/cmdline").read_bytes()
            held = next(line for line in Path(f"/proc/{number}/status").read_text().splitlines() if "SigBlk" in line)
            if begins and int(held.split()[1], 16) >> (signal.SIGUSR2 - 1) & 1:
                return number
    return None


def test_a_signal_that_comes_before_the_work_has_begun_is_taken_later_and_the_job_goes_on(bench):
    _, status = submit.submit(bench.request())
    process = until(lambda: starting(status.job))
    os.kill(process, signal.SIGUSR2)
    until(lambda: len(status.job.segments(1)) == 2)
    first, second = status.job.segments(1)
    assert first["reason"] == "preempted" and first["saved"] and "reason" not in second
    assert look(status.job).state == "RUNNING" and status.job.attempts() == [1]


def test_a_local_job_runs_to_its_proof(normalized_root, copy_of_root):
    root = copy_of_root(normalized_root)
    what, status = submit.submit(Request("prepare", EXPERIMENT, "local", LOCAL, root, "job"))
    assert (what, status.state) == ("submitted", "PENDING")
    job = status.job
    done = until(lambda: (found := look(job)).over and found)
    assert done.state == "COMPLETED", done.message
    assert job.result()["result"]["status"] == "unchanged" and job.result()["attempt"] == 1
    (segment,) = job.segments(1)
    assert (segment["reason"], segment["id"]) == ("done", status.id) and segment["end"] >= segment["start"]
    assert job.claims(1) == {"0": status.id}
    assert any("submitit" in path.read_text() for path in job.logs(1))
    assert submit.submit(Request("prepare", EXPERIMENT, "local", LOCAL, root, "job"))[0] == "completed already"
    until(lambda: not members(job))


def test_who_submits_may_wait_for_a_short_job_and_is_told_all_of_it(normalized_root, copy_of_root):
    root = copy_of_root(normalized_root)
    command = jobs_command("submit", "prepare", TINY, "--root", root, "--key", "job", "--first-wait=60", "--json")
    for what in ("submitted", "completed already"):
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=surroundings())
        assert done.returncode == 0, done.stderr
        (answer,) = json.loads(done.stdout)["jobs"]
        assert (answer["what"], answer["state"]) == (what, "COMPLETED") and "submitit" in answer["log"]
        assert [one["reason"] for one in answer["history"]["segments"]] == ["done"]


def test_a_job_that_is_not_done_soon_is_left_to_those_who_look_after_it(tmp_path):
    job = job_of(tmp_path, site=LOCAL, id="1", process={"host": "another", "ticks": 1})
    began = time.monotonic()
    wait_at_first(job, 0.3)
    assert 0.3 <= time.monotonic() - began
    write_json(job.folder(1) / "ending.json", {"ending": "error", "message": "no", "at": now(), "id": "1"})
    wait_at_first(job, 3600)  # it failed: there is nothing to wait for


def test_cancelling_ends_the_process_and_all_it_started(bench):
    job = bench.waiting()
    assert len(members(job)) >= 2
    assert tending.cancel(job).state == "CANCELLED"
    until(lambda: not members(job))
    assert look(job).ending == "cancelled" and tend(job)[0] == "stopped"
    bench.release()
    what, status = submit.submit(bench.request())
    assert (what, status.attempt.number, status.over) == ("submitted", 2, False)
    assert tending.cancel(job).state == "CANCELLED"


def test_a_job_outlives_who_submitted_it_and_is_attached_to(bench, tmp_path):
    command = jobs_command(
        "submit", "prepare", TINY, "--root", bench.root, "--key", "job", "--needs", "awaited", "--json"
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=surroundings())
    assert done.returncode == 0, done.stderr
    job = JobFolder(bench.root, "job")
    until(lambda: look(job).state == "RUNNING")
    what, status = submit.submit(bench.request())
    assert (what, status.id, job.attempts()) == ("attached", json.loads(done.stdout)["jobs"][0]["id"], [1])
    tending.cancel(job)


def test_a_job_killed_with_all_its_processes_has_failed_and_tend_goes_on(bench):
    job = bench.waiting()
    kill(job)
    killed = until(lambda: (found := look(job)).over and found)
    assert (killed.state, killed.ending) == ("FAILED", "killed") and "its process is gone" in killed.message
    what, status = tend(job)
    assert (what, status.attempt.number, status.attempt.cause) == ("continued", 2, "killed")
    assert job.attempts() == [1, 2] and status.id != killed.id
    assert json.loads((job.folder(1) / "ending.json").read_text())["ending"] == "killed"
    tending.cancel(job)


def test_a_job_whose_controller_alone_was_killed_is_not_over_while_its_work_goes_on(bench):
    job = bench.waiting()
    number = int(look(job).id)
    os.kill(number, signal.SIGKILL)
    until(lambda: number not in members(job))
    (work,) = members(job)
    found = look(job)
    what, _ = tend(job)
    running = work in members(job)
    tending.cancel(job)
    assert running and not found.over and what != "continued", (found.state, found.ending, what)


def test_a_job_whose_submitter_died_before_noting_it_is_found_again(bench):
    job = bench.waiting()
    before = job.attempt()
    job.write_attempt(before, phase="submitting", id=None, process={})
    assert look(job).id == before.id
    (job.folder(1) / "claim-0").rename(job.folder(1) / "hidden")
    assert look(job).state == "SUBMITTING"
    what, status = submit.submit(bench.request())
    assert (what, status.state, status.id) == ("healed", "RUNNING", before.id)
    assert job.attempt().process == before.process and job.attempts() == [1]
    (job.folder(1) / "hidden").rename(job.folder(1) / "claim-0")
    assert tending.cancel(job).state == "CANCELLED"


def test_a_claimed_job_whose_submitter_died_is_known_with_its_process(bench):
    job = bench.waiting()
    before = job.attempt()
    job.write_attempt(before, phase="submitting", id=None, process={})
    assert look(job).state in ("RUNNING", "SUBMITTING")
    submit.submit(bench.request())
    assert (look(job).state, look(job).id, job.attempts()) == ("RUNNING", before.id, [1])
    assert tending.cancel(job).state == "CANCELLED"
    assert not members(job)


def test_a_job_of_which_no_process_ever_told_is_started_again_when_that_is_sure(bench):
    job = job_of(bench.root, site=LOCAL, phase="submitting", id=None, begun=ago(LATE / 2), needs=["awaited"])
    assert tend(job)[0] == "nothing" and look(job).state == "SUBMITTING"
    job.path.rename(bench.root / "jobs" / "other")
    _, status = submit.submit(bench.request())
    job = status.job
    tending.cancel(job)
    (job.path / "cancel.json").unlink()
    for name in ("segments.jsonl", "claim-0", "ending.json"):
        (job.folder(1) / name).unlink(missing_ok=True)
    job.write_attempt(job.attempt(), phase="submitting", id=None, process={}, begun=ago(LATE + 5))
    what, status = tend(job)
    assert (what, status.attempt.number) == ("healed", 1)
    until(lambda: look(job).state == "RUNNING")
    tending.cancel(job)


NO_LINKS = """
import errno, os

def link(*_, **__):
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))

os.link = link
"""


@pytest.fixture(params=["hard links", "no hard links"])
def file_system(request, tmp_path, monkeypatch):
    """Whether all processes that are started now find a file system with hard links, as its name."""
    if request.param == "no hard links":
        (tmp_path / "python").mkdir()
        (tmp_path / "python" / "sitecustomize.py").write_text(NO_LINKS)
        paths = [str(tmp_path / "python"), os.environ.get("PYTHONPATH", "")]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    return request.param


def test_of_two_processes_of_one_attempt_one_does_the_work(file_system, bench):
    job = bench.waiting()
    first = job.attempt()
    number, process = launch.as_process(job, first, LOCAL)
    until(lambda: not processes.alive(int(number), process))
    assert len(job.segments(1)) == 1 and look(job).state == "RUNNING" and look(job).id == first.id
    assert any("does the work" in path.read_text() for path in job.logs(1))
    assert not (job.folder(1) / "ending.json").exists()
    locked = (job.folder(1) / ".create.lock").exists()  # what a claim takes where it cannot be a link
    assert locked == (file_system == "no hard links")
    tending.cancel(job)


def test_a_job_that_needs_one_that_failed_says_so(bench):
    job = bench.waiting()
    awaited = JobFolder(bench.root, "awaited")
    awaited.write_attempt(awaited.attempt(), phase="refused")
    done = until(lambda: (found := look(job)).over and found)
    assert (done.state, done.ending) == ("FAILED", "dependency") and "awaited" in done.message
    assert tend(job)[0] == "waits for a person"


def test_a_python_that_is_not_there_is_named(bench):
    broken = Site.model_validate({"executor": "local", "python": "/no/such/python"})
    _, status = submit.submit(bench.request(site=broken, needs=()))
    done = until(lambda: (found := look(status.job)).over and found)
    assert done.state == "FAILED" and "/no/such/python" in done.message


def test_the_sites_setup_lines_come_before_python(bench):
    site = LOCAL.model_copy(update={"setup": [f"echo $PWD > {bench.root}/was-here", "export GRAPHUFS_TEST=1"]})
    job = bench.waiting(site=site)
    assert (bench.root / "was-here").read_text().strip() == str(bench.root)
    tending.cancel(job)


def debug(*arguments):
    command = jobs_command("submit", *arguments, "--site", "debug", "--key", "job")
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, env=surroundings()
    )


def test_a_job_in_the_command_itself_gives_its_result(normalized_root, copy_of_root):
    root = copy_of_root(normalized_root)
    done = debug("prepare", TINY, "--root", root, "--json")
    assert done.returncode == 0, done.stderr
    (job,) = json.loads(done.stdout)["jobs"]
    assert (job["what"], job["state"], job["result"]["result"]["status"]) == ("submitted", "COMPLETED", "unchanged")


def test_a_job_is_given_what_is_asked_of_it(tmp_path):
    for update in (1, 2):
        registry.register(tmp_path, model(update, "tiny"), "test")
        promote(tmp_path, f"tiny-abc-{update}", "me", "")
    asked = ("why=it's worse", "decided_by=Ann", "rollback_to=tiny-abc-1")
    done = debug("rollback", TINY, "--root", tmp_path, *(f"--request={one}" for one in asked))
    assert done.returncode == 0, done.stderr
    last = registry.history(tmp_path)[-1]
    assert (last.model, last.by, last.why) == ("tiny-abc-1", "Ann", "it's worse")


@pytest.mark.long  # the job on Slurm whose code has an error shows it too
def test_an_exception_in_the_command_itself_shows_its_traceback(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "worlds").write_text("a file where a folder should be")
    done = debug("prepare", TINY, "--root", root, "--debug")
    told = done.stdout + done.stderr
    assert done.returncode == 2 and "Traceback (most recent call last)" in told and "(Pdb)" in told
    assert "Error" in told and "prepare" in told
    job = JobFolder(root, "job")
    assert json.loads((job.folder(1) / "ending.json").read_text())["ending"] == "error"
    found = look(job)
    assert (found.state, found.ending) == ("FAILED", "error")
    (root / "worlds").unlink()
    assert debug("report", TINY, "--root", root).returncode == 2  # the key belongs to other work


def test_bad_input_in_the_command_itself_is_bad_input(tmp_path):
    done = debug("train", TINY, "--root", tmp_path)
    assert done.returncode == 2 and "graphufs prepare" in done.stderr
    assert look(JobFolder(tmp_path, "job")).ending == "bad_input"


def test_a_debugged_job_is_seen_from_elsewhere_while_it_runs_and_when_it_was_killed(bench):
    debug_site = site.load("debug")
    _, status = submit.submit(bench.request(site=debug_site, needs=()))
    job = status.job
    assert look(job).state == "PENDING"
    (job.folder(1) / "claim-0").write_text("DEBUG_140234")
    job.add_segment(1, segment="DEBUG_140234.0.1", start="2024-01-01T00:00:00Z", id="DEBUG_140234", process={})
    assert look(job).state == "RUNNING"
    here = job.attempt().process
    job.write_attempt(job.attempt(), process={**here, "ticks": 1})
    assert (look(job).state, look(job).ending) == ("FAILED", "killed")
