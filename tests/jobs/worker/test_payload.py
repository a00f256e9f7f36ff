"""A payload holds data, and one name of ours: a job that was submitted before an upgrade starts after it."""

from __future__ import annotations

import pickle

import pytest

from jobs.job.folder import JobFolder
from jobs.submission import launch
from tests.jobs import SLURM, attempt_of, job_of

ENTRY = ("jobs.worker.bootstrap", "work")
SUBMITITS = ("submitit.core.utils", "DelayedSubmission")


class Narrow(pickle.Unpickler):
    """Finds the two names that a payload may hold, and refuses all others."""

    def find_class(self, module, name):
        if (module, name) not in (ENTRY, SUBMITITS):
            raise pickle.UnpicklingError(f"the payload names {module}.{name}")
        return super().find_class(module, name)


def read(path):
    with open(path, "rb") as file:
        return Narrow(file).load()


@pytest.fixture
def job(fake, tmp_path):
    return job_of(tmp_path / "root")


def data(job: JobFolder):
    return {"root": str(job.root), "key": job.key, "attempt": 1}


def test_a_payload_names_one_function_and_holds_plain_data(job):
    launch.write_payload(job, attempt_of(), SLURM, [])
    delayed = read(job.folder(1) / "payload.pkl")
    assert delayed.args == (data(job),) and delayed.kwargs == {}
    assert all(type(value) in (str, int) for value in delayed.args[0].values())


def test_what_a_requeue_leaves_is_the_same(job, tmp_path):
    launch.write_payload(job, attempt_of(), SLURM, [])
    delayed = read(job.folder(1) / "payload.pkl")
    assert hasattr(delayed.function, "checkpoint")  # without it submitit lets a job end that should go on
    again = delayed._checkpoint_function()
    again.dump(tmp_path / "requeued.pkl")
    assert read(tmp_path / "requeued.pkl").args == delayed.args


def test_a_payload_of_version_0_1_is_requeued_as_one_of_today(job, tmp_path):
    from jobs.work import Work

    old = Work()
    vars(old).update(data(job), running=None)
    old.checkpoint().dump(tmp_path / "requeued.pkl")
    assert read(tmp_path / "requeued.pkl").args == (data(job),)
