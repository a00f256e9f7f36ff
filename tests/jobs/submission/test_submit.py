"""Submitting once: attaching, refusing, healing, going on; and two who submit at the same moment."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import time
from dataclasses import asdict, replace

import pytest

from graphufs.config import loading
from graphufs.errors import UserError
from graphufs.storage.atomic import write_json
from jobs import preflight
from jobs.job.folder import JobFolder
from jobs.job.records import now
from jobs.job.status import read_statuses
from jobs.scheduler import slurm
from jobs.site import Site
from jobs.submission import submit
from jobs.submission import tend as tending
from jobs.submission.attempts import LATE
from jobs.submission.submit import Request
from jobs.submission.tend import tend
from tests.conftest import TINY
from tests.jobs import EXPERIMENT, ago, finish, job_of, jobs_command, surroundings, until


def site_of(**content):
    return Site.model_validate({"executor": "slurm", **content})


def request_of(root, step="prepare", *, site=None, **more):
    return Request(step, EXPERIMENT, "fake", site or site_of(), root, **{"key": "job", **more})


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


def half_submitted(root, fake, begun, **site):
    """A job whose submitter died before it noted sbatch's answer."""
    submit.submit(request_of(root, site=site_of(**site)))
    job = JobFolder(root, "job")
    job.write_attempt(job.attempt(), phase="submitting", id=None, begun=begun)
    fake.row("PENDING", "99")
    return job


def ended(fake, job, state_="FAILED"):
    """Have Slurm say that the last attempt is over, and be old enough to be believed."""
    fake.account(state_, job.attempt().id)
    write_json(job.folder(job.attempts()[-1]) / "settling.json", {"state": state_, "since": ago(3600)})


def test_a_submission_leaves_all_that_the_job_needs(fake, root):
    fake.row("PENDING", why="Priority")
    request = request_of(root, "train", site=site_of(resources={"train": {"gpus": 2, "partition": "gpu"}}))
    what, status = submit.submit(request)
    assert (what, status.state, status.id) == ("submitted", "PENDING", "12")
    job = JobFolder(root, "job")
    attempt = job.attempt()
    assert (attempt.number, attempt.phase, attempt.cause, attempt.resources["gpus"]) == (1, "submitted", "person", 2)
    assert job.experiment() == EXPERIMENT
    (call,) = fake.calls("sbatch")
    assert call == str(job.folder(1) / "script.sh")
    script = (job.folder(1) / "script.sh").read_text()
    assert f"#SBATCH --job-name={attempt.name}" in script and "#SBATCH --partition=gpu" in script
    assert "#SBATCH --gpus-per-node=2" in script and "#SBATCH --signal=USR2@300" in script
    assert "#SBATCH --requeue" in script and (job.folder(1) / "payload.pkl").exists()
    assert "#SBATCH --dependency" not in script


def test_intent_payload_and_attempt_are_there_before_sbatch_is_called(fake, root):
    place = root / "jobs" / "job"
    names = (
        f"{place}/intent.json {place}/experiment.yaml {place}/attempts/1/payload.pkl {place}/attempts/1/attempt.json"
    )
    check = f"for name in {names}; do [ -s $name ] || exit 7; done\n"
    check += f"[[ $(<{place}/attempts/1/attempt.json) == *submitting* ]]"
    (fake.bin / "sbatch").write_text(f"#!/bin/bash\n{check} || exit 8\necho Submitted batch job 12\n")
    assert submit.submit(request_of(root))[1].id == "12"


def test_the_same_key_again_attaches(fake, root):
    submit.submit(request_of(root))
    for said in ("PENDING", "RUNNING"):
        fake.row(said)
        what, status = submit.submit(request_of(root, force=True))
        assert (what, status.state) == ("attached", said)
    fake.say("squeue")
    assert submit.submit(request_of(root))[1].state == "UNKNOWN"
    fake.silence("squeue", "sacct")
    assert submit.submit(request_of(root))[0] == "attached"
    assert len(fake.calls("sbatch")) == 1


def test_a_lost_job_is_not_submitted_again(fake, root):
    submit.submit(request_of(root))
    job = JobFolder(root, "job")
    write_json(job.folder(1) / "observed.json", {"since": ago(100_000)})
    what, status = submit.submit(request_of(root))
    assert (what, status.state) == ("attached", "LOST")
    what, status = tend(job)
    assert (what, status.state) == ("nothing", "LOST")
    assert len(fake.calls("sbatch")) == 1


