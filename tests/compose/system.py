"""A compose project of its own name and port, and what tests do to it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from devstack.airflow.api import Api, ApiError
from devstack.processes import free_port

TOP = Path(__file__).parents[2]
PROJECT = "graphufs-test"
ONCE = {"setup", "migrate"}
"""Services that do their work and end."""
AIRFLOW = ("postgres", "api-server", "scheduler", "dag-processor", "triggerer")
CLUSTER = ("database", "accounting", "controller", "login", "node1", "node2")


def has_client() -> bool:
    """Whether docker and its compose plugin are installed."""
    return bool(shutil.which("docker")) and run("docker", "compose", "version").returncode == 0


def has_engine() -> bool:
    """Whether a Docker engine answers."""
    return has_client() and run("docker", "info").returncode == 0


def run(*command: str, seconds: float = 900, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the repository."""
    return subprocess.run(
        command,
        cwd=TOP,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=seconds,
        check=False,
    )


class System:
    """The project; `api` is an administrator's session with its Airflow."""

    def __init__(self) -> None:
        # Its own names, whatever an .env says.
        self.environment = {"PROJECT": PROJECT, "PORT": str(free_port()), "NODE_CPUS": "2", "NODE_MEMORY": "6000"}
        self.url = f"http://127.0.0.1:{self.environment['PORT']}"
        self.took: dict[str, float] = {}

    def compose(self, *arguments: str, seconds: float = 900) -> str:
        """Run docker compose; what it wrote to standard output."""
        since = time.monotonic()
        done = run("docker", "compose", *arguments, seconds=seconds, **self.environment)
        assert done.returncode == 0, f"docker compose {' '.join(arguments)}: {done.stderr[-3000:]}\n{self.complaints()}"
        self.took[arguments[0]] = time.monotonic() - since
        return done.stdout

    def complaints(self) -> str:
        """How the services are, and the last of what those have said that are not well."""
        done = run("docker", "compose", "ps", "-a", "--format", "{{.Service}} {{.Status}}", **self.environment)
        bad = [line.split()[0] for line in done.stdout.splitlines() if "(healthy)" not in line and "(0)" not in line]
        logs = run("docker", "compose", "logs", "--tail", "30", *bad, **self.environment).stdout if bad else ""
        return f"{done.stdout}\n{logs}"

    def up(self) -> Api:
        """Start all of it and wait until it is ready; a session."""
        self.compose("up", "-d", "--wait", "--no-build", seconds=800)
        passwords = json.loads(self.inside("api-server", "cat", "/secrets/airflow/passwords.json"))
        self.api = Api(self.url, "admin", passwords["admin"])
        return self.api

    def inside(self, service: str, *command: str) -> str:
        """Run a command in a service's container; what it wrote."""
        return self.compose("exec", "-T", service, *command, seconds=120)

    def inspect(self, service: str) -> dict[str, Any]:
        """What the engine knows of a service's container."""
        name = self.compose("ps", "-a", "-q", service).strip()
        (found,) = json.loads(run("docker", "inspect", name).stdout)
        return dict(found)

    def kill(self, service: str) -> None:
        """Kill a container's main process as a crash would, and wait until the engine has started it again, healthy."""
        before = self.inspect(service)
        os.kill(before["State"]["Pid"], signal.SIGKILL)

        def again() -> bool:
            now = self.inspect(service)
            return (
                now["RestartCount"] > before["RestartCount"]
                and now["State"]["Running"]
                and now["State"]["Health"]["Status"] == "healthy"
            )

        eventually(again, 300, f"{service} is healthy again")

    def runs(self, updates: int) -> list[str]:
        """The run folders of trainings of tiny whose first stage has so many updates."""
        script = f"grep -l 'updates: {updates}$' /scratch/graphufs/runs/tiny/*/experiment.yaml 2>/dev/null || true"
        found = self.inside("login", "bash", "-c", script).split()
        return [path.removesuffix("/experiment.yaml") for path in found]

    def progress(self, updates: int) -> int:
        """How many of these updates the newest line of that training's metrics tells."""
        try:
            (run,) = self.runs(updates)
            line = self.inside("login", "bash", "-c", f"tail -n 1 {run}/metrics.jsonl 2>/dev/null || true")
            return int(json.loads(line)["update"])
        except ValueError:  # none yet, or half a line
            return 0

    def asked(self, question: Callable[[], Any], seconds: float = 240) -> Any:
        """The API's answer, once it gives one again."""
        found: list[Any] = []

        def answered() -> bool:
            try:
                found.append(question())
            except (OSError, ApiError):
                return False
            return True

        eventually(answered, seconds, "the API answers")
        return found[-1]


def eventually(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited {seconds} s in vain until {what}"
        time.sleep(2)  # many a look is a process inside a container
