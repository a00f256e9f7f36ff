"""Train an emulator, from data to a registered candidate.

Data and statistics are made where they are not there yet; runs that need the same share them. The training is then
scored on the *validation* period, the report is written, and the model becomes a candidate. The evaluation period is
left to the nightly evaluation. Where the experiment has `forecast.products`, the forecasts are published in these
formats.

Fields that are left empty keep what the experiment or the site says. Wrong input is refused by the form, or by the
first task, `check`, which names the field. `preflight` sees whether the site would take the jobs before one waits in a
queue.

While a job waits or runs, its task holds no worker, and its log shows the job's. Marking the task as failed or clearing
it cancels the job; restarting Airflow does not. A job that failed says why in the first line of its task's log; when
the cause is put right, clear the task: what is done is not done again.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Context, Param

from graphufs.config import loading
from graphufs.steps import CHAINS
from jobs.airflow.assets import CHECKPOINT
from jobs.airflow.forms import choices, defaults, from_schema, validate
from jobs.airflow.notifier import Notifier
from jobs.airflow.operators.site import PreflightOperator
from jobs.airflow.tasks import Tasks, check

KEYS = {
    "mesh_size": "model.mesh_size",
    "latent_size": "model.latent_size",
    "message_steps": "model.message_steps",
    "batch_size": "training.batch_size",
    "updates": "training.stages.0.updates",
    "learning_rate": "training.stages.0.learning_rate.peak",
    "precision": "training.compute.precision",
    "seed": "training.seed",
    "members": "forecast.members",
    "products": "forecast.products",
}
TITLES = {
    "updates": "Updates of the first stage",
    "learning_rate": "Peak learning rate of the first stage",
    "members": "Members of forecasts",
    "products": "Published formats",
}
RESOURCES = {"gpus": "GPUs", "nodes": "Nodes", "memory": "Memory", "time_limit": "Time limit"}


def section(key: str) -> str:
    """The form's section of a key of the experiment."""
    return key.partition(".")[0].capitalize()


def read_form(context: Context) -> dict[str, Any]:
    """See that all that was asked for is right, and fix it for all tasks of this run."""
    params = context["params"]
    overrides = list(params["overrides"] or [])
    if params["updates"] is not None:
        overrides.append("training.stages.0.epochs=null")  # its length is now told in updates
    site = validate.site(params["site"])
    overrides = validate.merged({key: params[name] for name, key in KEYS.items()}, overrides)
    experiment = validate.experiment(params["experiment"], overrides)
    experiment, note = validate.on_validation(experiment)
    resources = validate.resources(site, "train", {name: params[name] for name in RESOURCES})
    print(f"{experiment.name}: {note}")
    return {
        "experiment": loading.dump(experiment),
        "site": site,
        "resources": resources,
        "preflight": [f"train.{one}" for one in resources],
        "deadline_hours": params["deadline_hours"],
        "register": params["register"],
        "note": note,
        "name": experiment.name,
        "form": params["experiment"],
        "overrides": overrides,
        "products": list(experiment.forecast.products),
    }


with DAG(
    dag_id="training",
    description="Train an emulator, score it on the validation period, register it as a candidate",
    schedule=None,
    on_success_callback=Notifier("succeeded", only_if="notify_success"),
    params={
        "experiment": defaults.experiment_field("p0"),
        "site": defaults.site_field(),
        **{
            name: from_schema.of_experiment(key, TITLES.get(name, name.replace("_", " ").capitalize()), section(key))
            for name, key in KEYS.items()
        },
        **{name: from_schema.of_resource(name, title, "Job") for name, title in RESOURCES.items()},
        "deadline_hours": defaults.deadline_field(24 * 14),
        "register": Param(
            True,
            type="boolean",
            title="Register",
            description="Make the model a candidate, which tells the nightly evaluation of it.",
        ),
        "overrides": defaults.overrides_field(),
    },
    **defaults.dag(__doc__, "training"),
):
    checked = check(read_form)
    tasks = Tasks(checked)
    preflight = PreflightOperator(
        task_id="preflight",
        site=checked["site"],
        job_resources=checked["preflight"],
        pool=choices.pool(),
        doc_md="See whether the site is ready for the jobs.",
    )
    steps = tasks.chain(CHAINS["run"], train={"job_resources": checked["resources"]})
    tasks.publish(steps["forecast"], checked)
    register = tasks.job(
        "register",
        steps["report"],
        wanted=checked["register"],
        outlets=[CHECKPOINT],
        event={
            "experiment": checked["form"],
            "name": checked["name"],
            "overrides": checked["overrides"],
            "report": steps["report"].output["report"],
        },
    )
    preflight >> steps["prepare"]
    register >> tasks.mirror(trigger_rule="none_failed")  # a model that is not registered has a report all the same
