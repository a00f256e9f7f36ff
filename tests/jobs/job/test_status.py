"""States by evidence: which of all that is there counts, and that silence counts for nothing."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import asdict

import pytest

from graphufs.storage.atomic import write_json
from jobs.job.folder import JobFolder
from jobs.job.reading import read_json
from jobs.job.records import Intent, now
from jobs.job.status import SETTLE, read_statuses
from jobs.scheduler import processes
from jobs.site import Policy, Site
from tests.jobs import SLURM, ago, attempt_of, finish, job_of


def look(job):
    return read_statuses([job])[0]


def logged(job, text, name="12_0_log.err"):
    job.submitit(1).mkdir(parents=True, exist_ok=True)
    (job.submitit(1) / name).write_text(text)


def seen_earlier(job, name, seconds):
    """Have what was noted at the first look be older."""
    path = job.folder(1) / name
    content = read_json(path)
    write_json(path, {**content, "since": ago(seconds)})


def test_an_intent_alone_is_new(fake, tmp_path):
    found = look(job_of(tmp_path, attempt=False))
    assert (found.state, found.over, found.attempt, found.id) == ("NEW", False, None, None)


def test_an_attempt_without_a_number_is_submitting(fake, tmp_path):
    found = look(job_of(tmp_path, phase="submitting", id=None))
    assert (found.state, found.over) == ("SUBMITTING", False) and "looks the job up" in found.message
    assert not fake.calls("squeue")


def test_a_refused_attempt_keeps_the_sites_words(fake, tmp_path):
    found = look(job_of(tmp_path, phase="refused", id=None, message="QOSMaxSubmit"))
    assert (found.state, found.over, found.ending, found.message) == ("REFUSED", True, "refused", "QOSMaxSubmit")


@pytest.mark.parametrize("said", ["FAILED", "CANCELLED", "RUNNING", "TIMEOUT"])
def test_the_result_file_goes_before_all_else(fake, tmp_path, said):
    fake.row(said)
    found = look(job_of(tmp_path, result=True))
    assert (found.state, found.over) == ("COMPLETED", True)
    assert not fake.calls("squeue") and not fake.calls("sacct")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("PENDING", "PENDING"),
        ("RUNNING", "RUNNING"),
        ("COMPLETING", "RUNNING"),
        ("CONFIGURING", "RUNNING"),
        ("SUSPENDED", "RUNNING"),
        ("REQUEUED", "RUNNING"),
        ("SPECIAL_EXIT", "RUNNING"),
    ],
)
def test_a_job_in_the_queue_is_not_over(fake, tmp_path, said, expected):
    fake.row(said, why="Priority")
    found = look(job_of(tmp_path))
    assert (found.state, found.over, found.id) == (expected, False, "12")
    assert found.message == ("Priority" if said == "PENDING" else "node1")


def test_the_controllers_word_goes_before_accountings(fake, tmp_path):
    fake.account("NODE_FAIL")
    fake.row("PENDING")
    assert look(job_of(tmp_path)).state == "PENDING"


def test_accounting_counts_where_the_queue_is_silent(fake, tmp_path):
    fake.account("FAILED", code="1:0")
    fake.silence("squeue")
    assert look(job_of(tmp_path)).state == "FAILED"


def test_an_array_runs_until_its_last_element_ends(fake, tmp_path):
    job = job_of(tmp_path)
    fake.say(
        "squeue", "12_0|COMPLETED|None|||n1\n12_1|RUNNING|None|||n2\n12_2|PENDING|Resources|||\n13|RUNNING|None|||n3"
    )
    fake.say("sacct", "12_0|COMPLETED|0:0|||n1\n12_[1-2]|PENDING|0:0|||")
    found = look(job)
    assert (found.state, found.message) == ("RUNNING", "n2")
    fake.say("squeue", "12_0|COMPLETED|None|||n1\n12_1|OUT_OF_MEMORY|None|||n2\n12_2|COMPLETED|None|||n1")
    assert (look(job).state, look(job).ending) == ("FAILED", "out_of_memory")


@pytest.mark.parametrize("said", ["COMPLETED", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL"])
def test_what_slurm_may_take_back_is_given_time(fake, tmp_path, said):
    job = job_of(tmp_path)
    fake.account(said)
    for _ in range(2):
        found = look(job)
        assert (found.state, found.over) == ("RUNNING", False) and said in found.message
    seen_earlier(job, "settling.json", SETTLE + 5)
    found = look(job)
    assert (found.state, found.over) == ("FAILED", True)
    expected = {"COMPLETED": "killed", "PREEMPTED": "preempted"}.get(said, "node_failure")
    assert found.ending == expected and said in found.message


def test_a_result_that_comes_late_counts(fake, tmp_path):
    job = job_of(tmp_path)
    fake.account("COMPLETED")
    assert look(job).state == "RUNNING"
    finish(job)
    assert look(job).state == "COMPLETED"


@pytest.mark.parametrize("said", ["PREEMPTED", "NODE_FAIL"])
def test_each_preemption_is_given_time_of_its_own(fake, tmp_path, said):
    job = job_of(tmp_path)
    fake.account(said)
    assert look(job).state == "RUNNING"
    seen_earlier(job, "settling.json", 7200)
    fake.row("RUNNING")
    assert look(job).message == "node1"
    fake.account(said)
    assert look(job).state == "RUNNING"


@pytest.mark.parametrize("said", ["PREEMPTED", "NODE_FAIL"])
def test_while_the_controller_is_silent_nobody_knows_whether_the_job_was_requeued(fake, tmp_path, said):
    job = job_of(tmp_path)
    fake.account(said)
    assert look(job).state == "RUNNING"
    seen_earlier(job, "settling.json", 7200)
    fake.say("squeue", error="slurm_load_jobs error: Unable to contact slurm controller", code=1)
    assert look(job).state == "RUNNING"
    fake.say("squeue")
    assert (look(job).state, look(job).over) == ("FAILED", True)


def test_a_state_that_nobody_has_heard_of_is_no_proof_of_the_end(fake, tmp_path):
    job = job_of(tmp_path)
    for said in ("EXPEDITING", "UNKNOWN", ""):
        fake.account(said)
        assert not look(job).over, said


def test_a_job_that_nobody_knows_is_unknown_and_then_lost(fake, tmp_path):
    job = job_of(tmp_path)
    first = look(job)
    assert (first.state, first.over) == ("UNKNOWN", False)
    assert first.message == "squeue and sacct both answered, neither knows the job"
    seen_earlier(job, "observed.json", SLURM.lost_after - 60)
    second = look(job)
    assert second.state == "UNKNOWN" and second.since < first.since
    seen_earlier(job, "observed.json", SLURM.lost_after + 5)
    third = look(job)
    assert (third.state, third.over) == ("LOST", False) and third.since == look(job).since
    fake.row("RUNNING")
    assert look(job).state == "RUNNING"
    fake.say("squeue")
    again = look(job)
    assert again.state == "UNKNOWN" and again.since > third.since


def test_a_lost_job_whose_result_comes_is_completed(fake, tmp_path):
    job = job_of(tmp_path)
    look(job)
    seen_earlier(job, "observed.json", SLURM.lost_after + 5)
    assert look(job).state == "LOST"
    finish(job)
    assert look(job).state == "COMPLETED"


def test_who_does_not_answer_is_named(fake, tmp_path):
    job = job_of(tmp_path)
    fake.silence("squeue")
    assert look(job).message == "squeue failed: squeue: error: Unable to contact slurm controller"
    fake.silence("sacct")
    found = look(job)
    assert found.state == "UNKNOWN" and "squeue failed" in found.message and "sacct failed" in found.message
    fake.missing("sacct")
    fake.row("RUNNING")
    assert look(job).state == "RUNNING"
    fake.say("squeue")
    assert look(job).message == "sacct: command not found"


@pytest.mark.parametrize(
    ("said", "log", "ending"),
    [
        ("OUT_OF_MEMORY", "", "out_of_memory"),
        ("TIMEOUT", "", "time_limit"),
        ("DEADLINE", "", "time_limit"),
        ("FAILED", "", "killed"),
        ("FAILED", "slurmstepd: error: Job 12 exceeded memory limit\n", "out_of_memory"),
        ("FAILED", "slurmstepd: error: Detected 1 oom_kill event in StepId=12.0\n", "out_of_memory"),
        ("FAILED", "OSError: [Errno 28] No space left on device\n", "disk_full"),
        ("FAILED", "OSError: [Errno 122] Disk quota exceeded\n", "disk_full"),
        ("FAILED", "UncompletedJobError: Job not requeued because: timed-out too many times.\n", "time_limit"),
        ("FAILED", "Traceback (most recent call last):\n  File\nKeyError: 'x'\n", "error"),
        ("FAILED", "submitit INFO (2024) - Starting\nKilled\n", "killed"),
    ],
)
def test_how_a_job_ended_follows_from_slurm_and_the_log(fake, tmp_path, said, log, ending):
    job = job_of(tmp_path)
    if log:
        logged(job, log)
    fake.account(said, code="1:0")
    found = look(job)
    assert (found.state, found.ending) == ("FAILED", ending)
    assert said in found.message and "1:0" in found.message
    assert not log or log.splitlines()[-1] in found.message
    assert ending in Policy.model_fields


def test_the_end_of_a_very_long_log_is_enough(fake, tmp_path):
    job = job_of(tmp_path)
    logged(job, "é" * 100_001 + "\nTraceback (most recent call last):\nValueError: here\n")
    fake.account("FAILED")
    assert look(job).ending == "error" and look(job).message.endswith("ValueError: here")


def test_the_works_own_word_goes_before_slurms(fake, tmp_path):
    job = job_of(tmp_path)
    own = {"ending": "diverged", "message": "the loss is not finite", "at": "2024-01-01T00:00:00Z", "id": "12"}
    write_json(job.folder(1) / "ending.json", own)
    fake.account("FAILED", code="1:0")
    found = look(job)
    assert (found.ending, found.message, found.since) == ("diverged", own["message"], own["at"])


def test_a_job_cancelled_behind_our_back_is_cancelled(fake, tmp_path):
    fake.account("CANCELLED by 1000")
    found = look(job_of(tmp_path))
    assert (found.state, found.ending, found.over) == ("CANCELLED", "cancelled", True)


def test_a_job_that_was_to_be_cancelled_is_cancelled_however_it_died(fake, tmp_path):
    job = job_of(tmp_path)
    write_json(job.path / "cancel.json", {"at": now()})
    fake.row("RUNNING")
    assert look(job).state == "RUNNING"
    fake.account("FAILED", code="1:0")
    assert look(job).state == "CANCELLED"


def test_a_job_cancelled_because_of_one_it_needs_has_failed(fake, tmp_path):
    job_of(tmp_path, "needed", id="11")
    job = job_of(tmp_path, needs=["needed"])
    fake.account("CANCELLED")
    found = look(job)
    assert (found.state, found.ending) == ("FAILED", "dependency") and "needed" in found.message
    finish(JobFolder(tmp_path, "needed"))
    assert look(job).state == "CANCELLED"


def test_the_job_that_claimed_the_work_is_the_one_looked_at(fake, tmp_path):
    job = job_of(tmp_path)
    (job.folder(1) / "claim-0").write_text("14_0")
    (job.folder(1) / "claim-1").write_text("")
    fake.say("squeue", "12|FAILED|None|||\n14_0|RUNNING|None|||node9")
    found = look(job)
    assert (found.state, found.id, found.message) == ("RUNNING", "14", "node9")


def test_the_last_attempt_is_the_one_looked_at(fake, tmp_path):
    job = job_of(tmp_path)
    job.write_attempt(attempt_of(2, id="20"))
    fake.say("squeue", "12|FAILED|None|||\n20|PENDING|Priority|||")
    assert (look(job).state, look(job).attempt.number) == ("PENDING", 2)


def test_five_hundred_jobs_cost_one_question_each(fake, tmp_path):
    jobs, lines = [], []
    intent = json.dumps(asdict(Intent("KEY", "train", "fake", "slurm", "0", now())))
    for number in range(500):
        job = JobFolder(tmp_path, f"job-{number:03}")
        job.folder(1).mkdir(parents=True)
        (job.path / "intent.json").write_text(intent.replace("KEY", job.key))
        (job.folder(1) / "attempt.json").write_text(json.dumps(asdict(attempt_of(id=str(1000 + number)))))
        lines.append(f"{1000 + number}|RUNNING|None|||node1")
        jobs.append(job)
    fake.say("squeue", "\n".join(lines[:250]))
    fake.say("sacct", "\n".join(line.replace("None", "0:0") for line in lines[250:]))
    began = time.monotonic()
    found = read_statuses(jobs)
    took = time.monotonic() - began
    print(f"status of 500 jobs: {took:.2f} s")
    assert {status.state for status in found} == {"RUNNING"}
    assert len(fake.calls("squeue")) == 1 and len(fake.calls("sacct")) == 1
    assert took < 10


def test_a_status_is_json_with_all_there_is_to_know(fake, tmp_path):
    fake.row("RUNNING")
    content = look(job_of(tmp_path)).to_json()
    expected = {
        "key": "job",
        "state": "RUNNING",
        "over": False,
        "ending": None,
        "attempt": 1,
        "id": "12",
        "segments": 0,
    }
    assert expected.items() <= content.items()


def test_a_local_process_on_another_machine_is_unknown(tmp_path):
    site = Site.model_validate({"executor": "local", "lost_after": 600})
    job = job_of(tmp_path, site=site, id="4711", process={"host": "another", "ticks": 1})
    found = look(job)
    assert (found.state, found.over) == ("UNKNOWN", False) and "another" in found.message


def test_a_number_that_another_process_has_by_now_is_not_the_job(tmp_path):
    site = Site.model_validate({"executor": "local"})
    own = processes.identity(os.getpid())
    job = job_of(tmp_path, site=site, id=str(os.getpid()), process={**own, "ticks": 1})
    assert (look(job).state, look(job).ending) == ("FAILED", "killed")
    job.write_attempt(attempt_of(site=site, id=str(os.getpid()), process=own))
    assert look(job).state == "PENDING"
    job.add_segment(1, segment="1", start=now())
    assert look(job).state == "RUNNING"


def test_a_process_that_ended_before_its_start_time_was_read_is_gone():
    process = subprocess.Popen(["/bin/true"])
    process.wait()
    assert processes.alive(process.pid, processes.identity(process.pid)) is False
