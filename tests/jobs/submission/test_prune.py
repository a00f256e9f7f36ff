"""Retention: what is over and old may go, what anybody refers to stays."""

from __future__ import annotations

import os
import threading
import time

import pytest

from graphufs.config import loading
from graphufs.errors import UserError
from graphufs.storage.atomic import remove_folder, write_json, write_text
from graphufs.storage.paths import Paths
from jobs.job.folder import JobFolder
from jobs.submission import prune
from tests.conftest import TINY
from tests.jobs import EXPERIMENT, job_of


def aged(path, days=100):
    then = time.time() - 86400 * days
    for folder, _, names in os.walk(path, topdown=False):
        for name in names:
            os.utime(os.path.join(folder, name), (then, then))
        os.utime(folder, (then, then))


def named(waste):
    return [one.path for one in waste]


def job_with(root, key, experiment=EXPERIMENT, days=0, **options):
    job = job_of(root, key, **options)
    write_text(job.path / "experiment.yaml", loading.dump(experiment))
    aged(job.path, days)
    return job


def data_of(root, experiment, days=100):
    """Folders like those that an experiment's steps leave."""
    paths = Paths(experiment, root)
    folders = [paths.world, paths.data, paths.moments.parent, paths.climatology]
    for folder in folders:
        write_text(folder / "inside" / "file", "x" * 1000)
        aged(folder, days)
    return folders


def other():
    return loading.load(TINY, ["data.levels=[500]"])


def test_an_empty_root_has_no_waste(tmp_path):
    assert prune.find(tmp_path, 30) == []


def test_only_jobs_go_that_are_over_and_old(fake, tmp_path):
    root = tmp_path / "root"
    gone = [
        job_with(root, key, days=40, **how)
        for key, how in (("done", {"result": True}), ("refused", {"phase": "refused"}))
    ]
    job_with(root, "fresh", days=20, result=True)
    job_with(root, "new", days=40, attempt=False)
    job_with(root, "half", days=40, phase="submitting", id=None)
    job_with(root, "lost", days=40, id="13")
    job_with(root, "running", days=40)
    fake.row("RUNNING")
    found = prune.find(root, 30)
    assert named(found) == [job.path for job in gone]
    assert all(one.size > 100 and "unchanged for 40 days" in one.reason for one in found)
    assert "done" in {job.key for job in JobFolder.all(root)}
    for one in found:
        remove_folder(one.path)
    assert {job.key for job in JobFolder.all(root)} == {"fresh", "new", "half", "lost", "running"}


def test_shared_data_goes_that_neither_run_nor_job_refers_to(tmp_path):
    unused, used = data_of(tmp_path, other()), data_of(tmp_path, EXPERIMENT)
    write_text(Paths(EXPERIMENT, tmp_path).run / "experiment.yaml", loading.dump(EXPERIMENT))
    found = prune.find(tmp_path, 30)
    assert set(named(found)) == set(unused) - set(used)
    for one in found:
        remove_folder(one.path)
    assert all(folder.exists() for folder in used) and not any(one.path.exists() for one in found)


def test_data_of_a_kept_job_stays_and_goes_with_the_job(tmp_path):
    used = data_of(tmp_path, EXPERIMENT)
    job = job_with(tmp_path, "job", days=10, result=True)
    assert prune.find(tmp_path, 30) == []
    assert set(named(prune.find(tmp_path, 5))) == {job.path, *used}


def test_young_data_stays(tmp_path):
    data_of(tmp_path, EXPERIMENT, days=10)
    assert prune.find(tmp_path, 30) == []


def test_data_that_something_still_writes_into_stays(tmp_path):
    folders = data_of(tmp_path, EXPERIMENT)
    os.utime(folders[1] / "inside" / "file")
    assert folders[1] not in named(prune.find(tmp_path, 30))


@pytest.mark.parametrize("text", ["name: [", "name: old\nno_such_section: {}\n"])
def test_an_experiment_that_cannot_be_read_keeps_all_shared_data(tmp_path, text):
    data_of(tmp_path, EXPERIMENT)
    write_text(tmp_path / "runs" / "old" / "0123" / "experiment.yaml", text)
    gone = job_with(tmp_path, "done", days=40, result=True)
    assert named(prune.find(tmp_path, 30)) == [gone.path]


def test_a_finished_job_that_a_kept_one_needs_stays(fake, tmp_path):
    root = tmp_path / "root"
    job_with(root, "needed", days=40, result=True)
    job_with(root, "job", needs=["needed"], days=1)
    fake.row("PENDING")
    assert prune.find(root, 30) == []


def test_data_below_the_root_that_is_nobodys_business_stays(tmp_path):
    for name in ("cache", "runs/tiny/0123", "data/.lock", "mine"):
        write_json(tmp_path / name / "file", {})
    aged(tmp_path)
    assert prune.find(tmp_path, 30) == []


def test_a_job_that_was_started_again_during_the_scan_stays(fake, tmp_path):
    root = tmp_path / "root"
    again, gone = (job_with(root, key, days=40, phase="refused") for key in ("again", "gone"))
    found = prune.find(root, 30)
    assert named(found) == [again.path, gone.path]
    again.write_attempt(again.attempt(), number=2, phase="submitted")
    fake.row("RUNNING")
    assert named(prune.remove(root, 30, found)) == [gone.path]
    assert again.attempts() == [1, 2] and (again.path / "intent.json").exists() and not gone.path.exists()


def test_data_that_a_new_job_refers_to_stays(tmp_path):
    data_of(tmp_path, EXPERIMENT)
    found = prune.find(tmp_path, 30)
    assert len(found) == 4
    job_with(tmp_path, "new", attempt=False)
    assert prune.remove(tmp_path, 30, found) == [] and all(one.path.exists() for one in found)


def test_nothing_is_removed_while_somebody_submits(tmp_path):
    job = job_with(tmp_path, "job", days=40, phase="refused")
    found = prune.find(tmp_path, 30)
    removal = threading.Thread(target=prune.remove, args=(tmp_path, 30, found))
    with job.exclusive():
        removal.start()
        removal.join(0.5)
        assert removal.is_alive() and (job.path / "intent.json").exists()
        job.write_attempt(job.attempt(), number=2, phase="submitting", id=None)
    removal.join(30)
    assert not removal.is_alive() and job.attempts() == [1, 2] and (job.path / "intent.json").exists()


@pytest.mark.parametrize("days", [-1, float("nan"), float("inf")])
def test_days_that_are_none_are_refused(tmp_path, days):
    job_with(tmp_path, "job", days=40, result=True)
    with pytest.raises(UserError, match="--days"):
        prune.find(tmp_path, days)
