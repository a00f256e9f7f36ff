"""`graphufs-jobs` as a person and a program meet it: exit codes, JSON alone on standard output, words for a failure."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest

from graphufs.config import loading
from graphufs.storage.atomic import write_json, write_text
from graphufs.storage.paths import Paths
from jobs.cli import app, main, tables, wait
from jobs.job.folder import JobFolder
from jobs.job.records import now
from tests.conftest import TINY
from tests.jobs import EXPERIMENT, ago, finish, job_of, jobs_command, surroundings

HEAVY = {"jax", "equinox", "xarray", "zarr", "dask", "scipy", "numpy", "matplotlib"}


@pytest.fixture
def call(capfd):
    """The command line in this process: exit code, standard output, standard error."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main.main(list(map(str, arguments)))
        out, error = capfd.readouterr()
        return ended.value.code, out, error

    return run


@pytest.fixture
def failed(fake, tmp_path):
    """A root with a job that failed."""
    root = tmp_path / "a root"
    job = job_of(root, step="train")
    write_text(job.path / "experiment.yaml", loading.dump(EXPERIMENT))
    fake.row("FAILED")
    own = {"ending": "error", "message": "KeyError: 'tmp'", "at": now(), "id": "12"}
    write_json(job.folder(1) / "ending.json", own)
    return root


def told(out):
    """The JSON of an answer that is nothing but JSON."""
    content = json.loads(out)
    assert content["protocol"] == app.PROTOCOL and content["graphufs"]
    return content


@pytest.mark.parametrize("arguments", [("-c", "import jobs.cli.main"), ("-m", "jobs", "list"), ("-m", "jobs", "sites")])
def test_the_command_imports_nothing_heavy(tmp_path, arguments):
    environment = surroundings(GRAPHUFS_ROOT=str(tmp_path))
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "jobs.cli.main" in imported and not imported & HEAVY


def test_the_module_is_the_command():
    done = subprocess.run(jobs_command("--help"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    for name in "submit run status list logs cancel tend show fetch prune clean sites".split():
        assert f" {name} " in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("submti", "prepare", TINY),
        ("submit", "prepare"),
        ("submit", "prepare", TINY, "--no-such-option"),
        ("submit", "trian", TINY),
        ("submit", "prepare", "no-such-experiment"),
        ("submit", "prepare", TINY, "--site", "mars"),
        ("submit", "prepare", TINY, "--set", "training.batchsize=8"),
        ("submit", "prepare", TINY, "--resource", "gpsu=1"),
        ("submit", "prepare", TINY, "--key", "a/b"),
        ("submit", "prepare", TINY, "--request", "answer=promote"),
        ("submit", "decide", TINY, "--request", "answer=maybe"),
        ("submit", "decide", TINY, "--request", "answer"),
        ("submit", "decide", TINY, "--request", "anser=hold"),
        ("submit", "decide", TINY, "--request", "cost=much"),
        ("submit", "decide", TINY, "--request", "why=a", "--request", "why=b"),
        ("submit", "prepare", TINY, "--needs", "nobody"),
        ("status", "nobody"),
        ("logs", "nobody"),
        ("cancel",),
        ("tend", "nobody"),
        ("fetch", "nothing"),
        ("fetch", "../../etc/passwd"),
        ("fetch", "nobody", "--report"),
        ("sites", "mars"),
    ],
    ids=lambda arguments: " ".join(map(str, arguments)).replace(str(TINY), "tiny"),
)
def test_bad_input_is_told_in_a_line_and_leaves_nothing(call, tmp_path, monkeypatch, arguments):
    monkeypatch.setenv("GRAPHUFS_ROOT", str(tmp_path / "root"))
    code, out, error = call(*arguments)
    assert code == 2 and "Traceback" not in error + out and len(error + out) > 20
    assert not list((tmp_path / "root").glob("jobs/*"))


