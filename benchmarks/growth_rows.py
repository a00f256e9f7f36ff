"""Rows of past runs for growth_airflow.py, through Airflow's own models, in Airflow's Python: JSON in, JSON out.

Each run has its tasks, and each task an XCom and two lines of the audit log, as a run has that nothing happened to. The
value of an XCom has 200 characters; that of a night's first task 4,000, as an experiment has.
"""

from __future__ import annotations

import json
import secrets
import sys
from datetime import datetime, timedelta
from typing import Any

from airflow.models.dag import DagModel
from airflow.models.dag_version import DagVersion
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.models.log import Log
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import Engine, Table, insert, inspect, select, text
from sqlalchemy.orm import Session

GROWING = (DagRun, TaskInstance, XComModel, Log, DagVersion)
BUNDLE = "dags"
AT_ONCE = 30
"""Days in one transaction."""


def main() -> None:
    asked = json.load(sys.stdin)
    end = datetime.fromisoformat(asked["end"])
    with create_session() as session:
        for dag, (a_day, tasks) in asked["runs_a_day"].items():
            version = _version(session, dag)
            for first in range(0, asked["days"], AT_ONCE):
                days = range(first, min(first + AT_ONCE, asked["days"]))
                times = [end - timedelta(days=day + part / a_day) for day in days for part in range(a_day)]
                _add(session, dag, version, times, tasks)
                session.commit()
        engine = session.get_bind()
    assert isinstance(engine, Engine)
    print(json.dumps(_measure(engine)))


def _table(model: type) -> Table:
    table = model.__table__  # type: ignore[attr-defined]
    assert isinstance(table, Table)
    return table


def _version(session: Session, dag: str) -> Any:
    """The version of a DAG, which is made with its bundle where there is none."""
    table = _table(DagVersion)
    if found := session.scalar(select(table.c.id).where(table.c.dag_id == dag)):
        return found
    bundles = _table(DagBundleModel)
    if BUNDLE not in session.scalars(select(bundles.c.name)).all():
        session.execute(insert(bundles).values(name=BUNDLE))
    limits = {"max_active_tasks": 16, "max_consecutive_failed_dag_runs": 0, "has_task_concurrency_limits": False}
    session.execute(insert(_table(DagModel)).values(dag_id=dag, bundle_name=BUNDLE, **limits))
    made = session.execute(insert(table).values(dag_id=dag, version_number=1, bundle_name=BUNDLE).returning(table.c.id))
    return made.scalar_one()


def _add(session: Session, dag: str, version: Any, times: list[datetime], tasks: int) -> None:
    runs = [
        {
            "dag_id": dag,
            "run_id": f"scheduled__{when.isoformat()}",
            "run_type": "scheduled",
            "state": "success",
            "created_dag_version_id": version,
            **dict.fromkeys(("logical_date", "queued_at", "start_date", "end_date", "run_after"), when),
            **dict.fromkeys(("data_interval_start", "data_interval_end", "created_at", "updated_at"), when),
        }
        for when in times
    ]
    table = _table(DagRun)
    session.execute(insert(table), runs)
    names = [run["run_id"] for run in runs]
    query = select(table.c.run_id, table.c.id).where(table.c.dag_id == dag, table.c.run_id.in_(names))
    numbers = {name: number for name, number in session.execute(query)}
    instances: list[dict[str, Any]] = []
    values: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    for run in runs:
        when = run["start_date"]
        for task in range(tasks):
            one = {"dag_id": dag, "run_id": run["run_id"], "task_id": f"task_{task}"}
            ran = {"duration": 5.0, "try_number": 1, "max_tries": 1, "hostname": "airflow", "unixname": "airflow"}
            where = {"pool": "default_pool", "queue": "default", "priority_weight": 1, "operator": "PythonOperator"}
            dates = dict.fromkeys(
                ("start_date", "end_date", "queued_dttm", "scheduled_dttm", "last_heartbeat_at"), when
            )
            instances.append({**one, **ran, **where, **dates, "state": "success", "dag_version_id": version})
            length = 4000 if dag == "nightly_evaluation" and not task else 200
            value = {
                "dag_run_id": numbers[run["run_id"]],
                "key": "return_value",
                "value": secrets.token_hex(length // 2),
            }
            values.append({**one, **value, "timestamp": when})
            for event in ("running", "success"):
                note = {"dttm": when, "event": event, "logical_date": when, "owner": "graphufs", "try_number": 1}
                notes.append({**one, **note, "map_index": -1})
    for model, made in ((TaskInstance, instances), (XComModel, values), (Log, notes)):
        session.execute(insert(_table(model)), made)


def _measure(engine: Engine) -> dict[str, Any]:
    """The rows of the tables that grow, and of what cleaning may set aside; the size of the database after VACUUM."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("vacuum"))
        aside = [name for name in inspect(engine).get_table_names() if name.startswith("_airflow_deleted")]
        tables = [model.__tablename__ for model in GROWING] + aside
        counts = {name: connection.execute(text(f'select count(*) from "{name}"')).scalar_one() for name in tables}
        mib = connection.execute(text("select pg_database_size(current_database())")).scalar_one() / 2**20
    return {"rows": sum(counts.values()), "by_table": counts, "mib": round(mib, 1)}


if __name__ == "__main__":
    main()
