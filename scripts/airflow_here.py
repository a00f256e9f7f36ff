#!/usr/bin/env python3
"""The Airflow of a root folder: the repository's DAGs, and this machine as the site `local`. `make airflow` starts it.

It keeps its database, logs and passwords in ROOT/airflow, and its DAGs work below ROOT. Runs with the job side's
Python; Airflow itself has an environment of its own.

    airflow_here.py --root graphufs-root [--port 8080]
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))
from devstack.airflow import postgresql
from devstack.airflow.settings import TOP, Settings
from devstack.airflow.stack import COMPONENTS, Stack, StackError
from graphufs.cli.ending import finish
from graphufs.cli.terminal import handled
from graphufs.errors import Stopped, UserError
from graphufs.storage.lock import locked
from jobs.job.folder import JobFolder
from jobs.job.status import Status, read_statuses
from jobs.site import SHIPPED

POLL = 4
"""Seconds between two looks at this machine's jobs: each costs half a second of a processor that they may need."""
FIRST_WAIT = 30
"""Seconds for which a task waits for a new job: of the demo's, all but data and training are done by then."""
PARSE = {"AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60"}
"""Seconds between two readings of a DAG's file, which each take half a second of a processor that jobs may need."""
LOCK = ".airflow.lock"
NIGHTS = {
    name: os.environ.get(name, value)
    for name, value in {"GRAPHUFS_NIGHTLY_EXPERIMENT": "demo", "GRAPHUFS_NIGHTLY_SITE": "local"}.items()
}
"""What a night by the clock scores, where it is not set otherwise."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def running(
    root: Path, say: Callable[[str], object], port: int = 0, *, borrow: bool = False, first_wait: int = FIRST_WAIT
) -> Iterator[tuple[Stack, bool]]:
    """The Airflow of a root, up inside the `with` and down after it; jobs that run on this machine then go on.

    Its tasks wait `first_wait` seconds for a new job before they give their worker back.

    Whether it is this process' own comes with it: one that is up already, kept by another process, may be borrowed, and
    is left up.

    Raises
    ------
    StackError
        If it cannot be started, or another process keeps it and it cannot be borrowed.
    """
    base = root / "airflow"
    root.mkdir(parents=True, exist_ok=True)
    try:
        with locked(root, should_stop=lambda: True, waiting=lambda: None, name=LOCK):
            with _own(base, root, say, port, first_wait) as stack:
                yield stack, True
            return
    except Stopped:
        pass
    stack = Stack(base)
    if not borrow or not all(map(stack.alive, COMPONENTS)):
        what = f"is up at {stack.url}" if all(map(stack.alive, COMPONENTS)) else "is being started or stopped"
        raise StackError(f"the Airflow of {root} {what}, by another `make airflow` or `make demo`")
    say(f"using the Airflow that is up at {stack.url}")
    yield stack, False


@contextmanager
def _own(base: Path, root: Path, say: Callable[[str], object], port: int, first_wait: int) -> Iterator[Stack]:
    known = Stack(base)
    known.down(jobs=False)  # what one left that was killed
    database = known.settings.database  # what the folder has, or else PostgreSQL, where that is installed
    if not known.known and not postgresql.programs():
        say("There is no PostgreSQL server on this machine: Airflow keeps its database in SQLite, and is slower")
        database = "sqlite"
    sites = [str(base / "sites"), *filter(None, [os.environ.get("GRAPHUFS_SITES")])]
    settings = Settings(
        dags=str(TOP / "dags"),
        port=port,
        environment={"GRAPHUFS_ROOT": str(root), "GRAPHUFS_SITES": os.pathsep.join(sites), **NIGHTS, **PARSE},
        files={"sites/local.yaml": _site(root, first_wait)},
        database=database,
    )
    stack = Stack(base, settings, say)
    try:
        stack.up()
        yield stack
    finally:
        with handled(SIGNALS, signal.SIG_IGN):  # nothing may interrupt this
            stack.down(jobs=False)


def _site(root: Path, first_wait: int) -> str:
    """The site `local`, as this Airflow has it: jobs run in the environment of this Python, below the root."""
    site = yaml.safe_load((SHIPPED / "local.yaml").read_text("utf-8"))
    command = shlex.quote(str(Path(sys.executable).with_name("graphufs-jobs")))
    site |= {"root": str(root), "control": {"command": command, "poll_interval": POLL, "first_wait": first_wait}}
    return yaml.safe_dump(site, sort_keys=False)


@contextmanager
def interruptible() -> Iterator[None]:
    """Have Ctrl-C, SIGTERM and the closing of the terminal interrupt what is inside the `with`."""

    def interrupt(number: int, frame: object) -> None:
        if number == signal.SIGHUP:  # what is said from now on finds no terminal
            nowhere = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(nowhere, descriptor)
        raise KeyboardInterrupt

    with handled(SIGNALS, interrupt):
        yield


def living(root: Path) -> list[Status]:
    """The jobs of a root that are not over."""
    states = ("SUBMITTING", "PENDING", "RUNNING")
    return [status for status in read_statuses(JobFolder.all(root)) if status.state in states]


def ready(stack: Stack, root: Path) -> str:
    """What a person must know of an Airflow that is up."""
    port = stack.ports["api-server"]
    return f"""\
Airflow is up at {stack.url}, for this machine alone.
  user      admin
  password  in {stack.base / "passwords.json"}, which only you can read
  results   below {root}; the site `local` is this machine
  logs      {stack.log}, and of tasks {stack.home / "logs"}
From another machine: ssh -N -L {port}:127.0.0.1:{port} THIS_MACHINE, and the same address there.
Ctrl-C stops it. Its database stays, and jobs go on."""


def main(arguments: Sequence[str]) -> int:
    """Start it, and leave it up until it is asked to end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("graphufs-root"))
    parser.add_argument("--port", type=int, default=0, help="of the user interface; by default a free one")
    options = parser.parse_args(arguments)
    root, console = options.root.absolute(), Console(stderr=True)

    def say(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True, markup=False)

    try:
        with interruptible(), running(root, say, options.port) as (stack, _):
            say(ready(stack, root))
            while not (dead := [name for name in stack.processes if not stack.alive(name)]):
                time.sleep(0.5)
            raise StackError(f"{dead[0]} has ended; read {stack.logs(dead[0])}")
    except (StackError, UserError, OSError) as error:
        say(f"airflow: {error}")
        return 1
    except KeyboardInterrupt:
        say("Airflow is stopped")
    if jobs := living(root):
        say(f"{len(jobs)} jobs go on; see `graphufs-jobs status --root {shlex.quote(str(root))}`:")
        for status in jobs:
            say(f"  {status.job.key}  {status.state}")
    return 0


if __name__ == "__main__":
    finish(main)
