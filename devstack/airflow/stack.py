"""A private Airflow: its parts and its database, started and ended out of one folder."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from devstack.airflow import postgresql
from devstack.airflow.api import Api, ApiError
from devstack.airflow.postgresql import Postgresql
from devstack.airflow.settings import TOP, USERS, Settings, airflow_program, configuration, make_secrets, missing
from devstack.processes import Keeper, environment, free_port, send, with_descendants, write_private
from jobs.scheduler.processes import process_table

COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
# serve-logs would listen on all addresses; the API server reads the logs from their folder.
OPTIONS = {"scheduler": ["--skip-serve-logs"], "triggerer": ["--skip-serve-logs"]}
# What a shell has set for another Airflow, Python or PostgreSQL must not reach this one.
FOREIGN = ("AIRFLOW", "_AIRFLOW", "PYTHON", "PG", "VIRTUAL_ENV", "GRAPHUFS_AIRFLOW_STACK")
MARK = "GRAPHUFS_AIRFLOW_STACK"  # in the environment of all that is started here, jobs too
OWN = "AIRFLOW_STACK"  # the same without the jobs: a site's job command is given none of Airflow's variables


class StackError(RuntimeError):
    """The stack could not do what was asked; says which log to read."""


class Stack(Keeper):
    """An Airflow in the folder `base`; one that was started there before is found again.

    As a context manager it is up inside the `with` and down after it. `say` is told how it gets on.
    """

    error = StackError

    def __init__(
        self, base: str | Path, settings: Settings | None = None, say: Callable[[str], object] = lambda line: None
    ) -> None:
        super().__init__(base, "stack.json")
        self.settings = settings or Settings(**self.known.get("settings", {}))
        self.say = say
        self.home = self.base / "airflow"
        self.secrets: dict[str, str] = self.known.get("secrets", {})
        self.ports: dict[str, int] = self.known.get("ports", {})
        # Tells the jobs of this Airflow from another's on a site that both use.
        self.instance: str = self.known.get("instance") or secrets.token_hex(4)
        self.postgresql = Postgresql(self, Path(self.known.get("database", self.base / "postgresql")))

    def record(self) -> dict[str, Any]:
        """What else is to be found again."""
        known = {"settings": asdict(self.settings), "secrets": self.secrets, "ports": self.ports}
        return known | {"instance": self.instance, "database": str(self.postgresql.folder)}

    @property
    def url(self) -> str:
        """Where the user interface and the API are."""
        return f"http://127.0.0.1:{self.ports['api-server']}"

    @property
    def passwords(self) -> dict[str, str]:
        """The users' passwords."""
        return {user: self.secrets[user] for user in USERS}

    @property
    def api(self) -> Api:
        """The administrator's session with the public API."""
        return Api(self.url, "admin", self.secrets["admin"])

    @property
    def variables(self) -> dict[str, str]:
        """The variables by which the `airflow` command works on this stack. Its own secrets lie in a file there."""
        own = {"AIRFLOW_HOME": str(self.home), "AIRFLOW__GRAPHUFS__INSTANCE": self.instance}
        own |= {f"AIRFLOW_CONN_{name.upper()}": value for name, value in self.settings.connections.items()}
        # Workers ask the API server, and a proxy knows nothing of this machine's loopback address.
        passed = (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").split(",")
        own["NO_PROXY"] = own["no_proxy"] = ",".join(dict.fromkeys([*filter(None, passed), "127.0.0.1", "localhost"]))
        program = airflow_program()
        if program:
            own["PATH"] = os.pathsep.join([str(program.parent), os.environ.get("PATH", os.defpath)])
        return own | self.settings.environment

    @property
    def env(self) -> dict[str, str]:
        """This process' environment, changed such that the `airflow` command works on this stack."""
        return {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)} | self.variables

    # Processes

    def polite(self, name: str) -> list[int]:
        """The signals that ask a part to end well."""
        return self.postgresql.polite if name == postgresql.NAME else super().polite(name)

    def start(self, name: str) -> None:
        """Start a part, again or, as triggerer-2 or scheduler-2, one more of its kind; wait until it reports itself.

        With the API server away, or another of the kind there, this cannot be seen, and it returns at once.

        Raises
        ------
        StackError
            If the part is running already, is not known or does not start.
        """
        if self.alive(name):
            raise StackError(f"{name} runs already, as process {self.processes[name].pid}")
        kind = re.sub(r"-\d+$", "", name)
        if name == postgresql.NAME and self.settings.database == "postgresql":
            self._start(name)
        elif kind in COMPONENTS and (name == kind or kind != "api-server"):
            since = time.time()
            self._start(name)
            if self.alive("api-server"):
                self.wait(name, lambda: kind in self.healthy(since), self.settings.seconds, pause=0.2)
        else:
            raise StackError(f"there is no {name}; there are: postgresql, {', '.join(COMPONENTS)}, triggerer-2, ...")

    def healthy(self, since: float = 0) -> set[str]:
        """The parts that the API server calls healthy, and has heard of after that time."""
        try:
            # Past any proxy.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(f"{self.url}/api/v2/monitor/health", timeout=10) as answer:
                health: dict[str, dict[str, Any]] = json.load(answer)
        except (OSError, ValueError):
            return set()
        found = {"api-server"} if health["metadatabase"]["status"] == "healthy" else set()
        for name in COMPONENTS[1:]:
            key = name.replace("-", "_")
            told = health.get(key) or {}
            last = told.get(f"latest_{key}_heartbeat")
            if told.get("status") == "healthy" and last and datetime.fromisoformat(last).timestamp() >= since:
                found.add(name)
        return found

    def _start(self, name: str, *argv: str) -> None:
        env = self.env | {MARK: str(self.base), OWN: str(self.base)}
        if name == postgresql.NAME:
            self.postgresql.start(self.secrets["database"], self.ports[name], env, self.settings.seconds)
            return
        kind = re.sub(r"-\d+$", "", name)
        line = [str(airflow_program()), *(argv or (kind, *OPTIONS.get(kind, [])))]
        self.spawn(name, line, self.log / f"{name}.log", env=env, cwd=self.home, umask=0o077)

    def remains(self, jobs: bool = True) -> set[int]:
        """All live processes of this stack.

        Those that carry its mark, those in the session of one that was started, and their descendants; and
        PostgreSQL's in its folder. Without `jobs`, those that tasks have started through a site's job command are left
        out.
        """
        table = process_table()
        ours = {process.pid: process.start for process in self.processes.values()}
        mark = os.fsencode(self.base)
        found, theirs = set(), set()
        for pid, row in table.items():
            if row.session in ours:
                leader = table.get(row.session)
                if leader.start == ours[row.session] if leader else row.start >= ours[row.session]:
                    found.add(pid)
                    continue
            its = environment(pid)
            if self.postgresql.owns(pid) or its.get(os.fsencode(MARK)) == mark:
                found.add(pid)
                if os.fsencode(MARK) in its and os.fsencode(OWN) not in its:
                    theirs.add(pid)
        if not jobs:
            theirs = with_descendants(theirs, table)
            return with_descendants(found - theirs, table) - theirs
        return with_descendants(found, table)

    # Up and down

    def up(self) -> None:
        """Start everything and wait until Airflow calls all its parts healthy.

        Where that fails, what was started is stopped again, and the logs stay.

        Raises
        ------
        StackError
            If a program is missing, the folder is in use, or a part does not start.
        """
        if absent := missing(self.settings.database):
            raise StackError(f"not found on this machine: {' and '.join(absent)}")
        if any(map(self.alive, self.processes)):
            raise StackError(f"an Airflow is up already in {self.base}")
        if self.base.exists() and not self._record.exists() and any(self.base.iterdir()):
            raise StackError(f"{self.base} is not empty and no earlier stack's: name another folder")
        self.down(jobs=False)  # what an earlier one may have left
        self.processes = {}
        self.base.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.base.chmod(0o700)
        for folder in (self.home, self.log, self.base / "dags"):
            folder.mkdir(mode=0o700, exist_ok=True)
        self.save()
        try:
            self._up()
        except BaseException:
            self.down(jobs=False)
            raise

    def _up_database(self) -> None:
        """Write the configuration, start the database and prepare its tables."""
        began = time.monotonic()
        self.secrets = make_secrets(self.secrets)
        write_private(self.base / "passwords.json", json.dumps(self.passwords))
        for name, wanted in {"api-server": self.settings.port, postgresql.NAME: 0}.items():
            self.ports[name] = free_port(wanted or self.ports.get(name, 0))
            if wanted and self.ports[name] != wanted:
                raise StackError(f"port {wanted} is taken")
        own = configuration(self.settings, self.base, self.url, self.ports, self.secrets)
        for name, content in {**self.settings.files, "airflow/airflow.cfg": own}.items():
            (self.base / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(self.base / name, content)
        self.save()

        if self.settings.database == "postgresql":
            self._start(postgresql.NAME)
            self.say(f"PostgreSQL runs; preparing its tables ({time.monotonic() - began:.0f} s)")
        self._start("db-migrate", "db", "migrate")
        self.finish("db-migrate", self.settings.seconds)

    def _up(self) -> None:
        began = time.monotonic()
        self._up_database()
        self.say(f"the tables are there; starting Airflow ({time.monotonic() - began:.0f} s)")
        since, healthy = time.time(), set[str]()

        def ready(name: str) -> bool:
            if name not in healthy:
                healthy.update(self.healthy(since))
            return name in healthy

        for name in COMPONENTS:
            self._start(name)
        pools = self._pools()
        for name in COMPONENTS:
            self.wait(name, partial(ready, name), self.settings.seconds, pause=0.2)
            if name == "api-server":
                self._make_pools(pools)
            self.say(f"{name} is healthy ({time.monotonic() - began:.0f} s)")

    def _pools(self) -> dict[str, int]:
        """The slots of the pools that there are to be, by name."""
        if self.settings.pools is not None:
            return self.settings.pools
        program = airflow_program()
        assert program is not None  # `missing` has seen to it
        argv = [str(program.with_name("python")), "-m", "jobs.airflow.pools"]
        done = subprocess.run(argv, env=self.env, cwd=TOP, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StackError(f"the sites' pools cannot be listed: {done.stderr.strip()[-2000:]}")
        return {name: pool["slots"] for name, pool in json.loads(done.stdout).items()}

    def _make_pools(self, pools: dict[str, int]) -> None:
        """Make the pools. A task whose pool is missing would wait for ever; one that is there keeps its slots."""
        api = self.api
        for name, slots in pools.items():
            try:
                api.request("POST", "/pools", {"name": name, "slots": slots})
            except ApiError as error:
                if error.status != 409:
                    raise StackError(f"the pool {name} could not be made: {error}") from None

    def down(self, purge: bool = False, jobs: bool = True) -> None:
        """End everything that belongs to the stack, by default its tasks' jobs on this machine too.

        The database and the logs stay, or with `purge` nothing does.
        """
        if not self._record.exists():
            if purge and self.base.is_dir() and not any(self.base.iterdir()):
                self.base.rmdir()
            return
        # Those that would be lost sight of when their parents are gone.
        table = process_table()
        before = {pid: table[pid].start for pid in self.remains(jobs) if pid in table}
        parts = [name for name in self.processes if name != postgresql.NAME]
        number = signal.SIGKILL if purge else signal.SIGTERM  # what is thrown away needs no farewell
        for name in parts:
            self.signal(name, signal.SIGCONT)  # a suspended one would not hear the next
            self.signal(name, number)
        until = time.monotonic() + 20
        for name in parts:
            if not self.gone(name, until - time.monotonic()):
                self.stop(name, signal.SIGKILL)
        for pid, row in process_table().items():
            if before.get(pid) == row.start and not self.postgresql.owns(pid):
                send(pid, signal.SIGKILL)
        if postgresql.NAME in self.processes:
            self.stop(postgresql.NAME, signal.SIGQUIT if purge else 0, seconds=15)
        self.kill_all(partial(self.remains, jobs))
        self.processes = {}
        self.save()
        if purge:
            shutil.rmtree(self.postgresql.folder, ignore_errors=True)
            shutil.rmtree(self.base)
