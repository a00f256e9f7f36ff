"""Tests against a real Slurm, started by `devstack/slurm/cluster.py`; `running` is one with settings of its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devstack.slurm import cluster as slurm_cluster
from tests.support.private import guarded

MODULE = "devstack.slurm.cluster"
__all__ = ["MODULE", "running", "skip_without_slurm", "slurm_cluster"]


def skip_without_slurm() -> None:
    """Skip the test where Slurm is not installed."""
    if missing := slurm_cluster.missing_programs():
        pytest.skip(f"no Slurm on this machine ({', '.join(missing)} not found): run scripts/packages.sh slurm as root")


@contextmanager
def running(request: pytest.FixtureRequest, **settings: object) -> Iterator[slurm_cluster.Cluster]:
    """A cluster with these settings, for as long as the `with` lasts. After a failed test its logs stay.

    Skips the test where Slurm is not installed.
    """
    skip_without_slurm()
    # Not pytest's own folder: a socket's path has little room.
    base = Path(tempfile.mkdtemp(prefix="graphufs-slurm-"))
    failed = request.session.testsfailed
    cluster = slurm_cluster.Cluster(base, slurm_cluster.Settings(**settings))
    good = False
    try:
        with guarded(MODULE, base), cluster:
            yield cluster
            good = request.session.testsfailed == failed
    finally:
        if good:
            shutil.rmtree(base, ignore_errors=True)
        else:
            print(f"the logs of this Slurm are in {base / 'log'}")
