"""Tests against a real Airflow, started by `devstack/airflow/command.py`; `running` is one with settings of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devstack.airflow import api as airflow_api
from devstack.airflow import stack as airflow_stack
from devstack.airflow.settings import Settings, missing
from tests.support.private import TOP, guarded

MODULE = "devstack.airflow.command"
PYTHON = Path(os.environ.get("GRAPHUFS_AIRFLOW_PYTHON", TOP / ".venv-airflow" / "bin" / "python"))
"""Airflow's own."""
NO_AIRFLOW = "" if PYTHON.with_name("pytest").exists() else f"{PYTHON} has no pytest; `make setup-airflow-dev` adds it"
__all__ = ["MODULE", "NO_AIRFLOW", "PYTHON", "airflow_api", "airflow_stack", "running", "skip_without_airflow"]


def skip_without_airflow(database: str = "postgresql") -> None:
    """Skip the test where Airflow or its database is not installed."""
    if lacks := missing(database):
        pytest.skip(f"no Airflow can be started on this machine, which lacks {' and '.join(lacks)}")


@contextmanager
def running(
    request: pytest.FixtureRequest,
    *,
    prepare: Callable[[airflow_stack.Stack], object] = lambda stack: None,
    **settings: object,
) -> Iterator[airflow_stack.Stack]:
    """An Airflow with these settings, for as long as the `with` lasts. After a failed test its folder stays.

    `prepare` is given it before it starts. Skips the test where Airflow or its database is not installed.
    """
    its = Settings(**settings)
    skip_without_airflow(its.database)
    # Not pytest's own folder, through which PostgreSQL's user cannot pass.
    base = Path(tempfile.mkdtemp(prefix="graphufs-airflow-"))
    failed = request.session.testsfailed
    stack = airflow_stack.Stack(base, its)
    good = False
    with guarded(MODULE, base):
        try:
            prepare(stack)
            stack.up()
            yield stack
            good = request.session.testsfailed == failed
        finally:
            stack.down(purge=good)
            if good:
                shutil.rmtree(base, ignore_errors=True)
            else:
                print(f"what this Airflow left is in {base}, its logs in {stack.log} and {stack.home / 'logs'}")
