"""A real Airflow that speaks over a real sshd to a real Slurm, and what tests do to them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from jobs.airflow.keys import job_key
from tests.airflow import airflow_api, airflow_stack, running, skip_without_airflow
from tests.slurm import slurm_cluster
from tests.support.airflow import sshd
from tests.support.private import wait_for
from tests.support.slurm_bench import Bench

TOP = Path(__file__).parents[3]
INTERVAL = 5
"""Seconds between two looks at the site."""
JOB_COMMAND = TOP / ".venv" / "bin" / "graphufs-jobs"
SETTINGS = {
    # what has died is noticed soon
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "12",
    # files that nobody changes need not be read every few seconds
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
}


class AirflowBench:
    """Airflow, the way to the site, and the site.

    Attributes
    ----------
    slurm : the site's side: its root, its jobs, its cluster
    ssh : the server that Airflow's connection leads to
    stack, api : Airflow, and an administrator's session with it
    """

    def __init__(self, folder: Path, slurm: Bench, ssh: sshd.Sshd, stack: airflow_stack.Stack) -> None:
        self.folder, self.slurm, self.ssh, self.stack = folder, slurm, ssh, stack
        self.api = self.user("admin")

    def user(self, name: str) -> airflow_api.Api:
        """A user's session."""
        return airflow_api.Api(self.stack.url, name, self.stack.passwords[name])

    # Airflow

    def trigger(self, dag: str, conf: dict[str, Any] | None = None) -> str:
        """Start a run; its id."""
        return self.api.trigger(dag, conf)

    def task(self, dag: str, run: str, task: str = "job", index: int = -1) -> dict[str, Any]:
        """A task of a run."""
        (found,) = [
            one for one in self.api.task_instances(dag, run) if one["task_id"] == task and one["map_index"] == index
        ]
        return found

    def until_task(
        self, dag: str, run: str, *states: str, task: str = "job", index: int = -1, seconds: float = 120
    ) -> dict[str, Any]:
        """Wait until a task is in one of some states."""
        end = time.monotonic() + seconds
        while (found := self.task(dag, run, task, index))["state"] not in states:
            assert time.monotonic() < end, f"after {seconds} s {dag}.{task} is {found['state']}: {self.log(found)}"
            time.sleep(0.5)
        return found

    def deferred(self, dag: str, run: str, **which: Any) -> dict[str, Any]:
        """Wait until a task is deferred and a triggerer has it."""
        end = time.monotonic() + 90
        while True:
            found = self.until_task(dag, run, "deferred", **which)
            if (found.get("trigger") or {}).get("triggerer_id") is not None:
                return found
            assert time.monotonic() < end, "no triggerer takes it"
            time.sleep(0.3)

    def mark(self, dag: str, run: str, state: str, task: str = "job") -> None:
        """Say by hand what state a task is in."""
        path = f"/dags/{dag}/dagRuns/{quote(run)}/taskInstances/{task}"
        self.api.request("PATCH", path, {"new_state": state})

    def clear(self, dag: str, run: str, task: str = "job") -> None:
        """Have a task done again."""
        content = {"dry_run": False, "dag_run_id": run, "task_ids": [task], "only_failed": False}
        self.api.request("POST", f"/dags/{dag}/clearTaskInstances", content)

    def log(self, task: dict[str, Any], attempt: int | None = None) -> str:
        """The log of a task's try, by default the last, with what exceptions said."""
        try:
            lines = self.api.log(
                task["dag_id"], task["dag_run_id"], task["task_id"], attempt or task["try_number"], task["map_index"]
            )
        except airflow_api.ApiError:  # there is none yet
            return ""
        said = [[str(line["event"])] + [one["exc_value"] for one in line.get("error_detail") or ()] for line in lines]
        return "\n".join(text for texts in said for text in texts)

    # the site

    def key(self, dag: str, run: str, task: str = "job", index: int = -1) -> str:
        """The key of a task's job."""
        return job_key(dag, run, task, index, instance=self.stack.instance)

    def until_job(self, key: str, seconds: float = 60) -> None:
        """Wait until Slurm has a job."""
        eventually(lambda: (attempt := self.slurm.job(key).attempt()) and attempt.id, seconds)

    def release(self, key: str) -> None:
        """Let a held job begin."""
        attempt = self.slurm.job(key).attempt()
        assert attempt is not None
        self.slurm.cluster.command("scontrol", "update", f"JobId={attempt.id}", "StartTime=now")

    def live(self, *keys: str) -> int:
        """How many jobs of these keys Slurm has waiting or running."""
        queued = self.slurm.cluster.command("squeue", "-h", "-o", "%j").splitlines()
        return len([name for name in queued if name.split(".", 1)[1].rsplit(".", 2)[0] in keys])

    @contextmanager
    def at(self, command: str, script: str) -> Iterator[Path]:
        """Have a script run before a command of the site is done; the file it may touch."""
        hook, flag = self.folder / "hooks" / command, self.folder / "hooks" / f"{command}.flag"
        flag.unlink(missing_ok=True)
        hook.write_text(script.replace("FLAG", str(flag)))
        try:
            yield flag
        finally:
            hook.unlink()

    def commands(self) -> list[tuple[float, str]]:
        """When which command of the site was called."""
        calls = self.folder / "calls"
        lines = calls.read_text().splitlines() if calls.exists() else []
        return [(float(line.split()[0]), line.split()[1]) for line in lines]


