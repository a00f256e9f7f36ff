"""Take a promotion back: the former champion of an experiment is the champion again.

Nights, scores and reports go on with those of the former champion, which were kept. Repeated, it goes back one champion
further; `to` names a certain one. The registry's history tells who did it and why.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Context, Param

from jobs.airflow.assets import CHAMPION
from jobs.airflow.forms import choices, defaults, nightly, retraining
from jobs.airflow.notifier import Notifier
from jobs.airflow.tasks import Tasks, check


def read_form(context: Context) -> dict[str, Any]:
    """See that what is asked for is right, and who asks for it."""
    params, run = context["params"], context["dag_run"]
    by = getattr(run, "triggering_user_name", None)
    wish = {"rollback_to": params["to"], "why": params["why"] or None, "decided_by": by}
    return {**retraining.asked(params, run.run_after.date(), **wish), "deadline_hours": params["deadline_hours"]}


with DAG(
    dag_id="rollback",
    description="Make the former champion the champion again",
    schedule=None,
    max_active_runs=1,
    on_success_callback=Notifier("succeeded", only_if="notify_success"),
    params={
        "experiment": defaults.experiment_field("p0"),
        "site": defaults.site_field(),
        "why": Param("", type="string", maxLength=500, title="Why", description="For the registry's history."),
        "to": Param(
            None,
            type=["string", "null"],
            pattern=nightly.MODEL,
            maxLength=choices.LONGEST_MODEL,
            title="To",
            description="The id of a former champion. Empty: the one before the present champion.",
        ),
        "deadline_hours": defaults.deadline_field(6),
    },
    **defaults.dag(__doc__, "training"),
):
    checked = check(read_form)
    tasks = Tasks(checked, request=[checked["request"]])
    roll_back = tasks.job(
        "rollback",
        outlets=[CHAMPION],
        event={"experiment": checked["form"], "name": checked["name"]},
        doc_md="Make the former champion the champion again, and tell the nightly evaluation.",
    )
    roll_back >> tasks.mirror()
