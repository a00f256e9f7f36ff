"""Where a demo's time went: its own phases, and of each of Airflow's tasks how long it took and its job worked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from devstack.airflow.api import Api
from devstack.airflow.follow import name_of
from jobs.job.folder import JobFolder
from jobs.job.records import moment


@dataclass
class Timings:
    """Phases, in the order in which they ended; `began` is when all began [s since the epoch]."""

    began: float = field(default_factory=time.time)
    phases: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What is inside the `with`, as a phase."""
        since = time.time()
        try:
            yield
        finally:
            self.add(name, since, time.time())

    def add(self, name: str, since: float, until: float, **more: Any) -> None:
        """Add a phase by its begin and end [s since the epoch]."""
        self.phases.append(
            {"phase": name, "since": round(since - self.began, 1), "seconds": round(until - since, 1), **more}
        )

    def add_run(self, api: Api, root: Path, dag: str, run: str) -> None:
        """Add a run of a DAG and its tasks, with the seconds that their jobs worked."""
        about = api.request("GET", f"/dags/{dag}/dagRuns/{run}")
        if about.get("queued_at") and about.get("end_date"):
            self.add(dag, _seconds(about["queued_at"]), _seconds(about["end_date"]))
        tasks = [task for task in api.task_instances(dag, run) if task.get("start_date") and task.get("end_date")]
        for task in sorted(tasks, key=lambda task: str(task["end_date"])):
            key = api.xcom(dag, run, task["task_id"], "job", task.get("map_index", -1))
            worked = {} if not key else {"job": round(job_seconds(JobFolder(root, key)), 1)}
            self.add(f"  {name_of(task)}", _seconds(task["start_date"]), _seconds(task["end_date"]), **worked)

    def table(self) -> Table:
        """For people. A task's time is from its first start to its end; tasks and runs may go side by side."""
        table = Table(title="Where the time went, in seconds", title_justify="left")
        for name in ("phase", "since the start", "took", "its job worked"):
            table.add_column(name, justify="left" if name == "phase" else "right")
        for one in self.phases:
            worked = f"{one['job']:.1f}" if "job" in one else ""
            table.add_row(one["phase"], f"{one['since']:.1f}", f"{one['seconds']:.1f}", worked)
        return table


def job_seconds(job: JobFolder) -> float:
    """How long a job worked, over all starts, by its own notes; without the start of its Python."""
    return sum(
        (moment(one["end"]) - moment(one["start"])).total_seconds()
        for number in job.attempts()
        for one in job.segments(number)
        if one.get("start") and one.get("end")
    )


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
