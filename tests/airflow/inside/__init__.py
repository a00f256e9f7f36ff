"""Tests inside Airflow's environment, and what they share; `conftest.py` says how they are run."""

from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[3]
RUNNING = {
    "what": "attached",
    "state": "RUNNING",
    "over": False,
    "id": "7",
    "attempt": 1,
    "segments": 1,
    "step": "train",
}
DONE = {**RUNNING, "state": "COMPLETED", "over": True, "result": {"result": {"status": "completed", "loss": 1.5}}}
FAILED = {
    **RUNNING, "what": "stopped", "state": "FAILED", "over": True, "ending": "error", "message": "ValueError: no",
    "folder": "/r/jobs/k",
}  # fmt: skip
HOSTILE = "description='{{ var.value.secret }} {{ conn.secret.password }} {% raw %} $(touch PWNED)'"


def group(name):
    """By the name of a file of tests here, which others share its process: those that run whole DAGs wait for jobs."""
    return "whole DAGs" if name in ("test_dags.py", "test_nights.py", "test_retraining.py") else "parts"


class Store(dict):
    """A task's state store."""

    def set(self, key, value):
        self[key] = value


def context(try_number=1, run_id="manual__1", max_tries=2, **more):
    pushed = {}
    ti = SimpleNamespace(
        dag_id="d", run_id=run_id, task_id="t", map_index=-1, try_number=try_number, max_tries=max_tries,
        xcom_push=lambda key, value: pushed.__setitem__(key, value),
    )  # fmt: skip
    return {"ti": ti, "task_state_store": Store(), "pushed": pushed, "outlet_events": {}, **more}


@contextmanager
def site(*answers):
    """A site whose job command answers in turn (the last one for ever) and remembers what it was asked."""
    from jobs.airflow.sites.client import SiteClient

    asked, left = [], list(answers)

    def run(self, *arguments, stdin="", timeout=0.0):
        asked.append((arguments, stdin))
        if arguments[0] == "status":
            return {"protocol": 1, "histories": [{"segments": []}], "jobs": []}
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        key = next((word.removeprefix("--key=") for word in arguments if word.startswith("--key=")), arguments[1])
        return {"protocol": 1, "jobs": [{"key": key, **answer}]}

    async def arun(self, *arguments, stdin="", timeout=0.0):
        if arguments[0] != "poll":
            return run(self, *arguments, stdin=stdin)
        asked.append((arguments, stdin))
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return {"protocol": 1, "jobs": [{"key": key, **answer} for key in json.loads(stdin)["jobs"]]}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SiteClient, "run", run)
        patch.setattr(SiteClient, "arun", arun)
        yield asked


def operator(**more):
    from jobs.airflow.operators.job import JobOperator

    return JobOperator(**{"task_id": "t", "step": "train", "experiment": "tiny", "site": "quick", **more})


def deferral(task, given):
    from airflow.sdk.exceptions import TaskDeferred

    with pytest.raises(TaskDeferred) as caught:
        task.execute(given)
    return caught.value


def first_event(trigger, seconds=30.0):
    async def main():
        return await asyncio.wait_for(anext(trigger.run()), seconds)

    return asyncio.run(main()).payload


class Log:
    def __init__(self):
        self.lines = []

    def info(self, words, *values, **_):
        self.lines.append(words % values)

    warning = error = info


@contextmanager
def heard():
    from jobs.airflow.operators.trigger import JobTrigger, SiteTrigger

    log = Log()
    with pytest.MonkeyPatch.context() as patch:
        for kind in (JobTrigger, SiteTrigger):
            patch.setattr(kind, "log", log)
        yield log.lines


def bag():
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(str(ROOT / "dags"))


def run(dag_id, **conf):
    dag = bag().dags[dag_id]
    for task in dag.tasks:
        task.retries = 0
    return dag.test(run_conf=conf)


def states_of(done):
    return {ti.task_id: ti.state for ti in done.get_task_instances()}


def xcoms(done, task_id):
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        wanted = (XComModel.run_id == done.run_id) & (XComModel.task_id == task_id)
        return {row.key: XComModel.deserialize_value(row) for row in session.scalars(select(XComModel).where(wanted))}


def events(name):
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        found = select(AssetEvent).join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        return [event.extra for event in session.scalars(found.where(AssetModel.name == name))]
