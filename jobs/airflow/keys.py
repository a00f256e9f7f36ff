"""The key of a task's job: the same for every try, and for every process that works it out."""

from __future__ import annotations

import hashlib
import json
import re

PREFIX = "af-"
"""What the keys of all of Airflow's jobs begin with."""
READABLE = 110
"""Characters of DAG, task and run that a key shows."""


def job_key(dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> str:
    """The key of the job of a task in a run.

    It begins with what a person recognizes and ends with a hash of all parts as they are, so two tasks never share a
    key. The number of the try is no part of it: another try of the same task is about the same job.
    """
    parts = json.dumps([dag_id, run_id, task_id, map_index], ensure_ascii=True)
    number = "" if map_index < 0 else f".{map_index}"
    words = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{dag_id}.{task_id}{number}.{run_id}")[:READABLE]
    return f"{PREFIX}{words.rstrip('.-')}-{hashlib.sha256(parts.encode()).hexdigest()[:16]}"
