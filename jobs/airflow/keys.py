"""The key of a task's job, and the labels that say whose it is: the same for every try and every process."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass

PREFIX = "af-"
"""What the keys of all of Airflow's jobs begin with."""
READABLE = 110
"""Characters of DAG, task and run that a key shows."""


def job_key(dag_id: str, run_id: str, task_id: str, map_index: int = -1, *, instance: str = "") -> str:
    """The key of the job of a task in a run.

    It begins with what a person recognizes and ends with a hash of all parts as they are, so two tasks never share a
    key, nor do two Airflows on one site that have names. The number of the try is not part of it: another try of the
    same task is about the same job.
    """
    parts = json.dumps([instance, dag_id, run_id, task_id, map_index], ensure_ascii=True)
    number = "" if map_index < 0 else f".{map_index}"
    words = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{dag_id}.{task_id}{number}.{run_id}")[:READABLE]
    return f"{PREFIX}{words.rstrip('.-')}-{hashlib.sha256(parts.encode()).hexdigest()[:16]}"


@dataclass(frozen=True, order=True)
class Origin:
    """The task that a job belongs to, as its labels say it."""

    dag: str
    run: str
    task: str
    map: int = -1

    def labels(self, instance: str) -> dict[str, str]:
        """What the job is told of where it comes from."""
        named = {"dag": self.dag, "run": self.run, "task": self.task, "map": str(self.map)}
        return {"instance": instance, **named} if instance else named

    @classmethod
    def of(cls, labels: dict[str, str]) -> Origin | None:
        """The task that labels name; None where they name none."""
        try:
            return cls(labels["dag"], labels["run"], labels["task"], int(labels["map"]))
        except (KeyError, ValueError):
            return None

    def __str__(self) -> str:
        return f"{self.dag}.{self.task}{'' if self.map < 0 else f'[{self.map}]'} of {self.run}"


def instance() -> str:
    """This Airflow's name among those that share a site: AIRFLOW__GRAPHUFS__INSTANCE. Empty: it has none."""
    from airflow.configuration import conf

    return str(conf.get("graphufs", "instance", fallback="")).strip()
