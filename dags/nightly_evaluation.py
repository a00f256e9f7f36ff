"""Every night, score a model on what has become known.

Takes initial times of the evaluation period (and after it, see `nightly` in the experiment) whose whole truth is there
and that the model was not scored on yet, makes the forecasts, scores them, merges the scores into the model's, and
refreshes its report. Where the experiment has `forecast.products`, the forecasts are published in these formats too. In
the embedded world a first task lets a day pass.

A night that was missed is caught up by those that follow, `nightly.at_most` initial times each. A night that was done
does nothing. If there is nothing new, `plan_nightly` is skipped and says what it waits for. Initial times without data
are holes: the log of `plan_nightly` lists them, and the report shows them.

It runs by the clock, by hand, as a backfill (each run is the night of its date), and when a model becomes a candidate
or the champion; then it scores that model. What a run by the clock does, an operator sets: Airflow's variables
`graphufs_nightly_experiment` and `graphufs_nightly_site`.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, AssetOrTimeSchedule, Context, CronTriggerTimetable, Param

from graphufs.steps import CHAINS
from jobs.airflow.assets import CHAMPION, CHECKPOINT, SCORES
from jobs.airflow.forms import choices, defaults, from_schema, nightly
from jobs.airflow.notifier import Notifier
from jobs.airflow.tasks import Tasks, check

SCHEDULE = os.environ.get("GRAPHUFS_NIGHTLY_SCHEDULE", "0 3 * * *")
"""Cron's spelling, UTC."""


def read_form(context: Context) -> dict[str, Any]:
    """See what this night is asked for, and that it is right."""
    run = context["dag_run"]
    events = nightly.extras(context.get("triggering_asset_events"))
    try:
        found = nightly.asked(context["params"], next(iter(events), None), (run.logical_date or run.run_after).date())
    finally:  # one event that is wrong must not silence the others
        for also in nightly.trigger(run.dag_id, run.run_id, events[1:]):
            print(f"There was more than one event; {also} is triggered for another")
    print(f"Night {found['night']}: {found['model']} of {found['name']} on {found['site']}")
    return found


with DAG(
    dag_id="nightly_evaluation",
    description="Score a model on the initial times that have become known",
    schedule=AssetOrTimeSchedule(
        # Airflow would else begin with the hour that has just passed, where that is a tenth of a day ago at most, and
        # whoever asks for a night by hand would wait for that one first.
        timetable=CronTriggerTimetable(SCHEDULE, timezone="UTC", run_immediately=timedelta(0)),
        assets=(CHECKPOINT | CHAMPION),
    ),
    max_active_runs=1,
    on_success_callback=Notifier("succeeded", only_if="notify_success"),
    params={
        "experiment": defaults.experiment_field(optional=True),
        "site": defaults.site_field(optional=True),
        "model": Param(
            "champion",
            type="string",
            pattern=nightly.MODEL,
            maxLength=choices.LONGEST_MODEL,
            examples=choices.models(),
            title="Model",
            description="champion (the newest candidate while there is none), latest, or the id of a model.",
        ),
        "at_most": from_schema.of_experiment("nightly.at_most", "At most", None),
        "night": Param(
            None,
            type=["string", "null"],
            format="date",
            title="Night",
            description="Which night this is. Empty: the run's date. The embedded world goes on up to this night.",
        ),
        "deadline_hours": defaults.deadline_field(20),
        "overrides": defaults.overrides_field(),
    },
    **defaults.dag(__doc__, "evaluation"),
):
    checked = check(read_form)
    tasks = Tasks(checked, request=[checked["request"]])
    steps = tasks.chain(
        CHAINS["nightly"],
        plan_nightly={
            "skip_without": "initial_times",
            "doc_md": "Choose the model and its initial times. Skipped if there is nothing new; its log says why.",
        },
        record_nightly={
            "outlets": [SCORES],
            "event": {"experiment": checked["form"], "name": checked["name"], "night": checked["night"]},
        },
    )
    tasks.publish(steps["forecast"], checked, experiment=steps["plan_nightly"].output["experiment"])
    steps["record_nightly"] >> tasks.mirror()