def test_what_is_asked_of_a_run_is_a_request_or_by_a_former_key_with_a_word_on_that(call, fake, tmp_path):
    place = ("--root", tmp_path / "root", "--site", "fake", "--json")
    asked = ("--request", "answer=promote", "--request", "why=no: yes, 'so'", "--request", 'cost={"gpu_hours": 2}')
    code, out, error = call("submit", "decide", TINY, *asked, *place)
    (job,) = told(out)["jobs"]
    wanted = {"answer": "promote", "why": "no: yes, 'so'", "cost": {"gpu_hours": 2.0}}
    assert (code, error) == (0, "") and job["request"] == wanted
    former = ("retraining.answer=promote", "retraining.why=\"no: yes, 'so'\"", "retraining.cost={gpu_hours: 2.0}")
    code, out, error = call("submit", "decide", TINY, *(word for one in former for word in ("--set", one)), *place)
    (same,) = told(out)["jobs"]
    assert (same["what"], same["key"], same["request"]) == ("attached", job["key"], wanted)
    assert "retraining.answer is not a key of experiments any more" in error and "--request answer=" in error


def test_a_failed_job_is_reproduced_with_what_was_asked_of_it(call, fake, tmp_path):
    root = tmp_path / "root"
    call("submit", "rollback", TINY, "--request", "why=it is worse", "--root", root, "--site", "fake")
    fake.account("FAILED", code="1:0")
    _, out, _ = call("status", *(job.key for job in JobFolder.all(root)), "--root", root, "--site", "fake")
    assert "'--request=why=it is worse'" in out


def test_cancelling_a_job_that_never_was_leaves_nothing(call, tmp_path):
    code, _, error = call("cancel", "nobody", "--root", tmp_path / "root")
    assert code == 2 and "there is no job nobody" in error
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("text", ["[gpus]", "[/gpus]", "[bold]x"])
def test_brackets_in_a_message_are_shown_as_they_are(call, tmp_path, text):
    code, _, error = call("submit", "prepare", TINY, "--root", tmp_path, "--resource", text)
    assert code == 2 and text in error


@pytest.mark.parametrize("words", ["bad shape [/a/b]", "bad nodes [nodes]"])
def test_brackets_in_a_jobs_message_are_shown_as_they_are(call, fake, tmp_path, words):
    job_of(tmp_path / "root")
    for name in ("squeue", "sacct"):
        fake.say(name, error=words, code=1)
    code, out, _ = call("list", "--root", tmp_path / "root", "--site", "fake")
    assert code == 0 and words.split()[-1] in "".join(out.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "job"),
        ("status", "job", "--history"),
        ("list",),
        ("tend",),
        ("cancel", "job"),
        ("show",),
        ("prune",),
        ("clean",),
    ],
    ids=" ".join,
)
def test_json_carries_the_protocol_and_nothing_else(call, failed, arguments):
    code, out, _ = call(*arguments, "--json", "--root", failed, "--site", "fake")
    assert code == 0
    content = told(out)
    if arguments[0] in ("status", "list", "tend", "cancel"):
        (job,) = content["jobs"]
        assert (job["key"], job["state"], job["ending"]) == ("job", "FAILED", "error")


@pytest.mark.parametrize("arguments", [("sites",), ("sites", "local")], ids=" ".join)
def test_sites_as_json_carry_the_protocol_too(call, arguments):
    code, out, _ = call(*arguments, "--json")
    assert code == 0 and "executor" in out and told(out)


def test_a_failed_job_is_told_with_the_command_that_shows_it_happen(call, failed):
    code, out, _ = call("status", "job", "--root", failed, "--site", "fake")
    assert code == 0 and "KeyError: 'tmp'" in out
    (line,) = [line for line in out.splitlines() if "--site debug" in line]
    words = shlex.split(line.partition(":")[2])
    experiment = JobFolder(failed, "job").path / "experiment.yaml"
    assert words == ["graphufs-jobs", "submit", "train", str(experiment), "--site", "debug", "--root", str(failed)]
    assert loading.load(experiment) == EXPERIMENT
    (line,) = [line for line in out.splitlines() if "logs:" in line]
    assert shlex.split(line.partition(":")[2]) == ["graphufs-jobs", "logs", "job", "--root", str(failed)]


