"""One folder that cannot be read hides one job: the others are told of, tended and polled, and that one is named."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphufs.config import loading
from graphufs.registry import event_files, registry
from graphufs.storage.atomic import write_json, write_text
from jobs import catalogue, doctor
from jobs.cli import main
from jobs.job.folder import JobFolder
from jobs.job.reading import Broken
from jobs.job.status import read_statuses, survey_root
from jobs.scheduler import processes
from jobs.site import Site, as_noted
from jobs.submission import poll, submit
from jobs.submission import tend as tending
from tests.jobs import EXPERIMENT, finish, job_of
from tests.jobs.submission.test_submit import request_of

LOCAL = Site.model_validate({"executor": "local"})
GONE = {"host": "elsewhere.example", "boot": "", "ticks": 1}
"""A process of another machine: its job's state is not known, and nobody is asked."""
PROGRESS = {"attempt": 1, "at": "2026-01-01T00:00:00Z", "label": "train", "done": 1.0, "total": 2.0}
FILES = (
    "intent.json", "result.json", "progress.json", "cancel.json", "attempts", "attempts/1", "attempts/1/attempt.json",
    "attempts/1/claim-0", "attempts/1/segments.jsonl", "attempts/1/ending.json", "attempts/1/observed.json",
)  # fmt: skip


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """What makes jobs a, b and c below a root, whose folders have all that may lie in one; it returns b."""
    made = tmp_path_factory.mktemp("jobs")
    for key in "abc":
        job = job_of(made, key, LOCAL, process=GONE)
        write_text(job.path / "experiment.yaml", loading.dump(EXPERIMENT))
        write_json(job.path / "progress.json", PROGRESS)
        job.add_segment(1, segment="s", process=GONE)
        write_text(job.folder(1) / "claim-0", "12\n")

    def three_jobs(root):
        shutil.copytree(made / "jobs", root / "jobs")
        return JobFolder(root, "b")

    return three_jobs