def test_finished_work_is_not_done_again_but_by_force_and_the_old_proof_stays(fake, root):
    submit.submit(request_of(root))
    job = JobFolder(root, "job")
    finish(job)
    assert submit.submit(request_of(root))[0] == "completed already"
    assert len(fake.calls("sbatch")) == 1
    fake.say("sbatch", "Submitted batch job 13")
    fake.row("PENDING", "13")
    what, status = submit.submit(request_of(root, force=True))
    assert (what, status.state, status.attempt.number, status.id) == ("submitted", "PENDING", 2, "13")
    assert job.result() is None and (job.path / "result-1.json").exists()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"step": "normalize"}, "its step, experiment or request is not the one given"),
        ({"experiment": loading.load(TINY, ["training.batch_size=1"])}, "its step, experiment or request"),
        ({"asked": loading.request({"champion": "tiny-ab-1"})}, "its step, experiment or request"),
        ({"site_name": "other"}, r"its site \(fake\) is not the one given"),
    ],
)
def test_a_key_that_belongs_to_other_work_is_refused(fake, root, change, expected):
    submit.submit(request_of(root))
    with pytest.raises(UserError, match=expected):
        submit.submit(replace(request_of(root), **change))
    assert len(fake.calls("sbatch")) == 1 and JobFolder(root, "job").require().step == "prepare"


def test_another_request_is_another_job_and_none_changes_nothing(fake, root):
    asked = loading.request({"champion": "tiny-ab-1"})
    jobs = {}
    for name, more in (("plain", {}), ("empty", {"asked": loading.request({})}), ("asked", {"asked": asked})):
        what, status = submit.submit(request_of(root, "register", key=None, **more))
        jobs[name] = status.job
        assert what == ("attached" if name == "empty" else "submitted")
        given = more["asked"].given if more else {}
        assert status.to_json().get("request", {}) == status.job.request().given == given
    assert jobs["plain"].key == jobs["empty"].key != jobs["asked"].key
    plain, other = (jobs[name].require() for name in ("plain", "asked"))
    assert plain.digest != other.digest and (plain.request, other.request) == ({}, {"champion": "tiny-ab-1"})


def test_a_job_that_0_1_submitted_with_keys_for_a_request_is_attached_to_and_keeps_it(fake, root):
    asked = loading.request({"champion": "tiny-ab-1", "night": "2026-03-01"})
    _, status = submit.submit(request_of(root, "register", asked=asked))
    job, intent = status.job, status.intent
    (job.path / "experiment.yaml").write_text(loading.dump(EXPERIMENT, asked))
    former = {name: value for name, value in asdict(intent).items() if name not in ("request", "labels")}
    (job.path / "intent.json").write_text(json.dumps(former))
    assert job.require().request == {} and job.request() == asked and job.experiment() == EXPERIMENT
    for labels in ({}, {"owner": "me"}):  # the second has the folder written anew
        assert submit.submit(request_of(root, "register", asked=asked, labels=labels))[0] == "attached"
        assert job.request() == asked and job.require().digest == intent.digest
    assert job.require().request == asked.given


def test_a_failed_job_gets_a_new_attempt_under_its_key(fake, root):
    submit.submit(request_of(root))
    job = JobFolder(root, "job")
    for number in (2, 3):
        ended(fake, job)
        fake.say("sbatch", f"Submitted batch job {number}0")
        what, status = submit.submit(request_of(root))
        assert (what, status.attempt.number, status.id) == ("submitted", number, f"{number}0")
    names = {job.attempt(number).name for number in (1, 2, 3)}
    assert len(names) == 3 and job.attempt(3).cause == "person"


def test_a_cancelled_job_starts_again_when_asked(fake, root):
    submit.submit(request_of(root))
    job = JobFolder(root, "job")
    fake.row("RUNNING")
    tending.cancel(job)
    assert fake.calls("scancel") == ["12"] and (job.path / "cancel.json").exists()
    fake.account("CANCELLED by 0")
    assert read_statuses([job])[0].state == "CANCELLED"
    assert tending.cancel(job).state == "CANCELLED" and len(fake.calls("scancel")) == 1
    fake.say("sbatch", "Submitted batch job 13")
    fake.row("PENDING", "13")
    assert submit.submit(request_of(root))[1].state == "PENDING" and not (job.path / "cancel.json").exists()


