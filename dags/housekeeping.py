"""Remove what nobody needs any more: on each site, in Airflow's database, and of its logs.

On each site `graphufs-jobs clean` removes scored forecasts of nights and comparisons, old caches and leftovers, and
merges nightly data of past months; `graphufs-jobs prune` removes job folders that are long over. Here
`airflow db clean` removes old rows of this repository's DAGs, and old log files go. A DAG that has a live run at that
moment is left for the next time.

**Runs by the clock only list what would go**, in the tasks' logs, until a person says otherwise: set
`GRAPHUFS_HOUSEKEEPING_DRY_RUN=false` in the environment of the DAG processor, or trigger a run without *Dry run*.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, CronTriggerTimetable, Param, get_current_context, task

from graphufs.config.base import MOST_DAYS
from jobs.airflow.forms import choices, defaults

SCHEDULE = os.environ.get("GRAPHUFS_HOUSEKEEPING_SCHEDULE", "43 1 * * *")
"""Cron's spelling, UTC."""
DRY_RUN = os.environ.get("GRAPHUFS_HOUSEKEEPING_DRY_RUN", "true").strip().lower() != "false"


def days(default: float, title: str, description: str, minimum: float = 1) -> Param:
    """A field for a number of days."""
    limits = {"type": "number", "minimum": minimum, "maximum": MOST_DAYS}
    return Param(default, title=f"{title} (days)", description=description, **limits)


with DAG(
    dag_id="housekeeping",
    description="Remove what nobody needs any more",
    schedule=CronTriggerTimetable(SCHEDULE, timezone="UTC"),
    max_active_runs=1,
    params={
        "dry_run": Param(DRY_RUN, type="boolean", title="Dry run", description="List what would go, remove nothing."),
        "forecast_days": days(30, "Forecasts", "How long scored forecasts of nights and comparisons are kept."),
        "published_days": days(30, "Published", "How long forecasts that were published for other tools are kept."),
        "merged_days": days(30, "Merged segments", "Longer than a training reads data without opening them anew."),
        "cache_days": days(90, "Caches", "How long compiled programs are kept after their last use."),
        "leftover_days": days(2, "Leftovers", "How long half-written files are left alone."),
        "job_days": days(30, "Jobs", "How long folders of jobs that are over, and data out of use, are kept."),
        "airflow_days": days(90, "Airflow", "How long Airflow keeps runs, their logs and what people did.", 7),
    },
    **defaults.dag(__doc__, "care", retries=1),
):

    @task(pool=choices.pool(), map_index_template="{{ task.op_kwargs['site'] }}")
    def clean_site(site: str) -> dict[str, Any]:
        """Clean a site's root, and prune its jobs."""
        from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

        from jobs.airflow.sites.client import SiteClient, SiteError, Unreachable
        from jobs.airflow.sites.housekeeping import clean

        params = get_current_context()["params"]
        kept = {name: params[f"{name}_days"] for name in ("forecast", "published", "merged", "cache", "leftover")}
        client = SiteClient.load(site)
        try:
            found = clean(client, kept, params["job_days"], dry_run=params["dry_run"])
        except Unreachable as error:
            raise AirflowSkipException(f"site {site} is unreachable, nothing is known of what went: {error}") from None
        except SiteError as error:
            if client.site.control.connection is None:
                raise AirflowSkipException(f"site {site} is not in use here: {error}") from None
            raise AirflowFailException(f"site {site} says: {error}") from None
        if found["failed"]:
            raise AirflowFailException("\n  ".join([f"site {site} could not remove everything:", *found["failed"]]))
        return found

    @task
    def clean_airflow() -> dict[str, Any]:
        """Remove old rows of Airflow's database, and old log files."""
        import time

        from airflow.sdk.configuration import conf
        from airflow.sdk.exceptions import AirflowFailException

        from jobs.airflow.cleanup import CleaningFailed, clean_database, clean_logs

        context = get_current_context()
        dry_run, kept = context["params"]["dry_run"], context["params"]["airflow_days"]
        files = Path(context["dag"].fileloc).resolve().parent.glob("*.py")  # each has the name of its DAG
        live = {path.stem: 0 for path in sorted(files)}
        for dag in live:
            live[dag] = context["ti"].get_dr_count(dag_id=dag, states=["queued", "running"])
        live[context["dag"].dag_id] -= 1  # this run
        idle = [dag for dag, runs in live.items() if runs <= 0]
        print(f"left for the next time, as a run is live: {', '.join(sorted({*live} - {*idle})) or 'none'}")
        try:
            rows = clean_database(idle, kept, dry_run=dry_run)
        except CleaningFailed as error:
            raise AirflowFailException(str(error)) from None
        folder = Path(conf.get("logging", "base_log_folder"))
        runs, size = clean_logs(folder, time.time() - 86400 * kept, dry_run=dry_run)
        print(f"{'would go' if dry_run else 'gone'}: rows {rows}; logs of {runs} runs, {size / 2**20:,.1f} MiB")
        return {"rows": rows, "logs": runs, "bytes": size}

    clean_site.expand(site=choices.sites())
    clean_airflow()
