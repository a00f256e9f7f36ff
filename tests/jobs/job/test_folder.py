"""A job's folder: what is kept in it and what a reader makes of files that a kill or a full disk left."""

from __future__ import annotations

import threading

import pytest

from graphufs.config import loading
from graphufs.errors import UserError
from graphufs.storage.atomic import write_json
from jobs.job.folder import JobFolder, default_key
from jobs.job.records import Intent, now
from tests.conftest import TINY
from tests.jobs import EXPERIMENT, attempt_of, job_of


@pytest.mark.parametrize("key", ["", ".hidden", "../up", "a/b", "a b", "-dash", "é", "a\n", "x" * 152])
def test_a_key_that_is_no_folder_name_is_refused(tmp_path, key):
    with pytest.raises(UserError, match="is not a job key"):
        JobFolder(tmp_path, key)


@pytest.mark.parametrize("key", ["a", "dag.run__task.0", "train-p0_1.2", "x" * 151])
def test_keys_of_airflow_are_keys(tmp_path, key):
    assert JobFolder(tmp_path, key).path == tmp_path / "jobs" / key


def test_what_is_noted_is_read_again(tmp_path):
    job = JobFolder(tmp_path, "job")
    intent = Intent("job", "train", "local", "local", "0" * 12, now(), ("one", "two"))
    assert not job.exists and job.attempt() is None and job.attempts() == []
    job.write_intent(intent, EXPERIMENT)
    assert job.exists and job.require() == intent and job.experiment() == EXPERIMENT
    attempts = {number: attempt_of(number) for number in (1, 2, 10)}
    for attempt in attempts.values():
        job.write_attempt(attempt)
    assert job.attempts() == [1, 2, 10]
    assert job.attempt() == attempts[10] and job.attempt(2) == attempts[2] and job.attempt(3) is None
    assert job.write_attempt(attempts[10], phase="refused", message="no") == job.attempt()


def test_an_unknown_job_lists_others(tmp_path):
    with pytest.raises(UserError, match="there is no job job below .*; there is none"):
        JobFolder(tmp_path, "job").require()
    for number in range(7):
        job_of(tmp_path, f"other-{number}")
    with pytest.raises(UserError, match=r"there are other-0, .*other-4 \.\.\.$"):
        JobFolder(tmp_path, "job").require()


def test_all_jobs_come_by_key_and_what_is_no_job_is_passed_over(tmp_path):
    assert JobFolder.all(tmp_path) == []
    for key in ("b", "a", "c"):
        job_of(tmp_path, key)
    (tmp_path / "jobs" / "without-intent").mkdir()
    (tmp_path / "jobs" / "file").write_text("")
    assert [job.key for job in JobFolder.all(tmp_path)] == ["a", "b", "c"]


def test_a_job_folder_half_removed_by_a_killed_prune_is_passed_over(tmp_path):
    job_of(tmp_path, "a")
    job_of(tmp_path, "b").path.rename(tmp_path / "jobs" / ".b.4711.trash")
    assert [job.key for job in JobFolder.all(tmp_path)] == ["a"]


def test_segments_merge_start_and_end(tmp_path):
    job = job_of(tmp_path)
    assert job.segments(1) == []
    job.add_segment(1, segment="12.0", start="early", nodes=["a"], steps=None)
    job.add_segment(1, segment="12.1", start="late")
    job.add_segment(1, segment="12.0", end="later", reason="time limit", steps={"done": 3})
    assert job.segments(1) == [
        {
            "segment": "12.0",
            "start": "early",
            "nodes": ["a"],
            "end": "later",
            "reason": "time limit",
            "steps": {"done": 3},
        },
        {"segment": "12.1", "start": "late"},
    ]


def test_a_torn_line_of_the_segments_is_passed_over(tmp_path):
    job = job_of(tmp_path)
    job.add_segment(1, segment="12.0", start="early")
    with open(job.folder(1) / "segments.jsonl", "a") as file:
        file.write('{"segment": "12.0", "en\n\n')
    job.add_segment(1, segment="12.1", start="late")
    assert [segment["segment"] for segment in job.segments(1)] == ["12.0", "12.1"]


def test_a_line_that_a_full_disk_cut_short_does_not_swallow_the_next(tmp_path):
    job = job_of(tmp_path)
    with open(job.folder(1) / "segments.jsonl", "a") as file:
        file.write('{"segment": "12.0", "sta')
    job.add_segment(1, segment="12.1", start="late")
    assert [segment["segment"] for segment in job.segments(1)] == ["12.1"]


def event(done, total, at, **more):
    return {
        "label": "write",
        "done": done,
        "total": total,
        "unit": "times",
        "metrics": {},
        "at": at,
        "attempt": 1,
        **more,
    }


def test_progress_of_an_array_is_summed_with_the_latest_words(tmp_path):
    job = job_of(tmp_path)
    assert job.progress() is None
    write_json(job.path / "progress-0.json", event(3, 10, "2024-01-01T00:00:02Z", label="late"))
    assert job.progress()["done"] == 3
    write_json(job.path / "progress-1.json", event(4, 12, "2024-01-01T00:00:01Z"))
    progress = job.progress()
    assert (progress["done"], progress["total"], progress["label"]) == (7, 22, "late")


def test_progress_of_an_earlier_attempt_does_not_count(tmp_path):
    job = job_of(tmp_path)
    for element in range(3):
        write_json(job.path / f"progress-{element}.json", event(10, 10, "2024-01-01T00:00:02Z"))
    write_json(job.path / "progress.json", event(1, 30, "2024-01-01T00:00:09Z", attempt=2))
    assert (job.progress()["done"], job.progress()["total"]) == (1, 30)


def test_the_default_key_follows_step_experiment_and_site():
    keys = {
        default_key("train", EXPERIMENT, "local"),
        default_key("prepare", EXPERIMENT, "local"),
        default_key("train", EXPERIMENT, "debug"),
        default_key("train", loading.load(TINY, ["training.batch_size=1"]), "local"),
    }
    assert len(keys) == 4
    assert default_key("train", loading.load(TINY), "local") in keys
    assert all(key.split("-")[1] == "tiny" for key in keys)


def test_the_default_key_of_any_experiment_is_a_key(tmp_path):
    named = EXPERIMENT.model_copy(update={"name": "Ein Name: ü/../" + "x" * 200})
    assert JobFolder(tmp_path, default_key("normalize", named, "/a/site.yaml"))


def test_one_submitter_holds_a_job_at_a_time(tmp_path):
    job, order = job_of(tmp_path), []
    with job.exclusive():
        other = threading.Thread(target=lambda: (job.exclusive().__enter__(), order.append("other")))
        other.start()
        other.join(0.4)
        order.append("first")
    other.join(5)
    assert order == ["first", "other"]