def test_a_submission_that_is_refused_fails_and_says_why(call, fake, tmp_path):
    fake.say("sbatch", error="sbatch: error: Invalid account [or partition]", code=1)
    code, _, error = call("submit", "prepare", TINY, "--site", "fake", "--root", tmp_path / "root")
    assert code == 1 and "Invalid account [or partition]" in error and "--site debug" in error
    code, out, _ = call("submit", "prepare", TINY, "--site", "fake", "--root", tmp_path / "root", "--json")
    assert code == 1 and told(out)["jobs"][0]["state"] == "REFUSED"


def test_a_silent_scheduler_has_an_exit_code_of_its_own(call, fake, tmp_path):
    job_of(tmp_path / "root")
    fake.row("RUNNING")
    fake.silence("scancel")
    code, out, error = call("cancel", "job", "--site", "fake", "--root", tmp_path / "root")
    assert code == 69 and "scancel" in error and "try again" in error and not out


def test_an_experiment_comes_on_standard_input(fake, tmp_path):
    fake.row("PENDING")
    change = "training.batch_size=1"
    command = jobs_command("submit", "prepare", "-", "--site", "fake", "--json", "--set", change)
    options = {"capture_output": True, "text": True, "timeout": 60, "env": surroundings(GRAPHUFS_ROOT=str(tmp_path))}
    done = subprocess.run(command, input=TINY.read_text(), **options)
    assert done.returncode == 0, done.stderr
    (job,) = told(done.stdout)["jobs"]
    assert (job["what"], job["state"]) == ("submitted", "PENDING")
    assert JobFolder(tmp_path, job["key"]).experiment() == loading.load(TINY, [change])
    wrong = subprocess.run(command, input="name: [", **options)
    assert wrong.returncode == 2 and "standard input" in wrong.stderr and not wrong.stdout


def test_jobs_are_found_by_what_they_say_of_where_they_come_from(call, fake, tmp_path):
    fake.row("PENDING")
    place = ("--site", "fake", "--root", tmp_path / "root")
    submit = ("submit", "prepare", "tiny", *place, "--json")
    call(*submit, "--key", "one", "--label", "owner=me", "--label=run=a b=$(c)")
    call(*submit, "--key", "two", "--label", "owner=other")
    call(*submit, "--key", "three")

    def listed(*labels):
        return {job["key"]: job for job in told(call("list", *labels, *place, "--json")[1])["jobs"]}

    assert list(listed()) == ["one", "three", "two"]
    assert (
        list(listed("--label", "owner=me")) == list(listed("--label", "owner=me", "--label", "run=a b=$(c)")) == ["one"]
    )
    assert not listed("--label", "owner=me", "--label", "run=other") and not listed("--label", "owner=m")
    assert listed()["one"]["labels"] == {"owner": "me", "run": "a b=$(c)"} and listed()["three"]["labels"] == {}
    assert (
        "one" in call("list", "--label", "owner=me", *place)[1]
        and "two" not in call("list", "--label", "owner=me", *place)[1]
    )
    call(*submit, "--key", "one", "--label", "owner=heir")
    assert listed()["one"]["labels"] == {"owner": "heir"}, "who asked last is the one"
    finish(JobFolder(tmp_path / "root", "one"))
    assert list(listed("--unfinished")) == ["three", "two"]


@pytest.mark.parametrize(
    "labels", [["owner"], ["=me"], ["--label"], ["Owner=me"], ["a=two\nlines"], ["a=" + "x" * 501], ["a=1", "a=2"]]
)
def test_a_label_written_otherwise_is_refused_and_leaves_nothing(call, fake, tmp_path, labels):
    given = [f"--label={label}" for label in labels]
    code, _, error = call("submit", "prepare", "tiny", "--site", "fake", "--root", tmp_path / "root", *given)
    assert code == 2 and "--label" in error and not (tmp_path / "root").exists()


