#!/usr/bin/env python3
"""A real, private Airflow with its own PostgreSQL on one machine, as root or as an ordinary user.

PostgreSQL, the API server, the scheduler, the DAG processor and the triggerer run out of one folder, on free ports of
the loopback address only, each in a session of its own. Their process ids are recorded there together with their
start times. `make setup-airflow` makes the environment they run in, and `scripts/packages.sh postgresql`
installs PostgreSQL.

    airflow_stack.py up --base DIR [--dags DIR] [--port 8080]
    eval "$(airflow_stack.py env --base DIR)"     then `airflow dags list` and the like; passwords stay in a file
    airflow_stack.py stop|start|kill --base DIR NAME   NAME: scheduler, triggerer, ...; start knows triggerer-2 too
    airflow_stack.py pids --base DIR
    airflow_stack.py down --base DIR [--purge]

Passwords are made once for each folder: those of the users admin, op and viewer lie in DIR/passwords.json. `down` keeps
the database, so that `up` goes on where it was. It ends all that the stack has started, jobs of its tasks too.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import pwd
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[1]
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
# serve-logs would listen on all addresses; the API server reads the logs from their folder.
OPTIONS = {"scheduler": ["--skip-serve-logs"], "triggerer": ["--skip-serve-logs"]}
USERS = {"admin": "admin", "op": "op", "viewer": "viewer"}  # and their roles
# What a shell has set for another Airflow, Python or PostgreSQL must not reach this one.
FOREIGN = ("AIRFLOW", "_AIRFLOW", "PYTHON", "PG", "VIRTUAL_ENV", "GRAPHUFS_AIRFLOW_STACK")
MARK = "GRAPHUFS_AIRFLOW_STACK"  # in the environment of all that is started here


class StackError(RuntimeError):
    """The stack could not do what was asked; says which log to read."""


@dataclass(frozen=True)
class Settings:
    """What an Airflow is like."""

    dags: str | None = None  # the folder of DAGs; by default `dags` in the base
    port: int = 0  # of the user interface; 0: a free one
    parallelism: int = 4  # tasks that run at once
    connections: dict[str, str] = field(default_factory=dict)  # by name, as JSON or URI: AIRFLOW_CONN_<NAME>
    environment: dict[str, str] = field(default_factory=dict)  # more variables, AIRFLOW__<SECTION>__<KEY> among them
    seconds: float = 180  # how long each part has to get ready


@dataclass
class Process:
    """A process as it was started. The start time tells it from a later one with the same id."""

    pid: int
    start: int


@dataclass(frozen=True)
class Row:
    """A live process in the table of them."""

    start: int
    parent: int
    session: int


def airflow_program() -> Path | None:
    """The `airflow` command: of this checkout's .venv-airflow, or of the environment this runs in."""
    for folder in (TOP / ".venv-airflow" / "bin", Path(sys.executable).parent):
        if (folder / "airflow").exists():
            return folder / "airflow"
    return None


def postgresql_folder() -> Path | None:
    """Where PostgreSQL's server programs are: in PATH, or else the newest where packages put them."""
    packaged = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/").glob("usr/pgsql-*/bin")]
    packaged.sort(key=lambda path: [int(digits) for digits in re.findall(r"\d+", str(path))], reverse=True)
    found = shutil.which("initdb")
    for folder in ([Path(found).resolve().parent] if found else []) + packaged:
        if all((folder / name).exists() for name in ("initdb", "postgres", "pg_isready")):
            return folder
    return None


def missing() -> list[str]:
    """What a stack needs and this machine lacks, each with the way to get it."""
    lacks = [] if Path("/proc/self/stat").exists() else ["Linux, for its /proc"]
    lacks += [] if airflow_program() else ["Airflow: run `make setup-airflow`"]
    return lacks + ([] if postgresql_folder() else ["a PostgreSQL server: run scripts/packages.sh postgresql as root"])


def process_row(pid: int) -> Row | None:
    """A process' line in the table; None where it is gone or only waits to be reaped."""
    try:
        rest = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if rest[0] in "ZX" else Row(int(rest[19]), int(rest[1]), int(rest[3]))


def process_table() -> dict[int, Row]:
    """All live processes by their ids."""
    rows = {int(folder.name): process_row(int(folder.name)) for folder in Path("/proc").glob("[0-9]*")}
    return {pid: row for pid, row in rows.items() if row}


