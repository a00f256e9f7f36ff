"""What tests on a real Slurm share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from graphufs.config.experiment import Experiment
from graphufs.storage.paths import Paths
from tests.support import matrix

HEADS = ("fault", "state", "attempts/segments", "jobs", "arrays", "what was seen", "took")


@pytest.fixture(scope="session")
def trained_root(tmp_path_factory: pytest.TempPathFactory, tiny: Experiment, finished_root: Path) -> Path:
    """A root in which tiny is trained and no forecast made. Not to be written to."""
    root = Path(shutil.copytree(finished_root, tmp_path_factory.mktemp("trained") / "root"))
    for path in (Paths(tiny, root).forecasts, Paths(tiny, root).scores):
        shutil.rmtree(path.parent)
    return root


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the fault matrix, rows that failed too."""
    matrix.write(terminalreporter, "fault", HEADS, "tests/slurm/test_faults", "fault matrix")
