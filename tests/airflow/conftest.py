"""One Airflow and sshd for all tests here; each of pytest-xdist's workers that needs them starts its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm import slurm_cluster
from tests.support import matrix
from tests.support.airflow.bench import AirflowBench
from tests.support.airflow.bench import bench as whole_bench

HEADS = ("fault", "task", "job", "jobs", "what was seen", "took")


@pytest.fixture(scope="package")  # idle, it takes a tenth of a core
def bench(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    cluster: slurm_cluster.Cluster,
    normalized_root: Path,
) -> Iterator[AirflowBench]:
    """The bench, with the data and statistics of tiny on its site. Leave it with all parts up and no jobs."""
    with whole_bench(request, tmp_path_factory.mktemp("bench"), cluster, normalized_root) as bench:
        yield bench


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for pictures of Airflow's pages; $GRAPHUFS_PICTURES names one that lasts."""
    wanted = os.environ.get("GRAPHUFS_PICTURES")
    return Path(wanted) if wanted else tmp_path_factory.mktemp("pictures")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the fault matrix, rows that failed too."""
    matrix.write(terminalreporter, "airflow-fault", HEADS, "tests/airflow/test_faults", "Airflow's fault matrix")
