"""Airflow's own records: old rows of its database, removed by `airflow db clean`, and old log files.

Airflow takes the address of its database out of the environment of tasks, so the command runs as a process of its own
that finds the address where the scheduler did: in airflow.cfg, or by the `airflow` that comes first in the PATH, as the
compose file has one. Tasks must run on the scheduler's machine for that, as with the LocalExecutor.

`airflow db clean` goes by age alone: it would also remove a run that has waited for its job all that time, and the
trigger that it waits with. So DAGs with a live run are left out until they have none, and triggers are never named;
Airflow removes those that no task waits for by itself.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from graphufs.storage.atomic import remove_folder

BLOCKED = ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__CORE__SQL_ALCHEMY_CONN")
"""What Airflow overwrites in the environment of tasks (3.3, `block_orm_access`)."""
OF_DAGS = ("dag_run", "dag_version")
"""Tables cleaned for our DAGs alone; those of their tasks, XComs and task stores come with the first."""
OF_AIRFLOW = ("log", "job", "import_error", "asset_event", "callback", "revoked_token")
"""Tables cleaned whole."""
NO_DAG_ID = {"deadline"}
"""Comes with `dag_run`, but has no DAG's name, which Airflow 3.3 asks it for. No DAG here has deadlines."""
BATCH = 10_000
"""Rows that are removed in one transaction."""
LIMIT = 3600
"""Seconds for a command."""


class CleaningFailed(Exception):
    """Airflow's database could not be cleaned; says why, and what to do."""


def clean_database(dags: Sequence[str], days: float, *, dry_run: bool) -> dict[str, int]:
    """Remove rows older than `days` with `airflow db clean`, by table how many went or would go.

    Of DAGs only the `dags` are cleaned, which must have no live run.

    Raises
    ------
    CleaningFailed
        If the command cannot be started, fails, or says that it left a table out.
    """
    found: dict[str, int] = {}
    for tables, of in ((OF_DAGS, dags), (OF_AIRFLOW, ())):
        if tables is OF_DAGS and not of:
            continue
        for table, rows in _db_clean(tables, of, days, dry_run).items():
            found[table] = found.get(table, 0) + rows
    return {table: rows for table, rows in sorted(found.items()) if rows}


def _db_clean(tables: Sequence[str], dags: Sequence[str], days: float, dry_run: bool) -> dict[str, int]:
    program = shutil.which("airflow") or str(Path(sys.executable).with_name("airflow"))
    before = datetime.fromtimestamp(datetime.now(UTC).timestamp() - 86400 * days, UTC).isoformat(timespec="seconds")
    argv = [program, "db", "clean", "--clean-before-timestamp", before, "--tables", ",".join(tables), "--skip-archive"]
    argv += ["--batch-size", str(BATCH), *(["--dag-ids", ",".join(dags)] if dags else [])]
    argv += ["--dry-run" if dry_run else "--yes"]
    by_hand = f"; on the machine where the scheduler runs: {' '.join(argv[1:])}"
    own = {name: value for name, value in os.environ.items() if name not in BLOCKED}
    try:
        done = subprocess.run(argv, env=own, capture_output=True, text=True, timeout=LIMIT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CleaningFailed(f"`airflow db clean` could not be run ({error}){by_hand}") from None
    said = f"{done.stdout}\n{done.stderr}"
    if done.returncode:
        raise CleaningFailed(f"`airflow db clean` ended with {done.returncode}: {_last(said)}{by_hand}")
    failed = {
        name for line in re.findall(r"not cleaned due to errors: \[(.*?)\]", said) for name in re.findall(r"\w+", line)
    }
    if failed - (NO_DAG_ID if dags else set()):
        raise CleaningFailed(f"`airflow db clean` left out {', '.join(sorted(failed))}: {_last(said)}{by_hand}")
    return {table: int(rows) for table, rows in re.findall(r"^Checking table (\w+)\s+Found (\d+) rows", said, re.M)}


def _last(said: str) -> str:
    return " ".join(said.split())[-1000:]


def clean_logs(folder: Path, before: float, *, dry_run: bool) -> tuple[int, int]:
    """Remove the logs of task runs, and of the DAG processor, that nobody wrote to since `before` [s since the epoch].

    Returns how many runs and files went or would go, and their bytes.
    """
    runs, size = 0, 0
    for leftover in folder.glob("dag_id=*/.*.trash"):
        shutil.rmtree(leftover, ignore_errors=True)
    for run in (*folder.glob("dag_id=*/run_id=*"), *folder.glob("dag_processor/*/")):
        files = [path.stat() for path in run.rglob("*") if path.is_file()]
        if run.is_symlink() or max((told.st_mtime for told in files), default=run.stat().st_mtime) >= before:
            continue
        runs, size = runs + 1, size + sum(told.st_size for told in files)
        if not dry_run:
            remove_folder(run)
    return runs, size
