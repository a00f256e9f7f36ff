"""DAGs for the fault matrix: one job of `tiny` each, whose data are there already, so that it takes seconds.

What is `held` waits in Slurm's queue until a test lets it begin.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task

from jobs.airflow.operators.job import JobOperator

HELD = "sbatch.begin=now+1hour"


def trial(dag_id: str, *, timeout: timedelta | None = None, **job: Any) -> None:
    """A DAG of one job."""
    with DAG(
        dag_id,
        schedule=None,
        dagrun_timeout=timeout,
        is_paused_upon_creation=False,
        default_args={"retries": 2, "retry_delay": timedelta(seconds=1)},
    ):
        JobOperator(task_id="job", **{"step": "prepare", "experiment": "tiny", "site": "bench", **job})


trial("held", job_resources=[HELD])
trial("timed", job_resources=[HELD], timeout=timedelta(seconds=45))
trial("late", job_resources=[HELD], deadline=timedelta(seconds=25))
trial("wrong", step="normalize", overrides=["data.levels=[500]"])  # of data that nobody has prepared

trial("secretive", experiment=str(Path(__file__).with_name("secretive.yaml")))  # a test writes it

with DAG("twenty", schedule=None, is_paused_upon_creation=False):
    JobOperator.partial(
        task_id="job", pool="graphufs", step="prepare", experiment="tiny", site="bench", job_resources=[HELD]
    ).expand(overrides=[[f"description=number {number}"] for number in range(20)])

with DAG("other", schedule=None, is_paused_upon_creation=False):

    @task
    def nothing() -> None:
        """Hold a worker for a moment."""

    nothing()
