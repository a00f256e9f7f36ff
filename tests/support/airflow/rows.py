"""A row of Airflow's fault matrix: a run of a trial, its job, and what was seen of both."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.airflow.bench import AirflowBench, eventually


class Row:
    """A run of one of the trials."""

    def __init__(self, bench: AirflowBench, fault: str, request: pytest.FixtureRequest) -> None:
        self.bench, self.fault = bench, fault
        self.properties = request.node.user_properties
        self.began = time.monotonic()
        self.dag = self.run = self.key = ""

    def start(self, dag: str) -> None:
        """Trigger a trial."""
        self.dag, self.run = dag, self.bench.trigger(dag)
        self.key = self.bench.key(dag, self.run)

    def task(self) -> dict[str, Any]:
        """The task as it is."""
        return self.bench.task(self.dag, self.run)

    def deferred(self) -> dict[str, Any]:
        """Wait until the task is in a triggerer's hands."""
        return self.bench.deferred(self.dag, self.run)

    def submitted(self) -> None:
        """Wait until Slurm has the job."""
        self.bench.until_job(self.key)

    def release(self) -> None:
        """Let the job begin."""
        self.bench.release(self.key)

    def until(self, *states: str, seconds: float = 120) -> dict[str, Any]:
        """Wait until the task is in one of some states."""
        return self.bench.until_task(self.dag, self.run, *states, seconds=seconds)

    def log(self, attempt: int | None = None) -> str:
        """What the task has logged."""
        return self.bench.log(self.task(), attempt)

    def tries(self) -> int:
        """The task's present try."""
        number: int = self.task()["try_number"]
        return number

    def settled(self) -> None:
        """Wait until what was asked of an earlier job has come through, and the present one has stayed."""
        until = time.monotonic() + 10
        while time.monotonic() < until:
            found = self.task()
            if found["state"] != "deferred" or not self.bench.live(self.key):
                until = time.monotonic() + 10
            time.sleep(1)

    def ends(
        self, task: str, job: str, *, jobs: int | tuple[int, ...], note: str, seconds: float = 150
    ) -> dict[str, Any]:
        """Wait for the ends of both, hold them against what is right, and add the row to the table."""
        found = self.until("success", "failed", "skipped", "upstream_failed", seconds=seconds)
        assert found["state"] == task, self.log()
        eventually(lambda: self.bench.slurm.status(self.key)["state"] == job, 240)
        state = self.bench.slurm.status(self.key)
        eventually(lambda: not self.bench.live(self.key), 120)
        submitted = self.bench.slurm.submissions(self.key)
        took = f"{time.monotonic() - self.began:.0f} s"
        self.properties.append(
            ("airflow-fault", [self.fault, found["state"], state["state"], str(submitted), note, took])
        )
        assert submitted in ((jobs,) if isinstance(jobs, int) else jobs), f"{submitted} jobs"
        return found
