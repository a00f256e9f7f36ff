"""What a round of retraining is asked for, how a person is asked, and what becomes of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowSkipException

from graphufs import configuration
from graphufs.errors import UserError
from jobs.airflow import resolve
from jobs.airflow.settings import described, setting

PROMOTE, HOLD = "Promote", "Hold"
NOBODY = "nobody, within the time there was"
"""Who decided where a question was not answered."""


def asked(params: Mapping[str, Any]) -> dict[str, Any]:
    """What a round does, for its tasks: the experiment as YAML, and the site.

    Empty fields of the form leave it to the settings `retraining_experiment` and `retraining_site`.

    Raises
    ------
    UserError
        If something is wrong or not told at all.
    """
    wish = {
        name: params.get(name) or setting(f"retraining_{name}") or _missing(name) for name in ("experiment", "site")
    }
    overrides = list(params.get("overrides") or [])
    experiment = resolve.experiment(wish["experiment"], overrides)
    return {
        "experiment": configuration.dump(experiment),
        "site": resolve.site(wish["site"]),
        "form": wish["experiment"],
        "name": experiment.name,
        "overrides": overrides,
    }


class AskPerson(HITLOperator):
    """Ask a person whether a challenger is to become the champion, with the scorecard; no answer means no.

    Parameters
    ----------
    wanted
        Whether there is a question; False: the task is skipped.
    hours
        How long to wait for the answer.
    """

    template_fields: Sequence[str] = ("subject", "body", "wanted", "hours")

    def __init__(self, *, wanted: bool | str, hours: float | str, **kwargs: Any) -> None:
        super().__init__(**{"options": [PROMOTE, HOLD], "defaults": HOLD, **kwargs})
        self.wanted, self.hours = wanted, hours

    def execute(self, context: Context) -> Any:
        """Put the question, or skip."""
        if str(self.wanted).lower() != "true":
            raise AirflowSkipException("the rule has decided; nobody is asked")
        self.response_timeout = timedelta(hours=float(self.hours))
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """The answer, and whose it is."""
        found = super().execute_complete(context, event)
        who = (found.get("responded_by_user") or {}).get("name")
        return {"answer": found["chosen_options"][0], "by": who or NOBODY}


def _missing(name: str) -> str:
    raise UserError(
        f"no {name} is given for this retraining: choose one in the form, or set {described(f'retraining_{name}')}"
    )
