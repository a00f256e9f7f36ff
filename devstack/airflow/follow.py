"""Follow a run of a DAG on a terminal: its tasks, the progress of their jobs, and why one failed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from devstack.airflow.api import FINISHED, Api, ApiError
from graphufs.cli.terminal import Bars
from graphufs.steps import Event
from jobs.job.folder import JobFolder

ENDED = ("success", "failed", "skipped", "upstream_failed", "removed")
PATIENCE = 120.0
"""Seconds for which Airflow may be silent: its machine may be busy, or it may be starting again."""
LINES = 8
"""Of a failure's reason that are shown; all of it is in the log."""


def name_of(task: dict[str, Any]) -> str:
    """A task's name, with its map index."""
    index = task.get("map_index", -1)
    return task["task_id"] + (f"[{index}]" if index >= 0 else "")


@dataclass
class Follower:
    """Shows a run of a DAG until it has ended. `root` is where the jobs are.

    `done` is called with the DAG, a task and its job's key when one of its tasks has succeeded that had a job.
    """

    api: Api
    root: Path
    console: Console
    every: float = 1.0
    done: Callable[[str, str, str], object] | None = None
    _jobs: dict[tuple[str, str], JobFolder] = field(default_factory=dict)

    def follow(self, dag: str, run: str) -> str:
        """Show the run until it has ended; its state.

        Raises
        ------
        OSError
            If Airflow does not answer for a long time.
        """
        self.console.print(f"[bold]{dag}[/]", highlight=False)
        seen: dict[str, tuple[str, int]] = {}
        events: dict[str, Any] = {}
        with Bars(self.console, "") as bars:
            while True:
                state = self._patiently(lambda: self.api.state(dag, run))
                tasks = self._patiently(lambda: self.api.task_instances(dag, run))
                for task in tasks:
                    name, now = name_of(task), (task["state"] or "none", task["try_number"])
                    # once more when it has ended, for its last event
                    if now[0] in ("running", "deferred") or (seen.get(name) != now and (run, name) in self._jobs):
                        self._progress(dag, run, task, bars, events)
                    if seen.get(name) != now:
                        seen[name] = now
                        if words := told(task):
                            self.console.print(f"  {words}", highlight=False, soft_wrap=True, markup=False)
                        if self.done is not None and now[0] == "success" and (key := self._job_of(dag, run, task)):
                            self.done(dag, task["task_id"], key)
                        if self.console.is_terminal:
                            count = sum(of in ENDED for of, _ in seen.values())
                            bars(Event("tasks done", count, len(tasks), "tasks"))
                if state in FINISHED:
                    return state
                time.sleep(self.every)

    def _progress(self, dag: str, run: str, task: dict[str, Any], bars: Bars, events: dict[str, Any]) -> None:
        name = name_of(task)
        if self._job_of(dag, run, task) is None:
            return
        event = self._jobs[run, name].progress()
        if event and events.get(name) != event:
            events[name] = event
            unit, numbers = event.get("unit", ""), event["metrics"]
            bars(Event(f"{name}: {event['label']}", event["done"], event["total"], unit, numbers))

    def _job_of(self, dag: str, run: str, task: dict[str, Any]) -> str | None:
        """The key of a task's job, None where there is none yet."""
        place = (run, name_of(task))
        if place not in self._jobs:
            key = self._patiently(lambda: self.api.xcom(dag, run, task["task_id"], "job", task.get("map_index", -1)))
            if not key:
                return None
            self._jobs[place] = JobFolder(self.root, key)
        return self._jobs[place].key

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return ask()
            except (OSError, ApiError) as error:
                if time.monotonic() > until or (isinstance(error, ApiError) and error.status < 500):
                    raise
                time.sleep(self.every)


def told(task: dict[str, Any]) -> str:
    """What is said when a task has come to its present state; nothing where that is of no interest."""
    name, state = name_of(task), task["state"]
    took = f" in {task['duration']:.0f} s" if task.get("duration") else ""
    words = {
        "success": f"done{took}",
        "failed": "FAILED",
        "skipped": "skipped",
        "upstream_failed": "not done: a task before it failed",
        "up_for_retry": "will be tried again",
    }
    return f"{name}: {words[state]}" if state in words else ""


def reason(log: list[dict[str, Any]]) -> list[str]:
    """Why a task failed, from its log: the last exception's message, or the last line of an error."""
    for line in reversed(log):
        for error in reversed(line.get("error_detail") or []):
            return [text for text in str(error["exc_value"]).splitlines() if text.strip()] or [error["exc_type"]]
    errors = [line["event"] for line in log if line.get("level") in ("error", "critical")]
    return str(errors[-1]).splitlines() if errors else ["its log says nothing of it"]


def log_file(logs: Path, dag: str, run: str, task: dict[str, Any]) -> Path:
    """Where Airflow keeps the log of a task's last try."""
    folder = logs / f"dag_id={dag}" / f"run_id={run}" / f"task_id={task['task_id']}"
    if task.get("map_index", -1) >= 0:
        folder /= f"map_index={task['map_index']}"
    return folder / f"attempt={task['try_number']}.log"
