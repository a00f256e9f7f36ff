"""Airflow's database over years of runs: PostgreSQL with Airflow's tables, filled as a site does, cleaned meanwhile.

No Airflow runs. Rows come through its models (growth_rows.py), as many a day as those DAGs of this repository make that
run by the clock. `airflow db clean` removes what is older than housekeeping allows, each half year instead of each day:
it is asked for the age that it would have had then. After it VACUUM is called, which PostgreSQL does by itself within a
day. The files of tables do not get smaller by that, what is free in them is filled again: so the bound is on what the
database comes to, not on what it falls to.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from devstack.airflow.settings import Settings, airflow_program
from devstack.airflow.stack import Stack
from jobs.airflow.cleanup import clean_database

KEPT_DAYS = 90
"""As `housekeeping` has it by default."""
ROUND = 183
"""Days between two cleanings here."""
RUNS_A_DAY = {"reconcile": (96, 3), "catalogue": (24, 1), "nightly_evaluation": (1, 9), "housekeeping": (1, 2)}
"""By DAG, its runs a day and the tasks of a run."""
ROWS_RATIO = 1.02
"""So many times the rows of the days that are kept may be left."""
SIZE_RATIO = 1.3
"""So many times what the database came to in the first two rounds may it come to later."""
ROWS = Path(__file__).with_name("growth_rows.py")


class Database(Stack):
    """The database of an Airflow, and no Airflow."""

    def _up(self) -> None:
        self._up_database()


def airflow(days: int, every: int = ROUND) -> dict[str, Any]:
    """Fill the database with rows of so many days, cleaned after each `every`; the bounds missed are in `missed`."""
    with tempfile.TemporaryDirectory(prefix="growth-airflow-") as folder:
        database = Database(Path(folder) / "airflow", Settings())
        try:
            database.up()
            with _environment(database.variables):
                return _grow(database, days, every)
        finally:
            database.down(purge=True)


def _grow(database: Database, days: int, every: int) -> dict[str, Any]:
    end = datetime.now(UTC)
    empty = _rows(database, end, 0)
    rounds: list[dict[str, Any]] = []
    missed: list[str] = []
    said: dict[str, int] = {}
    gone: dict[str, int] = {}
    day = 0
    while day < days:
        more = min(every, days - day)
        day += more
        left = days - day  # the real clock is at the last day
        full = _rows(database, end - timedelta(days=left), more)
        if day == days:
            said = clean_database(list(RUNS_A_DAY), KEPT_DAYS + left, dry_run=True)
        began = time.perf_counter()
        gone = clean_database(list(RUNS_A_DAY), KEPT_DAYS + left, dry_run=False)
        seconds = round(time.perf_counter() - began, 1)
        cleaned = _rows(database, end, 0)
        rounds.append({"day": day, "before": full, "after": cleaned, "cleaning_wall_s": seconds})
        a_day = sum(runs * (1 + 4 * tasks) for runs, tasks in RUNS_A_DAY.values())
        if cleaned["rows"] - empty["rows"] > ROWS_RATIO * a_day * min(day, KEPT_DAYS):
            missed.append(f"day {day}: {cleaned['rows']} rows are left, {a_day} are made a day")
        print(rounds[-1], flush=True)
    peaks = [one["before"]["mib"] for one in rounds]
    if len(peaks) > 2 and max(peaks) > SIZE_RATIO * max(peaks[:2]):
        missed.append(f"the database takes up to {max(peaks)} MiB, {max(peaks[:2])} after the first rounds")
    return {
        "days": days,
        "kept_days": KEPT_DAYS,
        "cleaned_every_days": every,
        "empty": empty,
        "rounds": rounds,
        "dry_run_says": said,
        "removed": gone,
        "missed": missed,
    }


def _rows(database: Database, end: datetime, days: int) -> dict[str, Any]:
    """Add the rows of so many days up to `end`; what the tables that grow and the database then come to."""
    program = airflow_program()
    assert program is not None  # `up` has seen to it
    asked = json.dumps({"end": end.isoformat(), "days": days, "runs_a_day": RUNS_A_DAY})
    argv = [str(program.with_name("python")), str(ROWS)]
    done = subprocess.run(argv, input=asked, env=database.env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"rows could not be added: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def _environment(changed: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
