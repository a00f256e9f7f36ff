"""What all DAGs have in common."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param

from graphufs.config import loading
from jobs.airflow.forms import choices
from jobs.airflow.forms.validate import LONGEST, MOST
from jobs.airflow.notifier import Notifier


def dag(doc: str | None, tag: str, **more: Any) -> dict[str, Any]:
    """The arguments that all DAGs have, with more default arguments of the DAG's tasks."""
    arguments = {
        "owner": "graphufs",
        "retries": 3,
        "retry_delay": timedelta(seconds=30),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=10),
        "on_failure_callback": Notifier(),
        **more,
    }
    # catchup: the next run does what was missed; a run for each missed date would find nothing to do
    return {"doc_md": doc, "catchup": False, "tags": ["graphufs", tag], "default_args": arguments}


def experiment_field(default: str | None = None, *, optional: bool = False) -> Param:
    """The field of the experiment."""
    names = loading.shipped()
    words = "One of the experiments in the folder `experiments`."
    return _choice("Experiment", words, names, default if default in names else None, optional)


def site_field(*, optional: bool = False) -> Param:
    """The field of the site."""
    names = choices.sites()
    words = "Where the jobs run. `graphufs-jobs sites` describes them."
    return _choice("Site", words, names, None if optional else next(iter(names), None), optional)


def _choice(title: str, words: str, names: list[str], default: str | None, optional: bool) -> Param:
    return Param(
        default,
        type=["string", "null"] if optional else "string",
        enum=[*names, None] if optional else names,
        title=title,
        description=words + " Empty: what triggered the run says, else the operator's setting." * optional,
    )


def overrides_field() -> Param:
    """The field of the overrides."""
    return Param(
        [],
        type=["array", "null"],
        items={"type": "string", "pattern": choices.WITHOUT_CREDENTIALS, "maxLength": LONGEST},
        maxItems=MOST,
        title="Overrides",
        description="Keys of the experiment to change, `section.key=value`, one a line.",
    )


def deadline_field(hours: float) -> Param:
    """The field of the time that jobs have."""
    return Param(
        hours,
        type="number",
        exclusiveMinimum=0,
        maximum=24 * 366,
        title="Deadline (hours)",
        description="How long each job may take, waiting in the queue included. Then it is cancelled, its task fails.",
    )
