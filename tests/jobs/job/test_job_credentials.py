"""Credentials that a job's experiment holds: in one file, which its account alone can read, and in no other."""

from __future__ import annotations

import stat

import pytest

from graphufs.config import credentials, loading
from graphufs.errors import UserError
from jobs import site
from jobs.hand_out import fetch, packed
from jobs.job.folder import CREDENTIALS
from jobs.submission import submit
from tests.golden.formats import names

MARK = "MARKER51ab"


def secretive(key):
    return names.shipped(
        "tiny",
        f"data.source.storage_options={{key: {MARK}{key}, token: anon}}",
        f"evaluation.era5.url=https://me:{MARK}pw@host/era5.zarr?sig={MARK}sig",
    )


def intended(root, experiment, **more):
    request = submit.Request("prepare", experiment, "local", site.load("local"), root, **more)
    job = request.job()
    submit._intended(job, request)
    return job


def test_they_lie_in_a_file_of_its_own_and_the_job_has_them(tmp_path):
    held = secretive("one")
    job = intended(tmp_path, held)
    files = {path.name: path for path in job.path.rglob("*") if path.is_file()}
    assert [name for name, path in files.items() if MARK in path.read_text()] == [CREDENTIALS]
    assert stat.S_IMODE(files[CREDENTIALS].stat().st_mode) == 0o600
    assert "token: anon" in files["experiment.yaml"].read_text()
    assert job.experiment() == held and credentials.held(job.experiment()) == credentials.held(held)


def test_a_job_without_any_has_no_such_file(tmp_path):
    job = intended(tmp_path, names.shipped("tiny", "data.source.storage=mine"))
    assert not (job.path / CREDENTIALS).exists() and credentials.held(job.experiment()) == {}
    assert job.experiment().data.source.storage == "mine"


def test_new_ones_are_those_of_the_same_job_and_a_masked_experiment_keeps_those_there(tmp_path):
    job = intended(tmp_path, secretive("one"))
    assert intended(tmp_path, secretive("two"), labels={"why": "rotated"}).path == job.path
    assert credentials.held(job.experiment())["data.source.storage_options"]["key"] == f"{MARK}two"
    assert intended(tmp_path, loading.load(job.path / "experiment.yaml")).path == job.path
    assert credentials.held(job.experiment())["data.source.storage_options"]["key"] == f"{MARK}two"
    assert stat.S_IMODE((job.path / CREDENTIALS).stat().st_mode) == 0o600


def test_nobody_is_handed_them(tmp_path):
    root = tmp_path / "root"
    job = intended(root, secretive("one"))
    for take in (lambda name: fetch(root, name, None), lambda name: packed(root, name, 10**6)):
        with pytest.raises(UserError, match="holds credentials"):
            take(f"jobs/{job.key}/{CREDENTIALS}")
    fetch(root, f"jobs/{job.key}", tmp_path / "copy")
    copied = [path for path in (tmp_path / "copy").rglob("*") if path.is_file()]
    assert copied and not [path for path in copied if MARK in path.read_text()]
