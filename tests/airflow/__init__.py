"""Tests against a real Airflow, started by `scripts/airflow_stack.py`; `running` is one with settings of its own."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
SCRIPT = SCRIPTS / "airflow_stack.py"


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


airflow_stack, airflow_api = _load("airflow_stack"), _load("airflow_api")


def skip_without_airflow() -> None:
    """Skip the test where Airflow or PostgreSQL is not installed."""
    if lacks := airflow_stack.missing():
        pytest.skip(f"no Airflow can be started on this machine, which lacks {' and '.join(lacks)}")


@contextmanager
def running(request: pytest.FixtureRequest, **settings: object) -> Iterator[airflow_stack.Stack]:
    """An Airflow with these settings, for as long as the `with` lasts. After a failed test its folder stays.

    Skips the test where Airflow or PostgreSQL is not installed.
    """
    skip_without_airflow()
    # Not pytest's own folder, through which PostgreSQL's user cannot pass.
    base = Path(tempfile.mkdtemp(prefix="graphufs-airflow-"))
    failed = request.session.testsfailed
    # However this process ends, its end of the pipe is closed then, and the stack is taken down.
    guard = subprocess.Popen(
        ["sh", "-c", 'cat; exec "$@"', "sh", sys.executable, str(SCRIPT), "down", "--purge", "--base", str(base)],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    stack = airflow_stack.Stack(base, airflow_stack.Settings(**settings))
    error = None
    try:
        stack.up()
        yield stack
    except BaseException as raised:
        error = raised
        raise
    finally:
        good = error is None and request.session.testsfailed == failed
        try:
            stack.down(purge=good)
        finally:
            os.killpg(guard.pid, signal.SIGKILL)
            guard.wait()
            guard.stdin.close()
        if good:
            shutil.rmtree(base, ignore_errors=True)
        else:
            print(f"what this Airflow left is in {base}, its logs in {stack.log} and {stack.home / 'logs'}")