def test_cancelling_says_so_where_slurm_does_not_answer(fake, root):
    submit.submit(request_of(root))
    fake.silence("scancel")
    with pytest.raises(slurm.Silent, match="scancel"):
        tending.cancel(JobFolder(root, "job"))
    assert (root / "jobs" / "job" / "cancel.json").exists()


def test_a_refusal_is_kept_in_the_sites_words_and_can_be_repeated(fake, root):
    fake.say("sbatch", error="sbatch: error: Batch job submission failed: Invalid partition name specified", code=1)
    what, status = submit.submit(request_of(root))
    assert (what, status.state, status.ending) == ("submitted", "REFUSED", "refused")
    assert "Invalid partition name" in status.message
    fake.say("sbatch", "Submitted batch job 13")
    fake.row("PENDING", "13")
    assert submit.submit(request_of(root))[1].attempt.number == 2


def test_a_job_waits_at_slurm_for_the_live_ones_it_needs(fake, root):
    job_of(root, "live", id="7")
    job_of(root, "done", result=True)
    fake.row("RUNNING", "7")
    submit.submit(request_of(root, "train", needs=("live", "done")))
    script = (root / "jobs" / "job" / "attempts" / "1" / "script.sh").read_text()
    assert "#SBATCH --dependency=afterok:7\n" in script and "#SBATCH --kill-on-invalid-dep=yes" in script


def test_a_needed_job_that_does_not_exist_is_bad_input(fake, root):
    with pytest.raises(UserError, match="there is no job nobody"):
        submit.submit(request_of(root, needs=("nobody",)))
    assert not (root / "jobs" / "job").exists() and not fake.calls("sbatch")


@pytest.mark.parametrize(
    ("how", "expected"), [({}, "FAILED"), ({"attempt": False}, "NEW"), ({"phase": "refused", "id": None}, "REFUSED")]
)
def test_a_job_that_needs_one_that_will_not_come_is_refused(fake, root, how, expected):
    job_of(root, "needed", **how)
    fake.account("FAILED")
    _, status = submit.submit(request_of(root, needs=("needed",)))
    assert (status.state, status.ending) == ("REFUSED", "dependency")
    assert f"needed, which this one needs, is {expected}" in status.message
    assert not fake.calls("sbatch")
    finish(JobFolder(root, "needed"))
    fake.row("PENDING")
    assert submit.submit(request_of(root, needs=("needed",)))[1].state == "PENDING"


def test_tend_goes_on_with_a_job_when_the_one_it_needs_is_done(fake, root):
    job_of(root, "needed", phase="refused", id=None)
    job = submit.submit(request_of(root, needs=("needed",)))[1].job
    assert tend(job)[0] == "waits for a person" and not fake.calls("sbatch")
    finish(JobFolder(root, "needed"))
    fake.row("PENDING")
    what, status = tend(job)
    assert (what, status.state, status.attempt.cause) == ("continued", "PENDING", "dependency")


@pytest.mark.parametrize(
    ("step", "resources", "executor", "expected"),
    [
        ("forecast", ["nodes=2"], "slurm", "forecast runs on one node.*blocks"),
        ("report", ["nodes=2"], "slurm", "report runs on one node"),
        ("train", ["nodes=2"], "local", "2 nodes are asked for, but the site's executor is local"),
        ("train", ["blocks=2"], "slurm", "blocks applies only to forecasts"),
        ("forecast", ["blocks=2"], "local", "blocks applies only to forecasts on a site with Slurm"),
        ("trian", [], "slurm", "'trian' is not a step; the steps are prepare"),
        ("train", ["gpsu=2"], "slurm", "did you mean gpus"),
    ],
)
def test_what_a_step_cannot_use_is_bad_input_and_leaves_nothing(fake, root, step, resources, executor, expected):
    site = site_of(executor=executor)
    with pytest.raises(UserError, match=expected):
        submit.submit(request_of(root, step, site=site, resources=tuple(resources)))
    assert not root.exists() and not fake.calls("sbatch")


@pytest.mark.parametrize("step", ["prepare", "normalize", "train", "evaluate"])
def test_steps_that_can_run_on_several_nodes(fake, root, step):
    submit.submit(request_of(root, step, resources=("nodes=3",)))
    assert "#SBATCH --nodes=3" in (root / "jobs" / "job" / "attempts" / "1" / "script.sh").read_text()


def test_a_forecast_in_blocks_is_a_job_array(fake, root):
    submit.submit(request_of(root, "forecast", resources=("blocks=4",)))
    assert "#SBATCH --array=0-3" in (root / "jobs" / "job" / "attempts" / "1" / "script.sh").read_text()


