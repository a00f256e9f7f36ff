"""One real Slurm for all tests here. Each of pytest-xdist's workers that comes to such a test starts its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphufs.experiment import Experiment
from graphufs.layout import Layout
from tests.slurm import running, slurm_cluster


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
    rows = []
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and "test_faults" in report.nodeid and report.when == "call":
                row = dict(report.user_properties).get("fault", [report.nodeid.partition("::test_")[2], *["-"] * 6])
                rows.append(row if report.passed else [row[0], f"TEST {report.outcome.upper()}", *row[2:]])
    if not rows:
        return
    heads = ("fault", "state", "attempts/segments", "jobs", "arrays", "what was seen", "took")
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    terminalreporter.section("fault matrix")
    for row in [heads, *rows]:
        terminalreporter.write_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
