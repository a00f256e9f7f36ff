"""Jobs of a site against the tasks they belong to: those without a waiting task are cancelled, lost ones are named.

Airflow cancels a task's job itself, but for one hole (3.3.2): a task that is marked while it waits for a triggerer to
take it up. This closes it, and says of what no task tells any more. It looks only at jobs that this Airflow has
labelled as its own. It asks the site first and Airflow after, so a job that it sees had its task before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs.airflow import messages
from jobs.airflow.keys import Origin
from jobs.airflow.sites.client import SiteClient
from jobs.job.records import seconds_since

ALIVE = ("running", "deferred", "queued", "scheduled", "up_for_retry", "up_for_reschedule", "restarting")
"""States of tasks that have, or will come back to, their job."""
KNOWN_TO_A_PERSON = ("success", "skipped", "removed")
"""What a person marks a task as who has seen that its job is lost."""
GONE = "gone"
"""A task that Airflow knows nothing of: deleted, or its run."""
AT_ONCE = 50
"""Runs asked for, and jobs cancelled, in one go."""

States = Callable[[Sequence[Origin]], dict[Origin, str]]


@dataclass
class Found:
    """What was found on a site, and what was done about it; each job in one line."""

    site: str
    waited_for: int = 0
    cancelled: list[str] = field(default_factory=list)
    need_a_person: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    """Folders of jobs that the site cannot read; whether a task belongs to one, nobody can tell."""


def reconcile(client: SiteClient, instance: str, states: States, grace: float) -> Found:
    """Compare, and cancel the orphans that were submitted more than `grace` seconds ago.

    `instance` is this Airflow's name, `states` gives the tasks' states, `gone` of those there are not.

    Raises
    ------
    Unreachable, SiteError
        If the site is unreachable; nothing is concluded then.
    """
    content = client.run("list", f"--label=instance={instance}", "--unfinished")
    jobs = {job["key"]: (origin, job) for job in content["jobs"] if (origin := Origin.of(job["labels"])) is not None}
    known = states(sorted({origin for origin, _ in jobs.values()}))
    found, orphans = Found(client.name), list[str]()
    found.unread = [f"{one['path']}: {one['reason']}" for one in content.get("broken", ())]
    for key, (origin, job) in jobs.items():
        state = known[origin]
        line = f"{key}: {messages.state(job)}; its task {origin} is {state}"
        if state in ALIVE:
            found.waited_for += 1
        elif job["state"] == "LOST":
            if state not in KNOWN_TO_A_PERSON:
                found.need_a_person.append(line)
        elif job["what"] == "waits for a person":
            if state == "failed":
                found.need_a_person.append(line)
        elif not job["over"] and job["begun"] and _age(job) >= grace:
            orphans.append(key)
    for start in range(0, len(orphans), AT_ONCE):
        for job in client.run("cancel", *orphans[start : start + AT_ONCE])["jobs"]:
            origin = jobs[job["key"]][0]
            found.cancelled.append(f"{job['key']}: {messages.state(job)}; its task {origin} is {known[origin]}")
    return found


def _age(job: dict[str, Any]) -> float:
    """Seconds since a job was submitted, by the site's clock: this one's may differ. Earlier versions do not tell."""
    return float(job["age"]) if job.get("age") is not None else seconds_since(job["begun"])


def task_states(origins: Sequence[Origin]) -> dict[Origin, str]:
    """The states of tasks, asked of Airflow from inside a task.

    A task without a state is `scheduled` while its run goes on, because it will be, and `none` after that.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    groups: dict[tuple[str, str, int], list[str]] = {}
    for one in origins:
        groups.setdefault((one.dag, one.task, one.map), []).append(one.run)
    found: dict[Origin, str] = {}
    for (dag, task, index), runs in groups.items():
        for start in range(0, len(runs), AT_ONCE):
            some = runs[start : start + AT_ONCE]
            answer = RuntimeTaskInstance.get_task_states(dag_id=dag, task_ids=[task], run_ids=some, map_index=index)
            for run in some:
                state = answer.get(run, {}).get(task if index < 0 else f"{task}_{index}", GONE)
                if state is None:
                    going_on = RuntimeTaskInstance.get_dagrun_state(dag, run) in ("queued", "running")
                    state = "scheduled" if going_on else "none"
                found[Origin(dag, run, task, index)] = str(state)
    return found
