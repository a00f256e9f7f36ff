"""An Airflow of version 0.1.0, with its database, root and live jobs, taken over by the code that is here now.

`tests/golden/formats/make_airflow.py` made it, and tells what is in it: `airflow-0.1.0.tar.xz`, `airflow.json`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from devstack.airflow.postgresql import NAME as POSTGRESQL
from devstack.airflow.settings import make_secrets
from devstack.airflow.stack import Stack
from devstack.processes import free_port
from graphufs.registry import registry
from graphufs.storage.lock import locked
from graphufs.storage.paths import Paths
from jobs import site
from jobs.job.folder import JobFolder
from jobs.job.status import read_statuses
from jobs.submission import launch
from tests.airflow import running, skip_without_airflow
from tests.formats.test_formats_of_0_1_0 import CHAMPION, VALUES
from tests.golden.formats.unpack import AIRFLOWS, unpack
from tests.support.airflow.bench import SETTINGS, AirflowBench, eventually
from tests.support.private import TOP

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
KNOWN = json.loads(AIRFLOWS.with_name("airflow.json").read_text())
KEYS = KNOWN["keys"]
ONCE_A_YEAR = {"GRAPHUFS_NIGHTLY_SCHEDULE": "0 0 1 1 *"}
"""As it was then: no night comes by the clock."""


def at_home(folder: Path) -> Path:
    """The root with its site, which this machine is; the code of today with the one experiment of then."""
    root = unpack(folder, AIRFLOWS)
    command = folder / "graphufs-jobs"
    command.write_text(
        f"#!/bin/bash\ncd {root}\nexport PATH={Path(sys.executable).parent}:$PATH GRAPHUFS_SITES={folder}/sites\n"
        f'export PYTHONPATH={TOP} JAX_PLATFORMS=cpu\nexec python -m jobs "$@"\n'
    )
    command.chmod(0o755)
    control = {"command": str(command), "poll_interval": 2}
    content = {"executor": "local", "lead": 30, "python": "python", "root": str(root), "control": control}
    (folder / "sites" / "local.yaml").write_text(json.dumps(content))
    (folder / "sites" / "cluster.yaml").unlink()
    for package in ("graphufs", "jobs"):
        ignored = shutil.ignore_patterns("experiments", "__pycache__")
        shutil.copytree(TOP / package, folder / "code" / package, ignore=ignored)
    (folder / "code" / "graphufs" / "experiments").mkdir()
    experiment = JobFolder(root, VALUES["jobs"]["train"]).path / "experiment.yaml"
    shutil.copy(experiment, folder / "code" / "graphufs" / "experiments" / "tiny.yaml")
    return root


def restore(stack: Stack, dumped: Path) -> None:
    """Fill a database that nobody has used yet, and stop its server."""
    stack.instance, stack.secrets = KNOWN["instance"], make_secrets({})
    stack.ports[POSTGRESQL] = free_port(0)
    for folder in (stack.home, stack.log):
        folder.mkdir(mode=0o700)
    stack.save()
    stack._start(POSTGRESQL)
    where = ["--host=127.0.0.1", f"--port={stack.ports[POSTGRESQL]}", "--username=airflow", "postgres"]
    subprocess.run(
        ["psql", "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", f"--file={dumped}", *where],
        env=os.environ | {"PGPASSWORD": stack.secrets["database"]},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    stack.stop(POSTGRESQL)


def trained(root: Path) -> dict[Path, int]:
    """When each file of a checkpoint was written [ns]."""
    files = (path for path in root.glob("runs/*/*/checkpoints/**/*") if path.is_file())
    return {path: path.stat().st_mtime_ns for path in files}


def revive(root: Path, key: str) -> JobFolder:
    """Start the process of a job anew, by the script of then: as if it had run on."""
    job = JobFolder(root, key)
    attempt, folder = job.attempt(), job.folder(1)
    assert attempt is not None
    for path in (*folder.glob("claim-*"), *folder.glob("segments.jsonl"), *job.submitit(1).iterdir()):
        path.unlink()
    number, process = launch.as_process(job, attempt, site.load("local"))
    job.write_attempt(attempt, id=number, process=process)
    eventually(lambda: read_statuses([job])[0].state == "RUNNING")
    return job


class Upgraded(AirflowBench):
    """The Airflow of then, run by the code of today, on a site that is this machine."""

    def __init__(self, root: Path, stack: Stack) -> None:
        self.root, self.stack = root, stack
        self.api = self.user("admin")

    def done(self, dag: str, run: str, task: str) -> dict[str, Any]:
        """Wait until a task is done well; its job's result, which was submitted once."""
        found = self.until_task(dag, run, "success", "failed", task=task, seconds=600)
        assert found["state"] == "success", self.log(found)
        job = JobFolder(self.root, self.key(dag, run, task))
        content = job.result()
        assert content is not None and job.attempts() == [1], job.attempts()
        result: dict[str, Any] = content["result"]
        return result


