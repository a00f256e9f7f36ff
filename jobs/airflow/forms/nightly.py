"""What a night is asked for: by a form, by the event of an asset that triggered it, or by the operator's settings."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from graphufs.config import loading
from graphufs.errors import UserError
from jobs.airflow.forms import choices, validate
from jobs.airflow.settings import required

MODEL = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
TOLD = ("experiment", "site", "model", "overrides")
"""What an event tells; everything else in it is not for a night."""


def extras(triggering: Mapping[Any, Sequence[Any]] | None) -> list[dict[str, Any]]:
    """What the events say that triggered a run, the newest first, each (experiment, site, overrides, model) once.

    Events that say nothing of an experiment, such as somebody makes by hand, are left out: the settings then count.
    """
    events = [event for several in (triggering or {}).values() for event in several]
    found: list[dict[str, Any]] = []
    for event in sorted(events, key=lambda event: event.timestamp, reverse=True):
        told = {name: event.extra[name] for name in TOLD if event.extra.get(name)}
        if "experiment" in told and "site" in told and told not in found:
            found.append(told)
    return found


def asked(params: Mapping[str, Any], told: Mapping[str, Any] | None, run_date: date) -> dict[str, Any]:
    """What a night does, for its tasks: the experiment as YAML, the request, the site, and where the wish came from.

    A run that an event triggered was not filled in by anybody, so the event goes before the form; empty fields of the
    form leave it to the settings `nightly_experiment` and `nightly_site`, and to `run_date`, which night it is.

    Raises
    ------
    UserError
        If something is wrong or not told at all.
    """
    wish = dict(told or {name: params[name] for name in TOLD})
    for name in ("experiment", "site"):
        wish[name] = wish.get(name) or required("nightly", name)
        if not isinstance(wish[name], str):
            raise UserError(f"{name} is {wish[name]!r}, which is no name")
    model = wish.get("model") or "champion"
    if not isinstance(model, str) or not re.fullmatch(MODEL, model) or len(model) > choices.LONGEST_MODEL:
        raise UserError(f"{model!r} is no model: write champion, latest, or the id of a registered model")
    overrides = wish.get("overrides") or []
    if not isinstance(overrides, list):
        raise UserError(f"overrides are {overrides!r}, which is no list")
    if told:  # they were those of a training
        overrides = [one for one in overrides if not str(one).startswith("nightly.")]
    fields = {"nightly.at_most": params["at_most"]}
    night = {"model": model, "night": params["night"] or run_date.isoformat()}
    found = validate.asked(wish["experiment"], wish["site"], fields, night, overrides)
    products = list(loading.parse(found["experiment"]).forecast.products)
    told_too = {"model": model, "night": found["request"]["night"], "products": products}
    return {**found, **told_too, "deadline_hours": params["deadline_hours"]}


def trigger(dag_id: str, run_id: str, told: Sequence[Mapping[str, Any]]) -> list[str]:
    """Trigger runs of their own for further events that one run was triggered by; the runs' ids.

    Doing it again triggers nothing twice.

    Raises
    ------
    RuntimeError
        If Airflow does not trigger one of them.
    """
    from airflow.sdk.exceptions import ErrorType
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import ErrorResponse, TriggerDagRun

    made = []
    for number, one in enumerate(told, 1):
        content = TriggerDagRun(dag_id=dag_id, run_id=f"also_{number}_of__{run_id}", conf=dict(one), logical_date=None)
        answer = task_runner.SUPERVISOR_COMMS.send(content)
        if isinstance(answer, ErrorResponse) and answer.error is not ErrorType.DAGRUN_ALREADY_EXISTS:
            raise RuntimeError(f"Airflow did not trigger {content.run_id} for {json.dumps(one)[:500]}: {answer.error}")
        made.append(content.run_id)
    return made
