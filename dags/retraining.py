"""Train a challenger on what has become known, compare it with the champion, and promote, hold, or ask.

`plan_retraining` chooses the windows: what is new since the champion's training, and a fresh period after both models'
training for the comparison. With nothing new it is skipped and says what it waits for. The challenger is trained, and
`compare` forecasts and scores both models on the same fresh initial times. The rule in the experiment's section
`retraining` then says: promote, hold, or ask. To ask, the task `ask` waits for a person (*Required actions*), with the
scorecard; without an answer within the hours of the form the champion stays.

What was decided, by whom and on what evidence, stays in the registry, with what the training has cost. A promotion
tells the nightly evaluation, which goes on with the new champion.

It runs by the clock where the settings `graphufs_retraining_experiment` and `graphufs_retraining_site` name an
experiment and a site, and by hand. The DAG `rollback` takes a promotion back.
"""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk import DAG, Context, CronTriggerTimetable, Param, task

from graphufs.steps import CHAINS
from jobs.airflow.assets import CHAMPION
from jobs.airflow.forms import defaults, from_schema, retraining
from jobs.airflow.notifier import Notifier
from jobs.airflow.tasks import Tasks, check

SCHEDULE = os.environ.get("GRAPHUFS_RETRAINING_SCHEDULE", "0 5 1 * *")
"""Cron's spelling, UTC."""


def read_form(context: Context) -> dict[str, Any]:
    """See that what is asked for is right, and fix it for all tasks of this round."""
    params, run = context["params"], context["dag_run"]
    found = retraining.asked(params, (run.logical_date or run.run_after).date(), then=params["then"])
    return {**found, "ask_hours": params["ask_hours"], "deadline_hours": params["deadline_hours"]}


with DAG(
    dag_id="retraining",
    description="Train a challenger, compare it with the champion, promote or hold it",
    schedule=CronTriggerTimetable(SCHEDULE, timezone="UTC"),
    max_active_runs=1,
    on_success_callback=Notifier("succeeded", only_if="notify_success"),
    params={
        "experiment": defaults.experiment_field(optional=True),
        "site": defaults.site_field(optional=True),
        "then": from_schema.of_experiment("retraining.then", "After a gain", None),
        "ask_hours": Param(
            72,
            type="number",
            exclusiveMinimum=0,
            maximum=24 * 60,
            title="Time to answer (hours)",
            description="How long a person has where the rule asks one. Without an answer the champion stays.",
        ),
        "deadline_hours": defaults.deadline_field(24 * 14),
        "overrides": defaults.overrides_field(),
    },
    **defaults.dag(__doc__, "training"),
):
    checked = check(read_form)
    tasks = Tasks(checked, request=[checked["request"]])
    *planned, decide = CHAINS["retrain"]
    steps = tasks.chain(
        ("extend_world", *planned),
        plan_retraining={
            "skip_without": "experiment",
            "doc_md": "Choose the windows of this round. Skipped if there is nothing new; its log says why.",
        },
        compare_models={"task_id": "compare"},
    )
    compare = steps["compare_models"]
    ask = retraining.AskPerson(
        task_id="ask",
        decision=compare.output["decision"],
        hours=checked["ask_hours"],
        subject="Shall {{ ti.xcom_pull(task_ids='compare')['model'] }} become the champion?",
        body=compare.output["scorecard"],
        doc_md="Ask a person, where the rule says so.",
    )

    @task(trigger_rule="none_failed_min_one_success")
    def conclude(
        compared: dict[str, Any], answered: dict[str, Any] | None, used: dict[str, Any] | None
    ) -> dict[str, Any]:
        """What is to be decided, and what the registry is told with it."""
        return {"request": retraining.told(answered, used), **retraining.outcome(compared["decision"], answered)}

    concluded = conclude(compare.output, ask.output, steps["train"].output["used"])
    plan = steps["plan_retraining"].output
    decision = {
        "experiment": plan["experiment"],
        "request": [checked["request"], plan["request"], concluded["request"]],
    }
    promote = tasks.job(
        decide,
        compare,
        task_id="promote",
        **decision,
        wanted=concluded["promote"],
        outlets=[CHAMPION],
        event={"experiment": checked["form"], "name": checked["name"], "overrides": checked["overrides"]},
        doc_md="Make the challenger the champion, and tell the nightly evaluation.",
    )
    hold = tasks.job(
        decide,
        compare,
        task_id="hold",
        **decision,
        wanted=concluded["hold"],
        doc_md="Note why the champion stays, with the evidence.",
    )
    [promote, hold] >> tasks.mirror(trigger_rule="none_failed_min_one_success")
