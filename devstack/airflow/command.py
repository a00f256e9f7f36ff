#!/usr/bin/env python3
"""A real, private Airflow with its own PostgreSQL on one machine, as root or as an ordinary user.

PostgreSQL, the API server, the scheduler, the DAG processor and the triggerer run out of one folder, on free ports of
the loopback address only, each in a session of its own. Their process ids are recorded there together with their
start times. `make setup-airflow` makes the environment they run in, and `scripts/packages.sh postgresql`
installs PostgreSQL.

From the checkout, where command is short for python -m devstack.airflow.command:

    command up --base DIR [--dags DIR] [--port 8080] [--database sqlite]
    eval "$(command env --base DIR)"     then `airflow dags list` and the like; passwords stay in a file
    command stop|start|kill --base DIR NAME   NAME: scheduler, triggerer, ...; start knows triggerer-2 too
    command pids --base DIR
    command down --base DIR [--purge] [--keep-jobs]

Passwords are made once for each folder: those of the users admin, op and viewer lie in DIR/passwords.json. `down` keeps
the database, so that `up` goes on where it was. It ends all that the stack has started, jobs of its tasks too, unless
they are to be kept.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys

from devstack.airflow.settings import USERS, Settings
from devstack.airflow.stack import Stack, StackError


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["up", "down", "env", "stop", "start", "kill", "pids"])
    parser.add_argument("name", nargs="?", help="a part")
    parser.add_argument("--base", required=True, help="the stack's folder")
    parser.add_argument("--purge", action="store_true", help="down: remove the folder too")
    parser.add_argument("--keep-jobs", action="store_true", help="down: jobs on this machine go on")
    parser.add_argument("--dags", help="up: the folder of DAGs")
    parser.add_argument("--port", type=int, default=0, help="up: the user interface's port; by default a free one")
    parser.add_argument("--database", choices=["postgresql", "sqlite"], default="postgresql", help="up: where it keeps")
    given = parser.parse_args(argv)
    if given.action in ("stop", "start", "kill") and given.name is None:
        parser.error(f"{given.action} needs a name")
    settings = Settings(given.dags, given.port, database=given.database) if given.action == "up" else None
    stack = Stack(given.base, settings, say=lambda line: print(line, flush=True))
    # So that an `up` which is told to end takes down what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        if given.action == "up":
            stack.up()
            print(f"Airflow is at {stack.url}; the passwords of {', '.join(USERS)}: {stack.base / 'passwords.json'}")
        elif given.action == "down":
            stack.down(given.purge, jobs=not given.keep_jobs)
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
