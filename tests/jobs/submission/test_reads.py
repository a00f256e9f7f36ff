"""How often a submission reads a job's folder: file systems of clusters are slow, and Airflow submits by the dozen."""

from __future__ import annotations

import os
import sys
from collections import Counter
from contextlib import contextmanager

import pytest

from jobs.job.folder import JobFolder
from jobs.submission import submit
from tests.jobs import job_of
from tests.jobs.submission.test_submit import request_of

_watched: list[tuple[str, Counter[str]]] = []


def _note(event, arguments):
    if (
        not _watched
        or event not in ("open", "os.listdir", "os.scandir")
        or not isinstance(arguments[0], str | os.PathLike)
    ):
        return
    folder, counts = _watched[0]
    writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    path = os.fspath(arguments[0])
    forced = event == "open" and os.path.isdir(path)  # to disk, after a rename in there: nothing is read
    if not writes and not forced and path.startswith(folder):
        counts[os.path.relpath(path, folder)] += 1


sys.addaudithook(_note)


@contextmanager
def reads_of(job):
    """How often each file of a job is opened to read, and each of its folders listed."""
    counts: Counter[str] = Counter()
    _watched.append((str(job.path), counts))
    try:
        yield counts
    finally:
        _watched.pop()


@pytest.fixture
def job(fake, tmp_path):
    fake.row("PENDING")
    return JobFolder(tmp_path / "root", "job")


def test_a_new_job_is_read_once_under_the_lock_and_once_after_it_was_handed_over(job):
    with reads_of(job) as reads:
        assert submit.submit(request_of(job.root))[0] == "submitted"
    assert reads.pop(".") <= 3, reads  # the lock looks whether it stands alone in a new folder
    assert reads["intent.json"] == 2 and max(reads.values()) == 2, reads


def test_a_job_that_is_live_is_read_once(job):
    submit.submit(request_of(job.root))
    with reads_of(job) as reads:
        assert submit.submit(request_of(job.root))[0] == "attached"
    assert reads["attempts/1/attempt.json"] == 1 and max(reads.values()) == 1, reads


def test_a_job_that_failed_is_read_twice_but_for_its_result_which_may_have_come_meanwhile(job, fake):
    submit.submit(request_of(job.root))
    fake.account("FAILED")
    with reads_of(job) as reads:
        assert submit.submit(request_of(job.root))[0] == "submitted"
    assert reads.pop("result.json") <= 4 and max(reads.values()) == 2, reads


def test_a_job_that_another_needs_is_read_once_and_its_intent_twice(job):
    needed = job_of(job.root, "needed")
    with reads_of(needed) as reads:
        submit.submit(request_of(job.root, needs=("needed",)))
    assert reads.pop(".") <= 3, reads  # the lock looks whether it stands alone in a new folder
    assert reads["intent.json"] == 2 and max(reads.values()) == 2, reads