def test_run_submits_the_chain_each_step_after_the_one_before(call, fake, tmp_path):
    calls, queue = fake.bin / "sbatch.calls", fake.bin / "squeue.out"
    lines = ["#!/bin/bash", f"echo x >> {calls}", f"n=$(/usr/bin/wc -l < {calls})"]
    lines += [f'echo "$n|PENDING|Dependency|||" >> {queue}', 'echo "Submitted batch job $n"', ""]
    (fake.bin / "sbatch").write_text("\n".join(lines))
    place = ("--site", "fake", "--root", tmp_path / "root", "--json")
    code, out, _ = call("run", "tiny", *place)
    jobs = told(out)["jobs"]
    assert code == 0
    assert [job["step"] for job in jobs] == ["prepare", "normalize", "train", "forecast", "evaluate", "report"]
    assert [job["id"] for job in jobs] == ["1", "2", "3", "4", "5", "6"]
    script = (JobFolder(tmp_path / "root", jobs[5]["key"]).folder(1) / "script.sh").read_text()
    assert "#SBATCH --dependency=afterok:5\n" in script
    jobs = told(call("run", "tiny", *place)[1])["jobs"]
    assert {job["what"] for job in jobs} == {"attached"} and len(fake.calls("sbatch")) == 6


def test_a_chain_stops_where_a_step_is_refused(call, fake, tmp_path):
    fake.say("sbatch", error="sbatch: error: Invalid account", code=1)
    code, out, _ = call("run", "tiny", "--site", "fake", "--root", tmp_path / "root", "--json")
    assert code == 1 and len(told(out)["jobs"]) == 1


def test_a_chain_with_a_step_that_cannot_be_submits_nothing(call, fake, tmp_path):
    fake.row("PENDING")
    code, _, error = call("run", "tiny", "--site", "fake", "--root", tmp_path / "root", "--resource", "nodes=2")
    assert code == 2 and "runs on one node" in error and not fake.calls("sbatch")


def test_waiting_ends_with_the_job(call, fake, tmp_path, monkeypatch):
    monkeypatch.setattr(wait, "WAIT", 0.1)
    calls, result = fake.bin / "squeue.calls", tmp_path / "root" / "jobs" / "job" / "result.json"
    (tmp_path / "proof").write_text(json.dumps({"key": "job", "attempt": 1, "finished": now(), "result": {}}))
    lines = ["#!/bin/bash", f"echo x >> {calls}", 'echo "12|RUNNING|None|||node1"']
    lines += [f"[ $(/usr/bin/wc -l < {calls}) -lt 4 ] || /bin/cp {tmp_path / 'proof'} {result}", ""]
    (fake.bin / "squeue").write_text("\n".join(lines))
    arguments = ("submit", "prepare", TINY, "--key", "job", "--site", "fake", "--root", tmp_path / "root", "--wait")
    code, out, _ = call(*arguments, "--json")
    assert code == 0 and told(out)["jobs"][0]["state"] == "COMPLETED" and len(fake.calls("sbatch")) == 1


def test_waiting_for_a_job_that_fails_fails(call, fake, tmp_path, monkeypatch):
    monkeypatch.setattr(wait, "WAIT", 0.1)
    fake.account("OUT_OF_MEMORY")
    code, _, error = call("submit", "prepare", TINY, "--site", "fake", "--root", tmp_path / "root", "--wait")
    assert code == 1 and "out of memory" in error and "--site debug" in error and len(fake.calls("sbatch")) == 1


def test_waiting_goes_on_with_the_next_attempt_and_ends_after_the_last(call, fake, tmp_path, monkeypatch):
    monkeypatch.setattr(wait, "WAIT", 0.1)
    (fake.sites / "fake.yaml").write_text("executor: slurm\nmax_attempts: 2\n")
    fake.account("TIMEOUT")
    code, out, _ = call("submit", "prepare", TINY, "--site", "fake", "--root", tmp_path / "root", "--wait", "--json")
    assert code == 1 and told(out)["jobs"][0]["attempt"] == 2 and len(fake.calls("sbatch")) == 2


def test_waiting_for_a_job_that_gets_lost_is_no_success(call, fake, tmp_path, monkeypatch):
    monkeypatch.setattr(wait, "WAIT", 0.2)
    (fake.sites / "fake.yaml").write_text("executor: slurm\nlost_after: 1\n")
    code, out, _ = call("submit", "prepare", TINY, "--site", "fake", "--root", tmp_path / "root", "--wait", "--json")
    assert told(out)["jobs"][0]["state"] == "LOST" and code != 0


