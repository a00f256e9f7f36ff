"""Commands of Slurm that only pretend, for the tests of this folder."""

from __future__ import annotations

import pytest

from tests.jobs import FakeSlurm


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Commands of Slurm that say what they are told to, and a site `fake` that uses them."""
    slurm = FakeSlurm(tmp_path)
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    return slurm
