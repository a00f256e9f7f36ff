"""What a round of retraining or a rollback is asked for, how a person is asked, and what `decide` is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Context
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowSkipException

from graphufs.config import loading
from jobs.airflow.forms import validate
from jobs.airflow.settings import required

PROMOTE, HOLD = "Promote", "Hold"
NOBODY = "nobody, within the time there was"
"""Who decided where a question was not answered."""


def asked(params: Mapping[str, Any], night: date, *, then: str | None = None, **wish: Any) -> dict[str, Any]:
    """What a round or a rollback does, for its tasks: the experiment as YAML, the request, and the site.

    Empty fields of the form leave it to the settings `retraining_experiment` and `retraining_site`. The embedded world
    goes on up to the `night`. What follows a gain `then` says, or where it is None the experiment. `wish` has more
    fields of the request; those that are None ask for nothing.

    Raises
    ------
    UserError
        If something is wrong or not told at all.
    """
    experiment, site = (params.get(name) or required("retraining", name) for name in ("experiment", "site"))
    wish = {"night": night.isoformat(), **wish}
    return validate.asked(experiment, site, {"retraining.then": then}, wish, params.get("overrides") or [])


def told(answered: Mapping[str, Any] | None, used: Mapping[str, Any] | None) -> dict[str, Any]:
    """What is asked of `decide` besides the plan: a person's answer, and to keep what the training cost."""
    fields: dict[str, Any] = {"cost": dict(used or {})}
    if answered:
        fields |= {"answer": answered["answer"].lower(), "decided_by": answered["by"][:200]}
    return loading.request(fields).given


def outcome(decision: str, answered: Mapping[str, Any] | None) -> dict[str, bool]:
    """Which of the tasks `promote` and `hold` has something to do."""
    if decision == "ask":
        decision = "promote" if answered and answered["answer"] == PROMOTE else "hold"
    return {"promote": decision == "promote", "hold": decision != "promote"}


class AskPerson(HITLOperator):
    """Ask a person whether a challenger is to become the champion, with the scorecard; no answer in `hours` means no.

    The task is skipped unless `ask` is the `decision`, which is what the rule says.
    """

    body: str
    template_fields: Sequence[str] = ("subject", "body", "decision", "hours")

    def __init__(self, *, decision: str, hours: float | str, **kwargs: Any) -> None:
        super().__init__(**{"options": [PROMOTE, HOLD], "defaults": HOLD, **kwargs})
        self.decision, self.hours = decision, hours

    def execute(self, context: Context) -> Any:
        """Put the question, or skip.

        Raises
        ------
        AirflowSkipException
            If the rule decides without asking.
        """
        if self.decision != "ask":
            raise AirflowSkipException(f"the rule says {self.decision}; nobody is asked")
        self.response_timeout = timedelta(hours=float(self.hours))
        page = f"{conf.get('api', 'base_url', fallback='').rstrip('/')}/plugin/models"
        self.body = f"{self.body}\n\nHistory, scores and reports: [Models]({page})"
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """The answer, and whose it is."""
        found = super().execute_complete(context, event)
        who = (found.get("responded_by_user") or {}).get("name")
        return {"answer": found["chosen_options"][0], "by": who or NOBODY}