def test_a_half_submitted_job_is_found_by_its_name(fake, root):
    job = half_submitted(root, fake, now())
    (fake.bin / "squeue").write_text(
        '#!/bin/bash\n[[ "$*" == *--name\\ graphufs.job.1.* ]] && echo "99|99" || echo "99|PENDING|Priority|||"\n'
    )
    what, status = submit.submit(request_of(root))
    assert (what, status.state, status.id) == ("healed", "PENDING", "99")
    assert job.attempt().phase == "submitted" and len(fake.calls("sbatch")) == 1


def test_a_half_submitted_job_that_nobody_knows_is_submitted_again_but_not_too_soon(fake, root):
    job = half_submitted(root, fake, ago(LATE / 2))
    fake.say("squeue")
    what, status = tend(job)
    assert (what, status.state) == ("nothing", "SUBMITTING") and "neither squeue nor accounting" in status.message
    assert len(fake.calls("sbatch")) == 1
    job.write_attempt(job.attempt(), begun=ago(LATE + 5))
    fake.say("sbatch", "Submitted batch job 13")
    what, status = tend(job)
    assert (what, status.id, status.attempt.number) == ("healed", "13", 1)
    assert len(fake.calls("sbatch")) == 2


@pytest.mark.parametrize("command", ["squeue", "sacct"])
def test_a_half_submitted_job_is_left_alone_while_one_is_silent(fake, root, command):
    job = half_submitted(root, fake, ago(LATE * 10))
    fake.say("squeue")
    fake.silence(command)
    assert tend(job)[0] == "nothing"
    _, status = submit.submit(request_of(root))
    assert status.state == "SUBMITTING" and command in status.message
    assert len(fake.calls("sbatch")) == 1


def test_a_job_that_could_not_be_healed_is_not_told_as_healed(fake, root):
    half_submitted(root, fake, ago(LATE * 10))
    fake.silence("squeue")
    assert submit.submit(request_of(root))[0] != "healed"


def test_a_lost_answer_of_sbatch_leaves_the_job_to_be_found(fake, root):
    fake.say(
        "sbatch", error="sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", code=1
    )
    what, status = submit.submit(request_of(root))
    assert (what, status.state) == ("submitted", "SUBMITTING") and "Socket timed out" in status.message
    fake.account("PENDING", "31")
    assert submit.submit(request_of(root))[1].id == "31"
    assert len(fake.calls("sbatch")) == 1


def test_a_half_submitted_job_that_was_cancelled_is_not_submitted_again(fake, root):
    job = half_submitted(root, fake, ago(LATE * 10))
    fake.silence("squeue")
    tending.cancel(job)
    fake.say("squeue")
    what, status = tend(job)
    assert len(fake.calls("sbatch")) == 1, (what, status.state)
    assert (status.state, status.ending) == ("CANCELLED", "cancelled"), "and nobody waits for it for ever"
    fake.say("sbatch", "Submitted batch job 13")
    what, status = submit.submit(request_of(root))
    assert (what, status.attempt.number, status.attempt.id) == ("submitted", 2, "13")


def test_tend_goes_on_a_bounded_number_of_times(fake, root):
    submit.submit(request_of(root, site=site_of(max_attempts=3)))
    job = JobFolder(root, "job")
    done = []
    for number in range(2, 6):
        ended(fake, job, "TIMEOUT")
        fake.say("sbatch", f"Submitted batch job {number}0")
        done.append(tend(job)[0])
    assert done == ["continued", "continued", "waits for a person", "waits for a person"]
    assert job.attempts() == [1, 2, 3] and job.attempt().cause == "time_limit"
    assert json.loads((job.folder(1) / "ending.json").read_text())["ending"] == "time_limit"
    submit.submit(request_of(root, site=site_of(max_attempts=3)))
    ended(fake, job, "TIMEOUT")
    fake.say("sbatch", "Submitted batch job 60")
    assert tend(job)[0] == "continued" and job.attempts() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("said", "done"),
    [
        ("TIMEOUT", "continued"),
        ("PREEMPTED", "continued"),
        ("NODE_FAIL", "continued"),
        ("FAILED", "continued"),
        ("OUT_OF_MEMORY", "stopped"),
        ("CANCELLED", "stopped"),
        ("RUNNING", "nothing"),
        ("PENDING", "nothing"),
    ],
)
def test_tend_does_what_the_policy_says(fake, root, said, done):
    submit.submit(request_of(root))
    job = JobFolder(root, "job")
    ended(fake, job, said)
    fake.say("sbatch", "Submitted batch job 13")
    assert tend(job)[0] == done
    assert len(job.attempts()) == (2 if done == "continued" else 1)


