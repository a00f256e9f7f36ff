"""Data and normalization statistics of an experiment.

Fetches the periods that the experiment names, in pieces that need not be fetched twice, and computes mean, standard
deviation and standard deviation of differences for each variable and level. Both lie on the site, named by what
determines their content: a second run with the same settings finds them there and ends at once.

Choose an experiment and a site. `overrides` change keys of the experiment, one a line, for example
`data.training.end=2001-12-31T18`. What is wrong with them, the first task says.

While a job waits or runs, its task holds no worker. Its log shows the job's. Marking the task as failed or clearing it
cancels the job; restarting Airflow does not.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, get_current_context, task

from jobs.airflow.assets import STATISTICS
from jobs.airflow.forms import choices
from jobs.airflow.forms import defaults as common
from jobs.airflow.operators.job import JobOperator

with DAG(
    dag_id="normalization",
    description="Prepare an experiment's data and compute its normalization statistics",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    tags=["graphufs", "data"],
    default_args=common.arguments(),
    params={
        "experiment": common.experiment_field("p0"),
        "site": common.site_field(),
        "overrides": common.overrides_field(),
    },
):

    @task(pool=choices.pool())
    def check() -> dict[str, str]:
        """See that the experiment is right, and fix it for all tasks of this run."""
        from airflow.sdk.exceptions import AirflowFailException

        from graphufs.config import loading
        from graphufs.errors import UserError
        from jobs.airflow.forms import validate

        params: dict[str, Any] = dict(get_current_context()["params"])
        try:
            site = validate.site(params["site"])
            experiment = validate.experiment(params["experiment"], list(params["overrides"] or []))
        except UserError as error:
            raise AirflowFailException(str(error)) from None
        return {"experiment": loading.dump(experiment), "site": site, "name": experiment.name}

    checked = check()
    common: dict[str, Any] = {
        "experiment": checked["experiment"],
        "site": checked["site"],
        "pool": choices.pool(),
    }
    prepare = JobOperator(task_id="prepare", step="prepare", doc_md="Fetch the data of the experiment.", **common)
    normalize = JobOperator(
        task_id="normalize",
        step="normalize",
        needs=[prepare.output["job"]],
        outlets=[STATISTICS],
        doc_md="Compute the normalization statistics.",
        **common,
    )
