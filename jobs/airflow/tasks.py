"""The tasks that the DAGs are made of: `check`, steps as jobs of the site that it found, and the mirror at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow.sdk import Context, XComArg, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

from graphufs.errors import UserError
from graphufs.steps import STEPS
from jobs.airflow.forms import choices
from jobs.airflow.operators.job import JobOperator
from jobs.airflow.operators.site import MirrorOperator

PUBLISH = "publish"
"""The task that is skipped where there are no products."""


def check(look: Callable[[Context], dict[str, Any]]) -> XComArg:
    """The first task, `check`: what `look` finds in a run's context. A UserError fails it without a retry.

    Where that says that there are no `products`, `publish` is skipped at once: no worker starts to find it out.
    """

    def check() -> dict[str, Any]:
        try:
            found = look(get_current_context())
        except UserError as error:
            raise AirflowFailException(str(error)) from None
        if found.get("products") == []:
            skip(PUBLISH)
        return found

    check.__doc__ = look.__doc__
    return task(pool=choices.pool())(check)()


def skip(task_id: str) -> None:
    """Have a task of the run skipped that did not begin yet, as Airflow's own branches do."""
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import SkipDownstreamTasks

    task_runner.SUPERVISOR_COMMS.send(SkipDownstreamTasks(tasks=[task_id]))


class Tasks:
    """Makes tasks that share what `check` found: `site`, `experiment` and `deadline_hours`.

    `same` has further arguments of all jobs, or others instead of those.
    """

    def __init__(self, checked: XComArg, **same: Any) -> None:
        self.place = {"site": checked["site"], "pool": choices.pool()}
        self.same = {"experiment": checked["experiment"], "deadline": checked["deadline_hours"], **same}

    def job(self, step: str, after: JobOperator | None = None, **own: Any) -> JobOperator:
        """A step as a task, which needs the job of another one; `own` has further arguments of the operator."""
        needs = [] if after is None else [after.output["job"]]
        given = {"task_id": step, "step": step, "doc_md": STEPS[step].summary, "needs": needs}
        return JobOperator(**{**given, **self.place, **self.same, **own})

    def chain(self, steps: Sequence[str], **own: Mapping[str, Any]) -> dict[str, JobOperator]:
        """Steps as tasks one after the other, by step; `own` has further arguments of some of them.

        What comes after a plan is given the experiment that it planned, and what that adds to the request. A plan
        itself looks at what there is, so it waits for the task before it, but its job needs no other one.
        """
        made: dict[str, JobOperator] = {}
        planned: dict[str, Any] = {}
        before = None
        for step in steps:
            plans = STEPS[step].plans
            now = made[step] = self.job(step, None if plans else before, **planned, **own.get(step, {}))
            if plans:
                asked = [*self.same.get("request", ()), now.output["request"]]
                planned = {"experiment": now.output["experiment"], "request": asked}
                if before is not None:
                    before >> now
            before = now
        return made

    def publish(self, forecast: JobOperator, checked: XComArg, **own: Any) -> JobOperator:
        """The forecasts in the formats of forecast.products, where there are any; nothing waits for it."""
        return self.job(PUBLISH, forecast, wanted=checked["products"], **own)

    def mirror(self, **own: Any) -> MirrorOperator:
        """The last task: fetch what forms and pages show of what the others have made."""
        return MirrorOperator(**{"task_id": "mirror", **self.place, **own})