def free_port(wanted: int = 0) -> int:
    """A port of the loopback address that nobody has now; the wanted one, if it is free."""
    for port in [wanted] * bool(wanted) + [10000 + secrets.randbelow(22000) for _ in range(1000)]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise StackError("there is no free port")


class Stack:
    """An Airflow in the folder `base`; one that was started there before is found again.

    As a context manager it is up inside the `with` and down after it. `say` is told how it gets on.
    """

    def __init__(
        self, base: str | Path, settings: Settings | None = None, say: Callable[[str], object] = lambda line: None
    ) -> None:
        self.base = Path(base).absolute()
        self.settings = settings or Settings()
        self.say = say
        self.home, self.log = self.base / "airflow", self.base / "log"
        self.processes: dict[str, Process] = {}
        self.secrets: dict[str, str] = {}
        self.ports: dict[str, int] = {}
        self.database = self.base / "postgresql"
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._record = self.base / "stack.json"
        if self._record.exists():
            known = json.loads(self._record.read_text())
            self.processes = {name: Process(**process) for name, process in known["processes"].items()}
            self.secrets, self.ports, self.database = known["secrets"], known["ports"], Path(known["database"])
            if settings is None:
                self.settings = Settings(**known["settings"])

    def __enter__(self) -> Stack:
        self.up()
        return self

    def __exit__(self, *error: object) -> None:
        self.down()

    @property
    def url(self) -> str:
        """Where the user interface and the API are."""
        return f"http://127.0.0.1:{self.ports['api-server']}"

    @property
    def passwords(self) -> dict[str, str]:
        """The users' passwords."""
        return {user: self.secrets[user] for user in USERS}

    @property
    def variables(self) -> dict[str, str]:
        """The variables by which the `airflow` command works on this stack. Its own secrets lie in a file there."""
        own = {"AIRFLOW_HOME": str(self.home)}
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

    def alive(self, name: str) -> bool:
        """Whether a part runs, as the very process that was started."""
        process = self.processes.get(name)
        if process is None:
            return False
        if process.pid in self._children:
            self._children[process.pid].poll()  # reaps it
        row = process_row(process.pid)
        return row is not None and row.start == process.start

    def stop(self, name: str, number: int = 0, seconds: float = 30) -> None:
        """Send a part a signal and wait until it is gone; it is killed where it stays longer than `seconds`.

        By default it is asked to end well. One that is only to be suspended wants `signal` instead.
        """
        if name not in self.processes:
            raise StackError(f"there is no {name} in {self.base}; there are: {', '.join(self.processes) or 'none'}")
        # SIGTERM would have PostgreSQL wait for its clients, and SIGKILL leaves its shared memory behind.
        polite = [signal.SIGINT, signal.SIGQUIT] if name == "postgresql" else [signal.SIGTERM]
        for send in [*([number] if number else polite), signal.SIGKILL]:
            self.signal(name, send)
            if self._gone(name, seconds):
                return
        raise StackError(f"{name} (process {self.processes[name].pid}) outlives SIGKILL")

    def _gone(self, name: str, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while self.alive(name) and time.monotonic() < until:
            time.sleep(0.05)
        return not self.alive(name)

    def signal(self, name: str, number: int) -> None:
        """Send a part a signal, if it lives; SIGKILL, SIGSTOP and SIGCONT, which it cannot pass on, to its session."""
        if self.alive(name):
            pid = self.processes[name].pid
            whole = number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT)
            for each in [each for each, row in process_table().items() if row.session == pid] if whole else [pid]:
                _send(each, number)

    def start(self, name: str) -> None:
        """Start a part, again or, as triggerer-2 or scheduler-2, one more of its kind; wait until it reports itself.

        With the API server away, or another of the kind there, nobody can tell, and it returns at once.
        """
        if self.alive(name):
            raise StackError(f"{name} runs already, as process {self.processes[name].pid}")
        kind = re.sub(r"-\d+$", "", name)
        if name == "postgresql":
            self._start_postgresql()
        elif kind in COMPONENTS and (name == kind or kind != "api-server"):
            since = time.time()
            self._start(name)
            if self.alive("api-server"):
                self._wait(name, lambda: kind in self.healthy(since))
        else:
            raise StackError(f"there is no {name}; there are: postgresql, {', '.join(COMPONENTS)}, triggerer-2, ...")

    def healthy(self, since: float = 0) -> set[str]:
        """The parts that the API server calls healthy, and has heard of after that time."""
        try:
            with _open(f"{self.url}/api/v2/monitor/health") as answer:
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

    def _start(self, name: str) -> None:
        kind = re.sub(r"-\d+$", "", name)
        self._spawn(name, [str(airflow_program()), kind, *OPTIONS.get(kind, [])])

    def _spawn(self, name: str, argv: list[str], user: str | None = None) -> subprocess.Popen[bytes]:
        """Start a process and record it."""
        its: dict[str, Any] = {"cwd": self.home}
        if user:
            who = pwd.getpwnam(user)
            its = {"cwd": self.database, "user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}
        env = self.env | {MARK: str(self.base)} | ({"LC_ALL": "C", "HOME": str(self.database)} if user else {})
        with open(self._of(name), "ab", opener=_private) as out:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=env,
                start_new_session=True,
                umask=0o077,
                **its,
            )
        self._children[child.pid] = child
        self.processes[name] = Process(child.pid, row.start if (row := process_row(child.pid)) else -1)
        self._save()
        return child

    def _once(self, name: str, argv: list[str], user: str | None = None) -> None:
        """Run a program that ends by itself."""
        try:
            code = self._spawn(name, argv, user).wait(timeout=self.settings.seconds)
        except subprocess.TimeoutExpired:
            raise StackError(f"{name} took longer than {self.settings.seconds:.0f} s; read {self._of(name)}") from None
        if code:
            raise StackError(f"{name} failed; read {self._of(name)}")
        del self.processes[name]
        self._save()

    def _of(self, name: str) -> Path:
        return self.log / f"{name}.log"

    def _wait(self, name: str, ready: Callable[[], bool]) -> None:
        """Wait until a part is ready, and no longer than it lives."""
        until = time.monotonic() + self.settings.seconds
        while not ready():
            if not self.alive(name):
                raise StackError(f"{name} ended instead of getting ready; read {self._of(name)}")
            if time.monotonic() > until:
                raise StackError(f"{name} was not ready after {self.settings.seconds:.0f} s; read {self._of(name)}")
            time.sleep(0.2)

    def _save(self) -> None:
        known = {"settings": asdict(self.settings), "secrets": self.secrets, "ports": self.ports} | {
            "database": str(self.database),
            "processes": {name: asdict(process) for name, process in self.processes.items()},
        }
        unfinished = self._record.with_suffix(".partial")
        _write(unfinished, json.dumps(known, indent=1))
        unfinished.replace(self._record)

    def remains(self) -> set[int]:
        """All live processes of this stack.

        Those that carry its mark, those in the session of one that was started, and their descendants; and
        PostgreSQL's in its folder, for these have sessions of their own and no environment to be read.
        """
        table = process_table()
        ours = {process.pid: process.start for process in self.processes.values()}
        mark = f"{MARK}={self.base}".encode()
        found = set()
        for pid, row in table.items():
            if row.session in ours:
                leader = table.get(row.session)
                if leader.start == ours[row.session] if leader else row.start >= ours[row.session]:
                    found.add(pid)
                    continue
            try:
                marked = mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except OSError:  # gone, or another user's
                continue
            if marked or self._is_postgres(pid):
                found.add(pid)
        while new := {pid for pid, row in table.items() if row.parent in found} - found:
            found |= new
        return found - {os.getpid()}

    def _is_postgres(self, pid: int) -> bool:
        try:
            folder, program = (Path(os.readlink(f"/proc/{pid}/{link}")) for link in ("cwd", "exe"))
        except OSError:
            return False
        return self.database in (folder, folder.parent) and program.name == "postgres"

    # Up and down

    def up(self) -> None:
        """Start everything and wait until Airflow calls all its parts healthy.

        Where that fails, what was started is stopped again, and the logs stay.
        """
        if lacks := missing():
            raise StackError(f"this machine lacks {' and '.join(lacks)}")
        if any(map(self.alive, self.processes)):
            raise StackError(f"an Airflow is up already in {self.base}")
        if self.base.exists() and not self._record.exists() and any(self.base.iterdir()):
            raise StackError(f"{self.base} is not empty and no earlier stack's: name another folder")
        self.down()  # what an earlier one may have left
        self.processes = {}
        self.base.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.base.chmod(0o700)
        for folder in (self.home, self.log, self.base / "dags"):
            folder.mkdir(mode=0o700, exist_ok=True)
        self._save()
        try:
            self._up()
        except BaseException:
            self.down()
            raise

    def _up(self) -> None:
        began = time.monotonic()
        for name in ("database", "api", "jwt"):
            self.secrets.setdefault(name, secrets.token_hex(64 if name == "jwt" else 32))
        self.secrets.setdefault("fernet", base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
        for name in USERS:
            self.secrets.setdefault(name, secrets.token_urlsafe(15))
        _write(self.base / "passwords.json", json.dumps(self.passwords))
        for name, wanted in {"api-server": self.settings.port, "postgresql": 0}.items():
            self.ports[name] = free_port(wanted or self.ports.get(name, 0))
            if wanted and self.ports[name] != wanted:
                raise StackError(f"port {wanted} is taken")
        _write(self.home / "airflow.cfg", self._configuration())
        self._save()

        self._start_postgresql()
        self.say(f"PostgreSQL runs; preparing its tables ({time.monotonic() - began:.0f} s)")
        self._once("db-migrate", [str(airflow_program()), "db", "migrate"])
        self.say(f"the tables are there; starting Airflow ({time.monotonic() - began:.0f} s)")
        since, healthy = time.time(), set[str]()

        def ready(name: str) -> bool:
            if name not in healthy:
                healthy.update(self.healthy(since))
            return name in healthy

        for name in COMPONENTS:
            self._start(name)
        for name in COMPONENTS:
            self._wait(name, partial(ready, name))
            self.say(f"{name} is healthy ({time.monotonic() - began:.0f} s)")

    def _start_postgresql(self) -> None:
        """Start PostgreSQL, in a folder that is made when there is none, and wait until it answers."""
        programs = postgresql_folder()
        user = self._database_user()
        data = self.database / "data"
        if not (data / "PG_VERSION").exists():
            shutil.rmtree(data, ignore_errors=True)
            password = self.database / "password"
            _write(password, self.secrets["database"], pwd.getpwnam(user)[2:4] if user else (-1, -1))
            options = ["--username=airflow", f"--pwfile={password}", "--auth=scram-sha-256", "--encoding=UTF8"]
            options += ["--locale=C", "--no-sync", "--no-instructions", f"--pgdata={data}.partial"]
            shutil.rmtree(f"{data}.partial", ignore_errors=True)
            self._once("initdb", [f"{programs}/initdb", *options], user)
            password.unlink()
            Path(f"{data}.partial").rename(data)
        if not any(map(self._is_postgres, process_table())):
            # What a killed one left, and what would stop this one where its process id is another's by now.
            (data / "postmaster.pid").unlink(missing_ok=True)
        port = str(self.ports["postgresql"])
        # TCP on the loopback address alone, no Unix socket: any user may reach either, and none without the password.
        values = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off"}
        values |= {"synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "64MB", "timezone": "UTC"}
        options = [word for name, value in values.items() for word in ("-c", f"{name}={value}")]
        self._spawn("postgresql", [f"{programs}/postgres", "-D", str(data), *options], user)
        ready = [f"{programs}/pg_isready", "-q", "-h", "127.0.0.1", "-p", port]
        self._wait("postgresql", lambda: subprocess.run(ready, env=self.env, check=False).returncode == 0)

    def _database_user(self) -> str | None:
        """Make the database's folder. PostgreSQL refuses root: then the name of the user it runs as, who owns it.

        That user must get through to it. Where the base lies in a folder that only root may enter, such as /root, the
        database lies in /var/tmp.
        """
        if os.geteuid() != 0:
            self.database.mkdir(mode=0o700, exist_ok=True)
            return None
        user = "postgres" if "postgres" in [entry.pw_name for entry in pwd.getpwall()] else "nobody"
        who = pwd.getpwnam(user)
        os.chown(self.base, 0, who.pw_gid)
        self.base.chmod(0o710)  # its group may pass, and see nothing
        its: dict[str, Any] = {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}
        reached = subprocess.run(["test", "-x", str(self.base)], check=False, cwd="/", **its).returncode == 0
        if not reached:
            self.base.chmod(0o700)
            if self.database.parent == self.base:
                self.database = Path(tempfile.mkdtemp(prefix="graphufs-postgresql-", dir="/var/tmp"))
                self._save()
        self.database.mkdir(mode=0o700, exist_ok=True)
        shutil.chown(self.database, user, who.pw_gid)
        return user

    def _configuration(self) -> str:
        dags = Path(self.settings.dags or self.base / "dags").absolute()
        database = f"airflow:{self.secrets['database']}@127.0.0.1:{self.ports['postgresql']}/postgres"
        lines = f"""\
[core]
dags_folder = {dags}
load_examples = False
executor = LocalExecutor
parallelism = {self.settings.parallelism}
fernet_key = {self.secrets["fernet"]}
simple_auth_manager_users = {",".join(f"{user}:{role}" for user, role in USERS.items())}
simple_auth_manager_passwords_file = {self.base}/passwords.json
execution_api_server_url = {self.url}/execution/
min_serialized_dag_update_interval = 2
# The default asks the network.
hostname_callable = socket.gethostname
[database]
sql_alchemy_conn = postgresql+psycopg2://{database}
[api]
host = 127.0.0.1
port = {self.ports["api-server"]}
base_url = {self.url}
workers = 1
secret_key = {self.secrets["api"]}
[api_auth]
jwt_secret = {self.secrets["jwt"]}
[logging]
namespace_levels = asyncssh=WARNING paramiko=WARNING
[dag_processor]
refresh_interval = 10
min_file_process_interval = 5
[scheduler]
scheduler_heartbeat_sec = 2
[triggerer]
job_heartbeat_sec = 2
"""
        return lines.replace("%", "%%")  # Airflow reads it with interpolation

    def down(self, purge: bool = False) -> None:
        """End everything that belongs to the stack. The database and the logs stay, or with `purge` nothing does."""
        if not self._record.exists():
            if purge and self.base.is_dir() and not any(self.base.iterdir()):
                self.base.rmdir()
            return
        # Those that would be lost sight of when their parents are gone.
        table = process_table()
        before = {pid: table[pid].start for pid in self.remains() if pid in table}
        parts = [name for name in self.processes if name != "postgresql"]
        number = signal.SIGKILL if purge else signal.SIGTERM  # what is thrown away needs no farewell
        for name in parts:
            self.signal(name, signal.SIGCONT)  # a suspended one would not hear the next
            self.signal(name, number)
        until = time.monotonic() + 20
        for name in parts:
            if not self._gone(name, until - time.monotonic()):
                self.stop(name, signal.SIGKILL)
        for pid, row in process_table().items():
            if before.get(pid) == row.start and not self._is_postgres(pid):
                _send(pid, signal.SIGKILL)
        if "postgresql" in self.processes:
            self.stop("postgresql", signal.SIGQUIT if purge else 0, seconds=15)
        until = time.monotonic() + 20
        while rest := self.remains():  # again, for those that were being born
            if time.monotonic() > until:
                raise StackError(f"processes of {self.base} outlive SIGKILL: {sorted(rest)}")
            for pid in rest:
                _send(pid, signal.SIGKILL)
            time.sleep(0.05)
        self.processes = {}
        self._save()
        if purge:
            shutil.rmtree(self.database, ignore_errors=True)
            shutil.rmtree(self.base)


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _open(url: str) -> Any:
    """Open an address on this machine, past any proxy."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write(path: Path, content: str, owner: tuple[int, int] = (-1, -1)) -> None:
    """Write a file anew that only its owner may read; what another user may have put in its place is not followed."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        os.fchown(out.fileno(), *owner)
        out.write(content)


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["up", "down", "env", "stop", "start", "kill", "pids"])
    parser.add_argument("name", nargs="?", help="a part")
    parser.add_argument("--base", required=True, help="the stack's folder")
    parser.add_argument("--purge", action="store_true", help="down: remove the folder too")
    parser.add_argument("--dags", help="up: the folder of DAGs")
    parser.add_argument("--port", type=int, default=0, help="up: the user interface's port; by default a free one")
    given = parser.parse_args(argv)
    if given.action in ("stop", "start", "kill") and given.name is None:
        parser.error(f"{given.action} needs a name")
    settings = Settings(dags=given.dags, port=given.port) if given.action == "up" else None
    stack = Stack(given.base, settings, say=lambda line: print(line, flush=True))
    # So that an `up` which is told to end takes down what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        if given.action == "up":
            stack.up()
            print(f"Airflow is at {stack.url}; the passwords of {', '.join(USERS)}: {stack.base / 'passwords.json'}")
        elif given.action == "down":
            stack.down(given.purge)
        elif given.action == "env":
            for name, value in stack.variables.items():
                print(f"export {name}={shlex.quote(value)}")
        elif given.action == "start":
            stack.start(given.name)
        elif given.name:
            stack.stop(given.name, 0 if given.action == "stop" else signal.SIGKILL)
        else:
            for name, process in stack.processes.items():
                print(name, process.pid, "alive" if stack.alive(name) else "gone")
    except StackError as error:
        sys.exit(f"airflow_stack: {error}")


if __name__ == "__main__":
    main()