def test_logs_are_those_of_the_last_attempt_or_of_the_one_asked_for(call, fake, tmp_path):
    job = job_of(tmp_path / "root", result=True)
    write_text(job.submitit(1) / "12_0_log.out", "out of the first\n")
    write_text(job.submitit(1) / "12_0_log.err", "errors of the first\n")
    place = ("--root", tmp_path / "root", "--site", "fake")
    code, out, _ = call("logs", "job", *place)
    assert code == 0 and "out of the first" in out and "errors of the first" in out
    assert call("logs", "job", "--follow", *place)[1].count("out of the first") == 1
    code, _, error = call("logs", "job", "--attempt", "7", *place)
    assert code == 2 and "no attempt 7" in error and "[1]" in error


def test_prune_shows_and_removes_only_when_told(call, failed):
    place = ("--days", "0", "--root", failed, "--site", "fake")
    code, out, _ = call("prune", *place)
    assert code == 0 and "would be removed with --yes" in out and JobFolder(failed, "job").exists
    assert not told(call("prune", *place, "--json")[1])["removed"] and JobFolder(failed, "job").exists
    content = told(call("prune", *place, "--json", "--yes")[1])
    assert content["removed"] and [one["path"] for one in content["waste"]] == [str(failed / "jobs" / "job")]
    assert not JobFolder(failed, "job").exists and told(call("list", *place[2:], "--json")[1])["jobs"] == []


def test_fetch_gives_the_report_of_a_job(call, failed, tmp_path):
    code, _, error = call("fetch", "job", "--report", "--root", failed, "--site", "fake")
    assert code == 2 and "submit the step `report`" in error
    write_text(Paths(EXPERIMENT, failed).report, "<html>the report</html>")
    code, out, _ = call("fetch", "job", "--report", "--root", failed, "--site", "fake")
    assert (code, out) == (0, "<html>the report</html>")
    arguments = ("fetch", "job", "--report", "--to", tmp_path / "mine.html", "--root", failed, "--site", "fake")
    assert told(call(*arguments, "--json")[1])["bytes"] == len(out)


def test_a_submission_costs_little_beyond_pythons_start(fake, tmp_path):
    fake.row("PENDING")
    probe = "import sys, time\nbegan = time.monotonic()\nfrom jobs.cli.main import main\ntry: main(sys.argv[1:])\n"
    probe += "finally: print(time.monotonic() - began)"
    arguments = ("submit", "prepare", TINY, "--site", "fake", "--root", tmp_path / "root")
    command = [sys.executable, "-c", probe, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=surroundings())
    assert done.returncode == 0, done.stderr
    took = float(done.stdout.split()[-1])
    print(f"a submission, imports included: {took:.2f} s")
    assert took < 10


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2.0 h"), (172800, "2.0 d"), (1e6, "11.6 d")],
)
def test_durations_are_short_to_read(seconds, expected):
    assert tables.duration(seconds) == expected


def test_the_table_shows_progress_and_since_when_unknown(fake, tmp_path):
    event = {"label": "one", "done": 250, "total": 1000, "unit": "updates", "metrics": {"loss": 0.125}}
    running, done, unknown = (job_of(tmp_path, key, id=number) for key, number in (("a", "1"), ("b", "2"), ("c", "3")))
    write_json(running.path / "progress.json", {**event, "at": ago(5), "attempt": 1})
    finish(done)
    write_json(unknown.folder(1) / "observed.json", {"since": ago(120)})
    fake.row("RUNNING", "1")
    environment = surroundings(COLUMNS="200")
    command = jobs_command("list", "--root", tmp_path, "--site", "fake")
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment).stdout
    lines = {line.split()[0]: line for line in shown.splitlines()}
    assert "RUNNING" in lines["a"] and "one 250/1,000 (25 %)  loss 0.125" in lines["a"]
    assert "COMPLETED" in lines["b"]
    assert "UNKNOWN" in lines["c"] and "since 2" in lines["c"] and "neither knows the job" in lines["c"]
