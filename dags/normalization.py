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

from airflow.sdk import DAG, Context

from graphufs.config import loading
from jobs.airflow.assets import STATISTICS
from jobs.airflow.forms import defaults, validate
from jobs.airflow.tasks import Tasks, check


def read_form(context: Context) -> dict[str, Any]:
    """See that the experiment is right, and fix it for all tasks of this run."""
    params = context["params"]
    site = validate.site(params["site"])
    experiment = validate.experiment(params["experiment"], list(params["overrides"] or []))
    return {"experiment": loading.dump(experiment), "site": site, "name": experiment.name}


with DAG(
    dag_id="normalization",
    description="Prepare an experiment's data and compute its normalization statistics",
    schedule=None,
    params={
        "experiment": defaults.experiment_field("p0"),
        "site": defaults.site_field(),
        "overrides": defaults.overrides_field(),
    },
    **defaults.dag(__doc__, "data"),
):
    Tasks(check(read_form), deadline=None).chain(("prepare", "normalize"), normalize={"outlets": [STATISTICS]})
