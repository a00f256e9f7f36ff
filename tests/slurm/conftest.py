"""One real Slurm for all tests here. Each of pytest-xdist's workers that comes to such a test starts its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphufs.experiment import Experiment
from graphufs.layout import Layout
from tests import matrix
from tests.slurm import running, slurm_cluster

HEADS = ("fault", "state", "attempts/segments", "jobs", "arrays", "what was seen", "took")


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[slurm_cluster.Cluster]:
    """A cluster of two nodes, shared by the session: leave it as it was found, without jobs and all daemons up."""
    with running(request) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def trained_root(tmp_path_factory: pytest.TempPathFactory, tiny: Experiment, finished_root: Path) -> Path:
    """A root in which tiny is trained and no forecast made. Not to be written to."""
    root = Path(shutil.copytree(finished_root, tmp_path_factory.mktemp("trained") / "root"))
    for path in (Layout(tiny, root).forecasts, Layout(tiny, root).scores):
        shutil.rmtree(path.parent)
    return root


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the fault matrix, rows that failed too."""
    matrix.write(terminalreporter, "fault", HEADS, "tests/slurm/test_faults", "fault matrix")