@pytest.fixture(scope="module")
def then(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The Airflow, up; with the two jobs that were live, which wait for `release`."""
    skip_without_airflow()
    folder = tmp_path_factory.mktemp("then")
    root = at_home(folder)
    environment = (
        SETTINGS
        | ONCE_A_YEAR
        | {
            "GRAPHUFS_SITES": str(folder / "sites"),
            "GRAPHUFS_MIRROR": str(folder / "mirror"),
            "PYTHONPATH": str(folder / "code"),
        }
    )
    settings = {"dags": str(TOP / "dags"), "environment": environment}
    with ExitStack() as parts, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHUFS_SITES", str(folder / "sites"))
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("PYTHONPATH", str(TOP))
        locks = {name: parts.enter_context(ExitStack()) for name in ("waiting", "retried")}
        for name, lock in locks.items():
            run = Paths(JobFolder(root, KEYS[name]).experiment(), root).run
            lock.enter_context(locked(run, should_stop=lambda: True, waiting=lambda: None))
        before = trained(root)
        assert before
        jobs = {name: revive(root, KEYS[name]) for name in locks}
        filled = partial(restore, dumped=folder / "airflow.sql")
        stack = parts.enter_context(running(request, prepare=filled, **settings))
        yield SimpleNamespace(
            bench=Upgraded(root, stack),
            root=root,
            trained=before,
            jobs=jobs,
            release={name: lock.close for name, lock in locks.items()},
        )


def test_a_task_that_waits_goes_on_with_the_job_that_runs(then: SimpleNamespace) -> None:
    bench = then.bench
    assert bench.deferred("training", "waiting", task="train")["try_number"] == 1
    assert read_statuses([then.jobs["waiting"]])[0].state == "RUNNING"
    then.release["waiting"]()
    assert bench.done("training", "waiting", "train")["status"] == "completed"
    assert bench.task("training", "waiting", "train")["try_number"] == 1
    model = bench.done("training", "waiting", "register")["model"]
    assert registry.get(then.root, model).role == "candidate"
    assert bench.api.wait("training", "waiting", 300) == "success"


def test_the_next_try_of_a_task_that_died_attaches_to_its_job(then: SimpleNamespace) -> None:
    bench = then.bench
    found = bench.deferred("training", "retried", task="train")
    # a busy Airflow may lose the second try before it has begun to work, and begin a third
    assert found["try_number"] >= 2 and f"Job {KEYS['retried']} attached: RUNNING" in bench.log(found)
    then.release["retried"]()
    assert bench.done("training", "retried", "train")["status"] == "completed"


def test_a_key_that_is_held_is_not_trained_again(then: SimpleNamespace) -> None:
    bench, key = then.bench, KEYS["finished"]
    assert bench.key("training", "finished", "train") == key
    bench.clear("training", "finished", "train")
    eventually(lambda: bench.task("training", "finished", "train")["try_number"] == 2)
    bench.done("training", "finished", "train")
    assert f"Job {key} completed already" in bench.log(bench.task("training", "finished", "train"))
    assert then.trained.items() <= trained(then.root).items()


def test_the_champion_forecasts_the_next_night(then: SimpleNamespace) -> None:
    bench = then.bench
    bench.api.unpause("nightly_evaluation")
    run = bench.trigger("nightly_evaluation", {"experiment": "tiny", "site": "local", "model": "champion"})
    made = bench.done("nightly_evaluation", run, "record_nightly")
    assert made["model"] == CHAMPION and made["added"] > 0
    champion = registry.champion(then.root, "tiny")
    assert champion is not None and champion.id == CHAMPION
    assert bench.api.wait("nightly_evaluation", run, 300) == "success"
    assert then.trained.items() <= trained(then.root).items()
