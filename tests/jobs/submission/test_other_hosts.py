"""Jobs seen from another host: their processes out of reach, and its clock an hour off."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from graphufs.errors import UserError
from graphufs.storage.atomic import write_json
from jobs.cli import main
from jobs.cli.app import Place
from jobs.job.folder import JobFolder
from jobs.job.records import moment
from jobs.job.status import SETTLE, read_statuses
from jobs.scheduler import processes
from jobs.site import Site
from jobs.submission import attempts, submit
from jobs.submission import tend as tending
from jobs.submission.attempts import LATE
from jobs.submission.submit import Request
from jobs.submission.tend import tend
from tests.jobs import EXPERIMENT, SLURM, ago, job_of, jobs_command, surroundings

LOCAL = Site.model_validate({"executor": "local", "lost_after": 600})


def look(job):
    return read_statuses([job])[0]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A job whose process runs on the host `login2`; this one is `login1`."""
    process = subprocess.Popen(["sleep", "300"], start_new_session=True)
    monkeypatch.setattr(processes, "host", lambda: "login2")
    what = Request("prepare", EXPERIMENT, "local", LOCAL, tmp_path, "job")
    monkeypatch.setattr(attempts.launch, "as_process", lambda *_: (str(process.pid), processes.identity(process.pid)))
    assert submit.submit(what)[1].state == "PENDING"
    monkeypatch.setattr(processes, "host", lambda: "login1")
    yield what, process
    process.kill()
    process.wait()


def seen_by(job, name, **hosts):
    """What hosts have noted of a job, so many seconds ago."""
    path = job.folder(1) / name
    state = json.loads(path.read_text())["state"] if path.exists() else ""
    write_json(path, {"state": state, "since": {host: ago(seconds) for host, seconds in hosts.items()}})


def test_a_cancel_from_another_host_leaves_the_job_live_until_it_has_ended(elsewhere, monkeypatch):
    request, process = elsewhere
    job = request.job()
    with pytest.raises(UserError, match=r"login2; run `graphufs-jobs cancel job` there"):
        main.cancel("job", place=Place(root=request.root))
    assert look(job).state == "UNKNOWN" and "cancel wanted" in look(job).message
    seen_by(job, "observed.json", login1=LOCAL.lost_after + 5)
    assert look(job).state == "LOST" and "cancel wanted" in look(job).message
    assert submit.submit(request)[0] == "attached" and tend(job)[0] == "nothing"
    assert job.attempts() == [1] and process.poll() is None
    monkeypatch.setattr(processes, "host", lambda: "login2")
    assert look(job).state == "PENDING" and "cancel wanted" in look(job).message
    assert tending.cancel(job).state == "CANCELLED" and process.poll() is not None
    assert submit.submit(request)[0] == "submitted"


def test_of_a_lost_process_of_another_host_a_person_may_say_that_it_is_gone(elsewhere):
    request, process = elsewhere
    job = request.job()
    assert tending.cancel(job, gone=True).state == "UNKNOWN"
    seen_by(job, "observed.json", login1=LOCAL.lost_after + 5)
    assert look(job).state == "CANCELLED" and process.poll() is None
    assert submit.submit(request)[1].attempt.number == 2


@pytest.mark.parametrize("off", [3600, -3600])
def test_a_half_submitted_job_of_another_host_waits_by_the_own_clock(fake, tmp_path, off):
    job = job_of(tmp_path, phase="submitting", id=None, begun=ago(off), host="login2")
    assert tend(job)[0] == "nothing" and not fake.calls("sbatch")
    seen = json.loads((job.folder(1) / "unsent.json").read_text())
    write_json(job.folder(1) / "unsent.json", {**seen, "since": {processes.host(): ago(LATE + 5)}})
    (job.folder(1) / "script.sh").write_text("")
    assert tend(job)[0] == "healed" and len(fake.calls("sbatch")) == 1
    assert job.attempt().host == processes.host() and moment(job.attempt().begun) > moment(ago(60))


@pytest.mark.parametrize("off", [3600, -3600])
def test_what_another_host_noted_by_its_clock_neither_hastens_nor_delays_an_end(fake, tmp_path, off):
    job = job_of(tmp_path)
    fake.account("NODE_FAIL")
    assert look(job).state == "RUNNING"
    seen_by(job, "settling.json", login2=off)
    assert look(job).state == "RUNNING"
    seen_by(job, "settling.json", **{"login2": off, processes.host(): SETTLE + 5})
    assert look(job).over
    lost = job_of(tmp_path, "lost", id="13")
    seen_by(lost, "observed.json", login2=off)
    assert look(lost).state == "UNKNOWN"
    seen_by(lost, "observed.json", **{"login2": off, processes.host(): SLURM.lost_after + 5})
    assert look(lost).state == "LOST"


@pytest.mark.parametrize("clock", ["+1h", "-1h"])
def test_a_running_job_is_seen_as_running_by_a_clock_that_is_an_hour_off(tmp_path, clock):
    if shutil.which("faketime") is None:
        pytest.skip("faketime is not installed: run scripts/packages.sh slurm as root")
    process = subprocess.Popen(["sleep", "300"], start_new_session=True)
    try:
        known = processes.identity(process.pid)
        job = job_of(tmp_path, site=LOCAL, id=str(process.pid), process=known)
        job.add_segment(1, segment="1", start=ago(1), process=known)
        command = ["faketime", "-f", clock, *jobs_command("tend", "job", "--root", tmp_path, "--json")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=surroundings())
        assert done.returncode == 0, done.stderr
        (answer,) = json.loads(done.stdout)["jobs"]
        assert (answer["what"], answer["state"]) == ("nothing", "RUNNING")
        assert JobFolder(tmp_path, "job").attempts() == [1] and process.poll() is None
    finally:
        process.kill()
        process.wait()