@pytest.mark.parametrize("ending", ["diverged", "bad_input", "error", "out_of_memory", "disk_full", "hung"])
def test_the_policy_of_the_attempts_site_counts_for_what_the_work_says(fake, root, ending):
    submit.submit(request_of(root, site=site_of(policy={ending: "wait"})))
    job = JobFolder(root, "job")
    fake.account("FAILED", code="1:0")
    write_json(job.folder(1) / "ending.json", {"ending": ending, "message": "why", "at": now(), "id": "12"})
    assert tend(job)[0] == "waits for a person" and job.attempts() == [1]


def test_tend_leaves_a_refused_job_to_a_person(fake, root):
    fake.say("sbatch", error="sbatch: error: Invalid account", code=1)
    submit.submit(request_of(root))
    assert tend(JobFolder(root, "job"))[0] == "waits for a person" and len(fake.calls("sbatch")) == 1


def test_a_chain_needs_each_step_before_it(fake, root):
    requests = submit.chain(
        ["prepare", "normalize", "train"], experiment=EXPERIMENT, site_name="fake", site=site_of(), root=root
    )
    assert [request.needs for request in requests] == [(), (requests[0].job().key,), (requests[1].job().key,)]


def test_two_processes_that_submit_the_same_key_at_once_start_one_job(fake, root):
    fake.say("sbatch", "Submitted batch job 12", seconds=1.0)
    fake.row("PENDING")
    command = jobs_command("submit", "prepare", TINY, "--site", "fake", "--root", root, "--json")
    processes = [
        subprocess.Popen(command, env=surroundings(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    told = [json.loads(out)["jobs"][0] for out, _ in answers]
    assert sorted(one["what"] for one in told) == ["attached", "submitted"]
    assert {(one["id"], one["attempt"]) for one in told} == {("12", 1)}
    assert len(fake.calls("sbatch")) == 1


def test_a_submitter_killed_inside_sbatch_leaves_a_job_that_the_next_one_finds(fake, root):
    fake.say("sbatch", "Submitted batch job 12", seconds=5)
    command = jobs_command("submit", "prepare", TINY, "--site", "fake", "--root", root, "--key", "job")
    first = subprocess.Popen(command, env=surroundings(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: fake.calls("sbatch"))
    first.kill()
    first.wait()
    fake.account("RUNNING")
    began = time.monotonic()
    what, status = submit.submit(request_of(root))
    assert (what, status.id) == ("healed", "12") and time.monotonic() - began < 5
    assert len(fake.calls("sbatch")) == 1


def test_where_there_is_no_slurm_a_submission_is_no_accident(fake, root):
    for command in ("srun", "sbatch", "squeue", "sacct"):
        fake.missing(command)
    try:
        _, status = submit.submit(request_of(root))
    except UserError as error:
        assert "Slurm" in str(error) or "srun" in str(error) or "sbatch" in str(error)
    else:
        assert status.state == "REFUSED" and "command not found" in status.message


def test_a_preflight_where_there_is_no_slurm_is_no_accident(fake):
    for command in ("srun", "sbatch"):
        fake.missing(command)
    assert preflight._placement("fake", site_of(), "train").good is not True


@pytest.mark.parametrize(("number", "good"), [(errno.EPERM, None), (errno.EOPNOTSUPP, None), (errno.EDQUOT, False)])
def test_a_preflight_says_that_there_are_no_hard_links(number, good, tmp_path, monkeypatch):
    assert preflight._links(tmp_path).good is True

    def link(*names):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)
    found = preflight._links(tmp_path)
    assert found.good is good and str(tmp_path) in found.words and not list(tmp_path.iterdir())


def test_a_preflight_looks_at_what_a_job_will_ask_for_besides(tmp_path):
    site = site_of(executor="local")
    found = {one.what: one for one in preflight.check("here", site, tmp_path, ["train.gpus=64", "train.time_limit=30"])}
    assert found["GPU"].good is False and found["GPU"].words.startswith("64 asked for")
    for wrong in ("trian.gpus=2", "gpus=2", "train.gpus=-1", "train.gpsu=1"):
        with pytest.raises(UserError):
            list(preflight.check("here", site, tmp_path, [wrong]))
