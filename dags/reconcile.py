"""Jobs that no task waits for.

Looks at the jobs that this Airflow has on each site and compares them with its tasks. A job whose task is over, or is
gone, is cancelled: Airflow itself misses that where a task is marked or cleared in the moment between its deferral and
a triggerer's taking it up. Jobs of other Airflows and of people are not touched; this one's are known by its name, the
option `instance` in the section `graphufs` of Airflow's configuration.

`report` fails, and names them, when jobs are LOST (their state is unknown) or wait for a person. To say that you know:
clear the task that the job belongs to, mark it as a success, or `graphufs-jobs cancel` the job.

An unreachable site is skipped, and nothing is concluded of its jobs.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param, get_current_context, task

from jobs.airflow.forms import choices, defaults

with DAG(
    dag_id="reconcile",
    description="Cancel jobs that no task waits for, and name those that are lost",
    schedule="*/15 * * * *",
    max_active_runs=1,
    is_paused_upon_creation=False,
    params={
        "grace": Param(
            300,
            type="integer",
            minimum=0,
            title="Grace",
            description="Seconds for which a job is left alone after its submission.",
        ),
    },
    **defaults.dag(__doc__, "care", retries=1),
):

    @task(pool=choices.pool(), map_index_template="{{ task.op_kwargs['site'] }}")
    def compare(site: str) -> dict[str, Any]:
        """Compare a site's jobs with their tasks, and cancel those without a waiting task."""
        from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

        from jobs.airflow.keys import instance
        from jobs.airflow.sites.client import SiteClient, SiteError, Unreachable
        from jobs.airflow.sites.reconcile import Found, reconcile, task_states

        name = instance()
        if not name:
            raise AirflowFailException(
                "this Airflow has no name, so its jobs cannot be told from those of others: set the option `instance` "
                "in the section `graphufs` of its configuration (AIRFLOW__GRAPHUFS__INSTANCE) to one of its own"
            )
        client = SiteClient.load(site)
        grace = get_current_context()["params"]["grace"]
        try:
            found = reconcile(client, name, task_states, grace)
        except Unreachable as error:
            raise AirflowSkipException(
                f"site {site} is unreachable, so the states of its jobs are not known: {error}"
            ) from None
        except SiteError as error:
            if client.site.control.connection is None:
                raise AirflowSkipException(f"site {site} is not in use here: {error}") from None
            found = Found(site, need_a_person=[f"nothing is known of its jobs: {error}"])
        for line in found.cancelled:
            print(f"cancelled {line}")
        for line in found.unread:
            print(f"the site cannot read {line} (graphufs-jobs doctor)")
        print(f"{site}: {found.waited_for} jobs are waited for, {len(found.cancelled)} were not and are cancelled")
        return vars(found)

    @task(trigger_rule="none_failed", retries=0)
    def report(found: list[dict[str, Any]]) -> None:
        """Name what needs a person, and fail if there is anything."""
        from airflow.sdk.exceptions import AirflowFailException

        lines = [f"{one['site']}: {line}" for one in found for line in one["need_a_person"]]
        if lines:
            raise AirflowFailException("\n  ".join([f"{len(lines)} need a person:", *lines]))

    report(compare.expand(site=choices.sites()))
