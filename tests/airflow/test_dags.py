"""Operator, triggers and DAGs in Airflow's own environment.

Airflow and the job side are never in one environment, so `test_dags_inside.py` runs as one process of `.venv-airflow`'s
Python, which says what became of each of its checks. The job command of the site `here` is that of this environment:
the jobs are real. Where Airflow is not installed (`make setup-airflow`), all of this is skipped.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("GRAPHUFS_AIRFLOW_PYTHON", ROOT / ".venv-airflow" / "bin" / "python"))
INSIDE = Path(__file__).with_name("test_dags_inside.py")
CHECKS = [
    check
    for path in sorted(INSIDE.parent.glob("inside/*.py"))
    if path.stem != "page"  # test_page has it
    for check in re.findall(r"^def (check_\w+)\(", path.read_text(), re.MULTILINE)
]
SITES = {
    "here": "executor: local\ncontrol: {command: COMMAND, poll_interval: 1, pool: graphufs}\nlead: 30\n",
    "quick": "executor: local\ncontrol: {command: /nowhere/graphufs-jobs, poll_interval: 1, pool: quick-pool}\n",
    "unfinished": "executor: slurm\nroot: /scratch/<project>\n",
}
pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(1800),  # the first test waits for them all
    pytest.mark.skipif(not PYTHON.exists(), reason=f"there is no {PYTHON}; `make setup-airflow` makes it"),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What became of each check, and what was seen beside."""
    return inside(tmp_path_factory.mktemp("inside"))


def inside(folder: Path, only: str = "") -> dict:
    """Run the checks, or those whose names an expression finds, in Airflow's environment: what became of each."""
    (folder / "sites").mkdir()
    for name, content in SITES.items():
        command = Path(sys.executable).with_name("graphufs-jobs")
        (folder / "sites" / f"{name}.yaml").write_text(content.replace("COMMAND", str(command)))
    settings = {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__GRAPHUFS__INSTANCE": "me",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder / 'airflow.db'}",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "GRAPHUFS_SITES": str(folder / "sites"),
        "GRAPHUFS_ROOT": str(folder / "root"),
        "ONLY": only,
    }
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    done = subprocess.run(
        [PYTHON, INSIDE, folder / "report.json"],
        cwd=folder,
        env={**clean, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1700,
        check=False,
    )
    print(done.stdout[-20000:])
    assert done.returncode == 0
    return json.loads((folder / "report.json").read_text())


def test_dag_files_are_read_fast_and_need_no_arrays(results):
    assert not results["heavy"]
    spent = dict(results["spent"])
    airflow = spent.pop("airflow")  # what importing it costs any DAG file, on this machine
    assert set(spent) == {path.stem for path in (ROOT / "dags").glob("*.py")}
    assert max(spent.values()) < airflow, (airflow, spent)


@pytest.mark.parametrize("check", CHECKS)
def test_inside_airflow(results, check):
    assert results.get(check, "it was not run") == "", results.get(check)