SITE = ("SLURM_CONF", "GRAPHUFS_SITES", "PATH", *(name for name in os.environ if name.startswith(("JAX_", "XLA_"))))
"""What the site's command is told by its environment; the compiled programs of all tests lie in one place."""


@contextmanager
def bench(
    request: pytest.FixtureRequest, folder: Path, cluster: slurm_cluster.Cluster, prepared: Path, **settings: Any
) -> Iterator[AirflowBench]:
    """Airflow and its way to a cluster, for as long as the `with` lasts. Skips the test where a part is missing."""
    skip_without_airflow()
    if lacks := sshd.missing():
        pytest.skip(f"no SSH server on this machine ({', '.join(lacks)} not found); on Debian: openssh-server")
    with ExitStack() as parts:
        command = folder / "graphufs-jobs"
        control = {"connection": "hpc", "command": str(command), "poll_interval": INTERVAL, "first_wait": 0}
        slurm = Bench(cluster, folder / "site", prepared, root=str(folder / "site" / "root"), control=control)
        (folder / "hooks").mkdir()
        parts.callback(let_go, folder / "hooks")
        write_command(command, slurm)
        ssh = sshd.Sshd(folder / "ssh")
        ssh.allow(True, f'restrict,command="{command}"')
        ssh.start()
        parts.callback(ssh.stop)
        dags = folder / "dags"
        dags.mkdir()
        for path in [*(TOP / "dags").glob("*.py"), Path(__file__).with_name("trials.py")]:
            (dags / path.name).symlink_to(path)
        environment = {**SETTINGS, "GRAPHUFS_SITES": slurm.env["GRAPHUFS_SITES"]}
        connections = {"hpc": ssh.connection()}
        stack = parts.enter_context(
            running(request, dags=str(dags), connections=connections, environment=environment, **settings)
        )
        found = AirflowBench(folder, slurm, ssh, stack)
        eventually(lambda: {"held", "other"} <= {dag["dag_id"] for dag in found.api.request("GET", "/dags")["dags"]})
        yield found


def let_go(hooks: Path) -> None:
    """Let go of commands of the site that a test held up and left so."""
    for flag in hooks.glob("*.flag"):
        flag.unlink()


def write_command(path: Path, slurm: Bench) -> None:
    """The job command of the site, as a forced command: it notes what was called, and may be held up."""
    hooks = path.parent / "hooks"
    lines = ["#!/bin/bash", 'read -r _ name _ <<< "$SSH_ORIGINAL_COMMAND"; set -- serve-ssh bench']
    lines += [f'echo "$EPOCHREALTIME $name" >> {path.parent}/calls']
    lines += [f"export {name}={slurm.env[name]!r}" for name in slurm.env if name in SITE]
    lines += [f"REAL={JOB_COMMAND}", f'if [ -e {hooks}/"$name" ]; then . {hooks}/"$name"; fi', 'exec $REAL "$@"']
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o755)


def eventually(condition: Callable[[], object], seconds: float = 240) -> None:
    """Wait until something is so; where processes start that takes longer than elsewhere."""
    wait_for(condition, seconds)


@contextmanager
def without(stop: Callable[[], object], start: Callable[[], object]) -> Iterator[None]:
    """Something is stopped meanwhile."""
    stop()
    try:
        yield
    finally:
        start()
