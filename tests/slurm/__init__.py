"""Tests against a real Slurm, started by `scripts/slurm_cluster.py`; `running` is one with settings of its own."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "slurm_cluster.py"
_spec = importlib.util.spec_from_file_location("slurm_cluster", SCRIPT)
slurm_cluster = importlib.util.module_from_spec(_spec)
sys.modules["slurm_cluster"] = slurm_cluster
_spec.loader.exec_module(slurm_cluster)


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
    # However this process ends, its end of the pipe is closed then, and the cluster is taken down.
    guard = subprocess.Popen(
        ["sh", "-c", 'cat; exec "$@"', "sh", sys.executable, str(SCRIPT), "down", "--purge", "--base", str(base)],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    cluster = slurm_cluster.Cluster(base, slurm_cluster.Settings(**settings))
    error = None
    try:
        with cluster:
            yield cluster
    except BaseException as raised:
        error = raised
        raise
    finally:
        os.killpg(guard.pid, signal.SIGKILL)
        guard.wait()
        guard.stdin.close()
        if error is None and request.session.testsfailed == failed:
            shutil.rmtree(base, ignore_errors=True)
        else:
            print(f"the logs of this Slurm are in {base / 'log'}")
