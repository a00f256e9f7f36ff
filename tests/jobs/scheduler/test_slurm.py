"""Slurm's commands: how answers are read, and that no answer is never taken for one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from jobs.scheduler import slurm
from jobs.scheduler.slurm import Refused, Row, Silent

SINCE = datetime(2024, 3, 1, 23, 59, 50, tzinfo=UTC)
LATELY = "2024-03-01T10:00:00|2024-03-01T11:00:00|node1"


def told_start(call):
    """The time after -S."""
    words = call.split()
    return datetime.fromisoformat(words[words.index("-S") + 1])


def test_squeue_is_read_by_number_arrays_by_element(fake):
    lines = ["12|RUNNING|None|2024-03-01T10:00:00|2024-03-01T11:00:00|node[1-2]", "13_0|PENDING|Priority|N/A|N/A|"]
    fake.say("squeue", "\n".join([*lines, "13_1|COMPLETED|None|N/A|N/A|node1"]))
    rows = slurm.squeue()
    assert list(rows) == ["12", "13_0", "13_1"]
    assert rows["12"] == Row("12", "RUNNING", "None", "2024-03-01T10:00:00", "2024-03-01T11:00:00", "node[1-2]")
    assert (rows["13_0"].state, rows["13_0"].why) == ("PENDING", "Priority")


def test_an_empty_queue_is_an_answer(fake):
    assert slurm.squeue() == {} and slurm.sacct(["12"], SINCE) == {} and slurm.find("name", SINCE) == []


def test_sacct_spells_a_waiting_array_in_one_line(fake):
    fake.say("sacct", f"12_[0-3]|PENDING|0:0|{LATELY}\n13_[1,4-5%2]|PENDING|0:0|{LATELY}\n14_7|RUNNING|0:0|{LATELY}")
    rows = slurm.sacct(["12", "13", "14"], SINCE)
    assert list(rows) == ["12_0", "12_1", "12_2", "12_3", "13_1", "13_4", "13_5", "14_7"]
    assert all(number == row.id for number, row in rows.items())


def test_sacct_says_by_whom_a_job_was_cancelled_and_the_last_start_counts(fake):
    fake.say("sacct", f"12|CANCELLED by 1000|0:15|{LATELY}\n13|PREEMPTED|0:0|{LATELY}\n13|COMPLETED|0:0|{LATELY}")
    rows = slurm.sacct(["12", "13"], SINCE)
    assert (rows["12"].state, rows["12"].why) == ("CANCELLED", "0:15")
    assert rows["13"].state == "COMPLETED"


@pytest.mark.parametrize("offset", range(-12, 15, 2))
def test_sacct_is_told_a_start_before_the_submission_in_every_time_zone(fake, offset):
    slurm.sacct(["12", "9"], SINCE)
    (call,) = fake.calls("sacct")
    assert told_start(call) < (SINCE + timedelta(hours=offset)).replace(tzinfo=None)
    assert "-j 12,9" in call and " -X" in call


def test_every_look_into_accounting_has_a_start(fake):
    slurm.find("graphufs.job.1.abc", SINCE)
    slurm.segments(["12"], SINCE)
    for call in fake.calls("sacct"):
        assert told_start(call).date() < SINCE.date()


def test_a_name_is_looked_up_in_queue_and_accounting(fake):
    fake.say("squeue", "105|100\n106|100\n100|100")
    fake.say("sacct", "100_[0-3]\n99\n20")
    assert slurm.find("graphufs.job.1.abc", SINCE) == ["20", "99", "100"]
    assert "--name graphufs.job.1.abc" in fake.calls("squeue")[0]
    assert "--name graphufs.job.1.abc" in fake.calls("sacct")[0]


@pytest.mark.parametrize("command", ["squeue", "sacct"])
def test_a_name_is_not_unknown_while_one_of_the_two_is_silent(fake, command):
    fake.silence(command)
    with pytest.raises(Silent, match=command):
        slurm.find("graphufs.job.1.abc", SINCE)


def test_a_failing_command_is_silent_and_its_words_are_kept(fake):
    fake.say("squeue", "12|RUNNING|||", error="slurm_load_jobs error: Unable\n to contact", code=1)
    with pytest.raises(Silent, match="squeue failed: slurm_load_jobs error: Unable to contact"):
        slurm.squeue()
    fake.say("squeue", code=3)
    with pytest.raises(Silent, match="squeue failed: exit code 3"):
        slurm.squeue()


def test_a_missing_command_is_silent(fake):
    fake.missing("squeue")
    with pytest.raises(Silent, match="squeue: command not found"):
        slurm.squeue()


def test_a_command_that_hangs_is_silent(fake, monkeypatch):
    monkeypatch.setattr(slurm, "TIMEOUT", 0.3)
    fake.say("squeue", "12|RUNNING|None|||", seconds=5)
    with pytest.raises(Silent, match="squeue gave no answer"):
        slurm.squeue()
    fake.say("sbatch", "Submitted batch job 12", seconds=5)
    with pytest.raises(Silent, match="sbatch gave no answer"):
        slurm.sbatch("script.sh")


def test_sbatch_gives_the_number(fake):
    assert slurm.sbatch("script.sh") == "12"
    fake.say("sbatch", "some site's banner\nSubmitted batch job 4711 on cluster c3", error="sbatch: info: hello")
    assert slurm.sbatch("script.sh", ["--test"]) == "4711"
    assert fake.calls("sbatch") == ["script.sh", "--test script.sh"]


@pytest.mark.parametrize(
    "words",
    [
        "sbatch: error: invalid partition specified: nowhere\n"
        "sbatch: error: Batch job submission failed: Invalid partition name specified",
        "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates "
        "accounting/QOS policy (job submit limit, user's size and/or time limits)",
        "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
        "sbatch: error: Memory specification can not be satisfied",
        "sbatch: error: Batch job submission failed: Requested node configuration is not available",
    ],
)
def test_sbatch_saying_no_is_a_refusal_in_its_own_words(fake, words):
    fake.say("sbatch", error=words, code=1)
    with pytest.raises(Refused) as refused:
        slurm.sbatch("script.sh")
    assert words.splitlines()[-1] in str(refused.value)


@pytest.mark.parametrize(
    "words",
    [
        "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
        "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
        "sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received",
        "sbatch: error: Batch job submission failed: Connection refused",
        "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying",
        "Killed",
        "",
    ],
)
def test_an_answer_that_leaves_open_whether_sbatch_was_heard_is_silence(fake, words):
    fake.say("sbatch", error=words, code=1)
    with pytest.raises(Silent):
        slurm.sbatch("script.sh")


def test_where_there_is_no_sbatch_nothing_was_submitted(fake):
    fake.missing("sbatch")
    with pytest.raises(Refused, match="command not found"):
        slurm.sbatch("script.sh")


def test_an_answer_of_sbatch_without_a_number_is_silence(fake):
    fake.say("sbatch", "all is well")
    with pytest.raises(Silent, match="all is well"):
        slurm.sbatch("script.sh")


def test_slurms_commands_see_nothing_of_a_job_that_surrounds_them(monkeypatch):
    for name in ("SLURM_JOB_ID", "SBATCH_PARTITION", "SLURMD_NODENAME", "SRUN_DEBUG", "SUBMITIT_EXECUTOR"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    left = {name for name in slurm.environment() if name.startswith(("SLURM", "SBATCH", "SRUN", "SUBMITIT"))}
    assert left == {"SLURM_CONF"}


def test_a_trial_submission_sees_nothing_of_a_surrounding_job_either(fake, monkeypatch):
    monkeypatch.setenv("SBATCH_PARTITION", "surrounding")
    (fake.bin / "sbatch").write_text('#!/bin/bash\necho "partition: $SBATCH_PARTITION"\n')
    assert slurm.test_only("script.sh") == "partition:"