def replaced(path, content):
    """Put something else in the place of a file or folder: bytes, a `folder`, a link, or what blocks its readers."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if content == "folder":
        path.mkdir()
    elif content in ("around", "nowhere"):
        path.symlink_to(path if content == "around" else path.with_name("nowhere"))
    elif content in ("fifo", "socket"):
        os.mknod(path, 0o600 | (stat.S_IFIFO if content == "fifo" else stat.S_IFSOCK))
    elif content == "endless":
        path.symlink_to("/dev/zero")
    elif content == "huge":
        path.touch()
        os.truncate(path, 2**40)
    else:
        path.write_bytes(content)


def spoil(job, how):
    """What the adversary did to the job b."""
    intent, noted = job.path / "intent.json", job.folder(1) / "attempt.json"
    if how == "a copy":
        shutil.copytree(job.path, job.path.with_name("b (copy)"))
    elif how == "a copy whose name could be a key":
        shutil.copytree(job.path, job.path.with_name("b-copy"))
    elif how == "a backup among the attempts":
        shutil.copytree(job.folder(1), job.path / "attempts" / "1.bak")
    elif how == "another executor's number":
        write_json(noted, json.loads(noted.read_text()) | {"id": "12; rm"})
        shutil.rmtree(job.folder(1) / "claim-0", ignore_errors=True)
        (job.folder(1) / "claim-0").unlink()
    elif how == "a time before all time":
        write_json(noted, json.loads(noted.read_text()) | {"begun": "0001-01-01T00:00:00Z"})
    elif how == "a need that is no key":
        write_json(intent, json.loads(intent.read_text()) | {"needs": ["../x"]})
    else:
        name, content = how.split(" is ")
        texts = {"empty": b"", "torn": b'{"key": "b', "not UTF-8": b"\xff\xfe{}", "NUL": b"\0" * 100, "a list": b"[]",
                 "another's": b'{"finished": 3, "result": {}}'}  # fmt: skip
        replaced(job.path / name, texts.get(content, content))


SPOILT = [
    "a copy", "a copy whose name could be a key", "a backup among the attempts", "another executor's number",
    "a time before all time", "a need that is no key", "intent.json is empty", "intent.json is not UTF-8",
    "intent.json is around", "intent.json is nowhere", "intent.json is folder", "attempts is around",
    "attempts is nowhere", "attempts is a list", "attempts/1 is a list", "attempts/1/attempt.json is torn",
    "attempts/1/attempt.json is a list", "result.json is empty", "result.json is another's", "result.json is NUL",
    "result.json is folder", "progress.json is empty",
    "progress.json is a list", "attempts/1/observed.json is empty", "attempts/1/claim-0 is folder",
    "attempts/1/segments.jsonl is folder",
    # whoever opens or reads these as a file waits for ever, or until the memory is full
    "intent.json is fifo", "result.json is socket", "progress.json is endless", "attempts/1/attempt.json is huge",
    "attempts/1/claim-0 is fifo", "attempts/1/segments.jsonl is endless",
]  # fmt: skip


@pytest.fixture
def call(capfd):
    def run(*arguments, stdin=""):
        with pytest.raises(SystemExit) as ended, pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stdin", io.StringIO(stdin))
            main.main(list(map(str, arguments)))
        out, error = capfd.readouterr()
        return ended.value.code, out, error

    return run


@pytest.mark.parametrize("how", SPOILT)
def test_every_command_names_it_and_tells_of_the_others(tmp_path, call, how, jobs):
    root = tmp_path / "root"
    spoil(jobs(root), how)
    (statuses, broken), place = survey_root(root), ("--root", root)
    odd = [one for status in statuses for one in status.seen.odd]
    (named,) = {one.folder for one in (*broken, *odd)}
    assert named in ("b", "b (copy)", "b-copy") and len([*broken, *odd]) == 1
    told = {status.job.key for status in statuses}
    assert told >= {"a", "c"} and ("b" in told) == (named != "b" or bool(odd))
    for command in (("status",), ("list",), ("tend",), *([] if odd else [("prune", "--days=0")])):
        code, out, error = call(*command, *place)
        assert code == 0 and f"warning: {root / 'jobs' / named}" in " ".join(error.split()), (command, error)
        code, out, _ = call(*command, *place, "--json")
        content = json.loads(out)
        if command[0] != "prune":
            assert {job["key"] for job in content["jobs"]} == told
            odd_ones = {job["key"] for job in content["jobs"] if job.get("odd")}
            assert odd_ones | {one["folder"] for one in content["broken"]} == {named}
    code, out, _ = call("show", "--json", *place)
    shown = json.loads(out)
    assert code == 0 and {job["key"] for job in shown["jobs"]} == told
    assert len(shown["warnings"]) == 1 and str(root / "jobs" / named) in shown["warnings"][0]
    code, out, _ = call("poll", *place, stdin='{"jobs": {"a": {}, "b": {}, "c": {}}}')
    answers = {one["key"]: one for one in json.loads(out)["jobs"]}
    assert code == 0 and answers["a"]["state"] == answers["c"]["state"] == "UNKNOWN"
    if "b" in told:
        assert answers["b"]["state"] == "UNKNOWN"
    else:
        assert (answers["b"]["state"], answers["b"]["over"]) == ("BROKEN", False)
        assert str(root / "jobs" / "b") in answers["b"]["message"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(FILES),
    st.one_of(
        st.sampled_from(["folder", "around", "nowhere", "fifo", "socket", "endless", "huge"]),
        st.binary(max_size=40),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["key", "needs", "number", "site", "id", "since", "result", "segment", "x"]),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=6,
        ).map(lambda value: json.dumps(value).encode()),
    ),
)
def test_whatever_is_in_the_place_of_a_file_one_job_is_hidden_at_most_and_it_is_named(jobs, name, content):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        job = jobs(root)
        replaced(job.path / name, content)
        statuses, broken = survey_root(root)
        states = {status.job.key: status.state for status in statuses}
        odd = [one for status in statuses for one in status.seen.odd]
        assert {one.folder for one in (*broken, *odd)} <= {"b"} and states["a"] == states["c"] == "UNKNOWN"
        if "b" in states and not odd:  # then it did no harm, or leaves nothing but an intent
            assert states["b"] in (("UNKNOWN", "NEW", "CANCELLED") if name.startswith("attempts") else ("UNKNOWN",))
        elif "b" not in states:
            # an intent that is a folder below which there is none is no job at all
            assert [one.folder for one in broken] == ["b"]
        answers = poll.poll({JobFolder(root, key): {} for key in "abc"})
        assert [one["state"] for one in answers if one["key"] != "b"] == ["UNKNOWN"] * 2
        ailing = doctor.find(root)
        assert all(one.path.is_relative_to(job.path) for one in ailing) and (ailing or "b" in states)


def test_a_job_asked_for_alone_that_is_broken_is_one_error_and_never_submitted_again(tmp_path, fake, call, jobs):
    root = tmp_path / "root"
    job = jobs(root)
    replaced(job.path / "result.json", b"")
    for command in ("status", "tend", "cancel"):
        code, out, error = call(command, "b", "--json", "--root", root)
        assert (code, out) == (2, "") and "result.json cannot be read: it is empty" in error
        if command == "cancel":  # nobody can cancel c from here
            continue
        code, out, _ = call(command, "b", "c", "--json", "--root", root)
        assert code == 1 and [one["key"] for one in json.loads(out)["jobs"]] == ["c"]
    with pytest.raises(Broken, match=r"result.json cannot be read"):
        submit.submit(request_of(root, key="b"))
    assert job.attempts() == [1] and not fake.calls("sbatch")


def test_what_a_job_needs_and_cannot_be_read_holds_up_that_job_alone(tmp_path, fake, jobs):
    root = tmp_path / "root"
    replaced(jobs(root).path / "result.json", b"")
    job_of(root, "waits", needs=("b",), phase="blocked", message="the job b, which this one needs, is FAILED", id=None)
    statuses, broken = survey_root(root)
    assert [one.folder for one in broken] == ["b"]
    (waits,) = [status for status in statuses if status.job.key == "waits"]
    assert tending.outlook(waits) == "waits for a person"


def test_keys_of_a_newer_version_are_ignored_and_kept(fake, tmp_path):
    root = tmp_path / "root"
    fake.row("PENDING")
    submit.submit(request_of(root))
    job = JobFolder(root, "job")
    intent, noted = job.path / "intent.json", job.folder(1) / "attempt.json"
    write_json(intent, json.loads(intent.read_text()) | {"priority": 3})
    content = json.loads(noted.read_text())
    content["site"] |= {"cloud": {"a": 1}}
    content["site"]["control"] |= {"later": 1}
    content["site"]["policy"] |= {"eviction": "continue"}
    content["site"]["resources"] = {"default": {"cpus": 2, "tpus": 1}, "a_later_step": {"cpus": 1}}
    content["resources"] |= {"tpus": 1}
    write_json(noted, content | {"tide": "low"})
    (statuses, broken) = survey_root(root)
    assert [status.state for status in statuses] == ["PENDING"] and not broken
    assert as_noted(job.attempt().site).resources == {"default": {"cpus": 2}}
    what, _ = submit.submit(request_of(root, labels={"owner": "me"}))
    assert what == "attached" and json.loads(intent.read_text())["labels"] == {"owner": "me"}
    assert json.loads(intent.read_text())["priority"] == 3
    job.write_attempt(job.attempt(), message="noted")
    assert json.loads(noted.read_text())["tide"] == "low" and json.loads(noted.read_text())["message"] == "noted"
    fake.account("TIMEOUT")
    assert tending.tend(job)[0] == "continued" and job.attempts() == [1, 2]


def test_a_folder_of_a_later_format_is_named_and_left_alone(tmp_path, jobs):
    job = jobs(tmp_path)
    write_json(job.path / "intent.json", json.loads((job.path / "intent.json").read_text()) | {"format": 2})
    _, (broken,) = survey_root(tmp_path)
    assert "format 2" in broken.reason and "up to format 1" in broken.reason and "version that wrote it" in str(broken)
    (found,) = doctor.find(tmp_path)
    assert found.instead and doctor.set_aside(tmp_path, [found]) == [] and job.exists


def test_the_doctor_moves_what_is_broken_and_nothing_else(tmp_path, call, jobs):
    root = tmp_path / "root"
    job = jobs(root)
    spoil(job, "a copy")
    spoil(job, "a backup among the attempts")
    replaced(JobFolder(root, "c").path / "progress.json", b"")
    (root / "jobs" / "notes.txt").write_text("mine")
    write_json(root / "jobs" / "torso" / "attempts" / "2" / "segments.jsonl", {})
    registry.append(root, lambda past: None)
    event_files.create(root, 1, {"kind": "x", "number": 1})
    shutil.copy(root / "registry/history/00000001.json", root / "registry/history/00000001 (copy).json")
    survey_root(root)  # which notes since when states are unknown
    before = sorted(root.rglob("*"))
    code, out, _ = call("doctor", "--root", root)
    assert code == 1 and "--set-aside" in out
    assert sorted(root.rglob("*")) == before, "dry by default"
    code, out, _ = call("doctor", "--set-aside", "--json", "--root", root)
    moved = {Path(one).relative_to(root).as_posix(): Path(to) for one, to in json.loads(out)["moved"].items()}
    assert set(moved) == {"jobs/b (copy)", "jobs/b/attempts/1.bak", "jobs/c/progress.json", "jobs/notes.txt",
                          "registry/history/00000001 (copy).json"}  # fmt: skip
    assert all(to.exists() and to.is_relative_to(root / "set-aside") for to in moved.values())
    assert moved["jobs/notes.txt"].read_text() == "mine" and code == 0
    statuses, broken = survey_root(root)
    assert len(statuses) == 3 and not broken and not any(status.seen.odd for status in statuses)
    code, out, _ = call("doctor", "--root", root)
    assert code == 0 and (root / "jobs" / "torso").exists(), "a folder as young as that may be one being made"


def test_the_doctor_leaves_the_folder_of_a_job_that_may_be_at_work(tmp_path, fake):
    root = tmp_path / "root"
    mine = processes.identity(os.getpid())
    local = job_of(root, "local", LOCAL, id=str(os.getpid()), process=mine)
    queued = job_of(root, "queued")
    over = job_of(root, "over", id="99")
    for job in (local, queued, over):
        replaced(job.path / "result.json", b"")
    fake.row("RUNNING")
    found = doctor.find(root)
    assert {one.path.name: bool(one.instead) for one in found} == {"local": True, "queued": True, "over": False}
    fake.silence("squeue")
    assert all(one.instead for one in doctor.find(root))
    fake.say("squeue")
    ((path, _),) = [pair for pair in doctor.set_aside(root, [one for one in found if one.path.name == "over"])]
    assert path == over.path and not over.exists and queued.exists


def test_the_registry_reads_what_it_knows_and_names_what_is_no_event(tmp_path):
    model = {"id": "tiny-ab-16", "experiment_name": "tiny", "experiment": "name: tiny\n", "run": "ab", "update": 16,
             "run_folder": "runs/tiny/ab", "checkpoint": "00000016", "periods": {}, "provenance": {}}  # fmt: skip
    event = {"kind": "registered", "model": "tiny-ab-16", "by": "me", "number": 1, "when": "2026-01-01T00:00:00Z"}
    event_files.create(tmp_path, 1, {**event, "content": {**model, "colour": "blue"}, "mood": "good"})
    for name in ("00000001 (copy).json", "1.json", "notes.txt", "20260101.json.bak"):
        (tmp_path / "registry" / "history" / name).write_text("{")
    assert [one.id for one in registry.models(tmp_path)] == ["tiny-ab-16"]
    found = catalogue.catalogue(tmp_path)
    assert [one["id"] for one in found["models"]] == ["tiny-ab-16"] and len(found["warnings"]) == 4
    assert {one.path.name for one in doctor.find(tmp_path)} == {path.name for path in event_files.odd(tmp_path)}


def test_what_cannot_be_read_of_runs_is_told_and_the_others_are_shown(tmp_path):
    for name in ("good", "odd"):
        run = tmp_path / "runs" / "tiny" / name
        (run / "nightly" / "1").mkdir(parents=True)
        (run / "experiment.yaml").write_text("")
        (run / "metrics.jsonl").write_text('{"event": "update", "update": 3}\n5\n"x"\n{"event": "update"}\n')
        (run / "nightly" / "1" / "latest.json").write_text('{"model": "m", "initial_times": 1}')
    (run / "nightly" / "1" / "latest.json").write_text("[]")
    (run / "metrics.jsonl").write_text('{"event": "validation", "update": 3}\n')
    (run / "reports").mkdir()
    (run / "reports" / "gone.html").symlink_to(tmp_path / "nowhere")
    found = catalogue.catalogue(tmp_path)
    assert [(one["run"], one["updates"]) for one in found["runs"]] == [("good", 3)] and len(found["nightly"]) == 1
    assert len(found["warnings"]) == 3 and all("odd" in one for one in found["warnings"])


def test_a_result_that_cannot_be_read_is_no_success(tmp_path, jobs):
    job = jobs(tmp_path)
    finish(job)
    assert read_statuses([job])[0].state == "COMPLETED"
    for content in (b"", b"{}", b'{"finished": "2026-01-01T00:00:00Z"}', b"null"):
        replaced(job.path / "result.json", content)
        with pytest.raises(Broken):
            read_statuses([job])
