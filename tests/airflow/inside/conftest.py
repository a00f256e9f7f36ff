"""How tests get inside Airflow's environment, with a small Airflow on SQLite and jobs of the local site.

`.venv-airflow/bin/python -m pytest tests/airflow/inside` runs them. Airflow and the job side are never in one
environment; so where the job side's Python has collected them, as in `make test`, a process of Airflow's runs all
of a group that were chosen, and what became of each there is reported here.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from tests.airflow import NO_AIRFLOW, PYTHON
from tests.airflow.inside import HOSTILE, ROOT, group, run

HERE = Path(__file__).parent
INSIDE = importlib.util.find_spec("airflow") is not None
LIMIT = 1700
"""Seconds for all of a group."""
LOCAL = "executor: local\nlead: 30\ncontrol: {first_wait: 0, "  # jobs are left to the trigger at once, as long ones are
SITES = {
    "here": LOCAL + "command: COMMAND, poll_interval: 3, pool: graphufs}\n",
    "quick": LOCAL + "command: /nowhere/graphufs-jobs, poll_interval: 1, pool: quick-pool}\n",
    "unfinished": "executor: slurm\nroot: /scratch/<project>\n",
}
RESULTS = pytest.StashKey[dict]()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Leave to `make test` the page alone; the first test waits for all."""
    if item.path.parent != HERE:
        return
    item.add_marker(pytest.mark.timeout(LIMIT + 100))
    if item.path.stem != "test_page":
        item.add_marker(pytest.mark.faults)


def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """On the job side, report what became of a test in Airflow's environment."""
    if INSIDE or item.path.parent != HERE:  # pytest-xdist calls this for tests of other folders too
        return None
    results = item.session.stash.setdefault(RESULTS, {})
    if not NO_AIRFLOW and name_of(item) not in results:
        alike = [other for other in item.session.items if other.path.parent == HERE]
        results |= results_of([other for other in alike if group(other.path.name) == group(item.path.name)])
    file, line, _ = item.location
    outcome, words, seconds = results.get(name_of(item), ("failed", "it was not run", 0.0))
    if NO_AIRFLOW:
        outcome, words = "skipped", (file, line, f"Skipped: {NO_AIRFLOW}")
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    keywords = dict.fromkeys(item.keywords, 1)  # as pytest does: they go from process to process
    report = pytest.TestReport(item.nodeid, item.location, keywords, outcome, words, "call", duration=seconds)
    item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def name_of(item: pytest.Item) -> str:
    return f"{item.path.name}::{item.name}"


def results_of(items: list[pytest.Item]) -> dict[str, tuple[str, str | None, float]]:
    """The outcome of tests in Airflow's environment, what is to be said of it, and the seconds they took, by name."""
    chosen = [name_of(item) for item in items]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    jobs = str(Path(sys.executable).with_name("graphufs-jobs"))
    with tempfile.TemporaryDirectory() as temporary:
        report = Path(temporary) / "report.xml"
        done = subprocess.run(
            [PYTHON, "-m", "pytest", f"--junitxml={report}", *chosen],
            cwd=HERE,
            env={**clean, "GRAPHUFS_JOBS": jobs},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        found: dict[str, tuple[str, str | None, float]] = dict.fromkeys(chosen, ("failed", done.stdout[-20000:], 0.0))
        if not report.exists():
            return found
        cases = list(ElementTree.parse(report).iter("testcase"))
    for case in cases:
        said = [part.text or part.get("message") for part in case if part.tag in ("failure", "error")]
        words = "\n".join([*said, *(part.text[-20000:] for part in case if part.tag.startswith("system-"))])
        name = f"{case.get('classname').rpartition('.')[2]}.py::{case.get('name')}"
        found[name] = ("failed" if said else "passed", words if said else None, float(case.get("time")))
    return found


# inside


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The folder the tests are in, with Airflow's, the sites' files and the root. Airflow is not imported before it."""
    folder = tmp_path_factory.mktemp("airflow")
    (folder / "sites").mkdir()
    command = os.environ.get("GRAPHUFS_JOBS", str(ROOT / ".venv" / "bin" / "graphufs-jobs"))
    for name, content in SITES.items():
        (folder / "sites" / f"{name}.yaml").write_text(content.replace("COMMAND", command))
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
        "GRAPHUFS_MIRROR": str(folder / "mirror"),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AIRFLOW")]:
            patch.delenv(name)
        for name, value in settings.items():
            patch.setenv(name, value)
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="session")
def reading(folder):
    """The seconds that importing Airflow and reading each DAG file took, and what heavy packages that brought in."""
    began = time.process_time()
    from airflow.dag_processing import dagbag  # noqa: F401

    spent, began = {"airflow": time.process_time() - began}, time.process_time()
    for path in (ROOT / "dags").glob("*.py"):
        exec(compile(path.read_text(), path, "exec"), {"__name__": "dag", "__doc__": ""})
        spent[path.stem], began = time.process_time() - began, time.process_time()
    heavy = {name.split(".")[0] for name in sys.modules}
    return SimpleNamespace(
        seconds=spent, heavy=heavy & {"jax", "xarray", "numpy", "zarr", "submitit", "asyncssh"}
    )  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def database(reading):
    """Airflow's tables."""
    from airflow.utils.db import initdb

    from jobs.airflow.operators import trigger

    initdb()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trigger, "SETTLE", 0.0)  # there is no scheduler here that could take things amiss
        yield


@pytest.fixture(scope="session")
def normalized(database):
    """The run of `normalization` that has made tiny's data and statistics."""
    return run("normalization", experiment="tiny", site="here", overrides=["description=a $(touch PWNED) 'b'"])


@pytest.fixture(scope="session")
def trained(normalized):
    """The run of `training` that has registered the first model."""
    wish = {"experiment": "tiny", "site": "here", "latent_size": 4, "time_limit": "1:00:00"}
    return run("training", **wish, overrides=[HOSTILE])
