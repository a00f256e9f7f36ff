"""Fetch what forms and pages show from all sites: experiments, runs, models, nightly scores, reports.

Training and nightly evaluation do the same for their site when they end; this keeps up with what is done beside
Airflow. Of an unreachable site the old copy is kept, and its task is skipped. The copy lies where
`GRAPHUFS_MIRROR` says, by default in `$AIRFLOW_HOME/graphufs-mirror`.
"""

from __future__ import annotations

import os

from airflow.sdk import DAG, CronTriggerTimetable

from jobs.airflow.forms import choices, defaults
from jobs.airflow.operators.site import MirrorOperator

SCHEDULE = os.environ.get("GRAPHUFS_CATALOGUE_SCHEDULE", "17 * * * *")
"""Cron's spelling, UTC."""

with DAG(
    dag_id="catalogue",
    description="Fetch what forms and pages show from all sites",
    schedule=CronTriggerTimetable(SCHEDULE, timezone="UTC"),
    max_active_runs=1,
    **defaults.dag(__doc__, "catalogue"),
):
    for site in choices.sites():
        MirrorOperator(task_id=f"mirror_{site}", site=site, pool=choices.pool_of(site))
