"""A step of an experiment as a task: submitted to a site, waited for without holding a worker, and never run twice."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException, TaskDeferred

from graphufs.errors import UserError
from jobs.airflow import messages
from jobs.airflow.forms import choices
from jobs.airflow.keys import Origin, instance, job_key
from jobs.airflow.operators.trigger import JobTrigger, SiteTrigger
from jobs.airflow.sites.client import Refused, SiteClient, SiteError, Unreachable

JOB, NUMBER, RESULT, USED = "job", "job_id", "result", "used"
"""XComs: the job's key, its scheduler's number, the step's result where it is skipped for it, what the job used."""
LIFE = "tries"
"""What the task's store keeps: how many tries the task could have when its job was submitted."""
CROSSING = 300.0
"""Seconds for which a cancelling may be on its way that an earlier try of the same task asked for."""


class JobOperator(BaseOperator):
    """Run a step of an experiment as a job of a site.

    The job is known by a key made of DAG, run, task and map index. Whatever happens to the task (a retry, a clear, the
    death of any of Airflow's processes), it finds the same job again. A job that did not end well was tried again by
    the job layer as often as the site's policy allows; so such an end fails the task without a retry.

    The experiment is the name of a shipped one, the path of a YAML file, or the YAML itself, with `overrides` as in
    `training.batch_size=8`. The `request` asks things of the run, by field of `graphufs.config.request.Request`; of
    several the later go before the earlier, and the step is given the fields that it reads. `job_resources` override
    what the site gives the job, as in `gpus=2` (`resources` is a word of Airflow's own). The job `needs` those of these
    keys to complete first. After the `deadline`, a time or hours, waiting in the queue included, the job is cancelled
    and the task fails. `force` does finished work again, which matters only with a `key` of one's own.

    A task that is not `wanted` is skipped; so is one whose result's list of the name `skip_without` is empty, with the
    result's message. The assets' events say what `event` has besides the step's result.
    """

    template_fields: Sequence[str] = (
        "step",
        "experiment",
        "site",
        "overrides",
        "request",
        "job_resources",
        "needs",
        "force",
        "key",
        "deadline",
        "wanted",
        "event",
    )
    ui_color = "#dbe7f3"

    def __init__(
        self,
        *,
        step: str,
        experiment: str,
        site: str,
        overrides: Sequence[str] = (),
        request: Sequence[Mapping[str, Any] | None] = (),
        job_resources: Sequence[str] = (),
        needs: Sequence[str] = (),
        deadline: timedelta | float | str | None = None,
        force: bool | str = False,
        key: str | None = None,
        wanted: bool = True,
        skip_without: str | None = None,
        event: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if "pool" not in kwargs and isinstance(site, str) and (pool := choices.pool_of(site)):
            kwargs["pool"] = pool
        super().__init__(**{"multiple_outputs": True, **kwargs})
        self.step, self.experiment, self.site = step, experiment, site
        self.overrides, self.request = overrides, request
        self.job_resources, self.needs = job_resources, needs
        self.deadline, self.force, self.key = deadline, force, key
        self.wanted, self.skip_without, self.event = wanted, skip_without, event
        self._job: str | None = None
        self._client_: SiteClient | None = None

    def execute(self, context: Context) -> Any:
        """Submit the job, or find it again, and wait for it in the triggerer.

        Raises
        ------
        AirflowSkipException
            If the run does not want this step.
        """
        if not self.wanted:
            raise AirflowSkipException(f"{self.step} is not wanted in this run")
        deadline = None if self._patience is None else time.time() + self._patience.total_seconds()
        return self._submit(context, deadline)

    def execute_again(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on when the site can be asked again.

        Raises
        ------
        AirflowFailException
            If the deadline passed before the site could be asked.
        """
        if event.get("late"):
            raise AirflowFailException(
                f"{self.step} was not submitted: site {self.site} was unreachable until the deadline of "
                f"{self._patience}; if an earlier command reached the site, `graphufs-jobs cancel "
                f"{self._key(context)} --site {self.site}` ends the job it started"
            )
        return self._submit(context, event.get("deadline"))

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """See what became of the job.

        Raises
        ------
        AirflowFailException
            If the deadline passed before the job was done, or the job failed.
        """
        self._job = event["key"]
        if event.get("late"):
            state = (
                f"is {messages.state(event)}" if event.get("cancelled") else f"was NOT cancelled: {event['message']}"
            )
            raise AirflowFailException(
                f"{self.step} was not done by its deadline of {self._patience}; the job {event['key']} {state}"
            )
        attached = event.get("attached")
        if event["state"] == "CANCELLED" and attached is not None and time.time() - attached < CROSSING:
            # an earlier try of this task, since cleared, asked to cancel; that arrived after we attached
            self.log.warning(
                "A cancel requested by an earlier try arrived late and ended the job; submitting it again, once"
            )
            return self._submit(context, event.get("deadline"), again=True)
        return self._finish(context, event)

    def on_kill(self) -> None:
        """Cancel the job while the task is on a worker; later the trigger does."""
        if self._job is None:
            return
        for _ in range(3):
            try:
                content = self._client().run("cancel", self._job, timeout=60)
            except (Unreachable, SiteError) as error:  # the submission may be on its way still
                self.log.warning("Job %s is not cancelled yet: %s", self._job, error)
                time.sleep(2)
            else:
                self.log.info("Cancelled: job %s is %s", self._job, messages.state(content["jobs"][0]))
                return
        self.log.error("Job %s could not be cancelled", self._job)

    # submitting

    def _submit(self, context: Context, deadline: float | None, *, again: bool = False) -> Any:
        self._job = self._key(context)
        context["ti"].xcom_push(key=JOB, value=self._job)  # before it is submitted: who watches sees it work at once
        store = context.get("task_state_store")
        try:
            content = None if again else self._failed_before(context, store)
            if content is None:
                content = self._client().run(*self._arguments(context, store), stdin=self._experiment())
        except UserError as error:
            raise AirflowFailException(f"{self.step} was not submitted: {error}") from None
        except Refused as error:
            raise AirflowFailException(f"{self.step} was not submitted: site {self.site} says: {error}") from None
        except Unreachable as error:
            # it may have come through all the same: the next submission of the key will attach to it
            self.log.warning("Site %s is unreachable: %s. Waiting until it answers", self.site, error)
            raise TaskDeferred(trigger=SiteTrigger(self.site, deadline), method_name="execute_again") from None
        except SiteError as error:
            raise AirflowException(f"{self.step} was not submitted: site {self.site}: {error}") from None
        answer = {**content["jobs"][0], "site": self.site}
        self.log.info("Job %s %s: %s", answer["key"], answer["what"], messages.state(answer))
        ti = context["ti"]
        if answer.get("id"):
            ti.xcom_push(key=NUMBER, value=answer["id"])
        if store is not None:
            store.set(LIFE, ti.max_tries)
            if self._forced:
                store.set("forced", True)
        if answer["state"] == "COMPLETED" or answer["over"]:
            for line in str(answer.get("log") or "").splitlines():
                self.log.info("%s", line)
            return self._finish(context, answer)
        found = answer["what"] != "submitted" and not again and (ti.try_number or 1) > 1
        attached = time.time() if found else None
        trigger = JobTrigger(self.site, answer["key"], None, deadline, attached)
        raise TaskDeferred(trigger=trigger, method_name="execute_complete")

    def _failed_before(self, context: Context, store: Any) -> dict[str, Any] | None:
        """The job of an earlier try, where that has failed and it is Airflow, not a person, that tries again.

        Airflow 3.3.2 takes a resumed task for killed, and tries it again whatever it raised, where the scheduler hears
        of the end of its first part only then. A person who clears the task gives it more tries than it had.
        """
        ti = context["ti"]
        life = None if store is None else store.get(LIFE)
        if life is None or (ti.try_number or 1) < 2 or life != ti.max_tries:
            return None
        try:
            content = self._client().run("status", str(self._job))
        except Refused:  # there is no such job
            return None
        job = content["jobs"][0]
        if not job["over"] or job["state"] in ("COMPLETED", "CANCELLED"):
            return None
        return {"jobs": [{"what": "failed in an earlier try", **job}]}

    @property
    def _patience(self) -> timedelta | None:
        if self.deadline is None or isinstance(self.deadline, timedelta):
            return self.deadline
        try:
            return timedelta(hours=float(self.deadline))
        except (TypeError, ValueError, OverflowError):
            raise AirflowFailException(
                f"the deadline {self.deadline!r} is not a number of hours; write it like 12 or 0.5"
            ) from None

    @property
    def _forced(self) -> bool:
        return str(self.force).strip().lower() in ("true", "1", "yes")

    def _key(self, context: Context) -> str:
        return self.key or job_key(*astuple(self._origin(context)), instance=instance())

    @staticmethod
    def _origin(context: Context) -> Origin:
        ti = context["ti"]
        return Origin(ti.dag_id, ti.run_id, ti.task_id, -1 if ti.map_index is None else ti.map_index)

    def _client(self) -> SiteClient:
        if self._client_ is None or self._client_.name != self.site:
            self._client_ = SiteClient.load(self.site)
        if self._client_.site.executor == "debug":
            raise UserError(f"the site {self.site} runs steps in a debugger, which a task has no terminal for")
        return self._client_

    def _arguments(self, context: Context, store: Any) -> list[str]:
        """What is submitted. Whatever a person typed stands behind an equals sign, so that it is never an option."""
        from graphufs.config import loading
        from graphufs.config.request import Request, words
        from graphufs.steps import STEPS
        from jobs.job.folder import KEY

        if self.step not in STEPS:
            raise UserError(f"{self.step!r} is not a step; the steps are {', '.join(STEPS)}")
        for key in (self._job or "", *self.needs):
            if not KEY.fullmatch(key):
                raise UserError(
                    f"{key!r} is not a job key; use letters, digits, dots, dashes and underscores, at most 151"
                )
        arguments = ["submit", self.step, "-", f"--key={self._job}"]
        arguments += [f"--label={name}={value}" for name, value in self._origin(context).labels(instance()).items()]
        arguments += [f"--needs={key}" for key in self.needs]
        asked = Request()
        for one in self.request:
            asked |= loading.request(one)
        arguments += [f"--request={word}" for word in words(asked.only(STEPS[self.step].asks).given)]
        arguments += [f"--resource={one}" for one in self.job_resources]
        if seconds := self._client().site.control.first_wait:
            arguments.append(f"--first-wait={seconds}")
        if self._forced and not (store is not None and store.get("forced")):  # once, not at each try
            arguments.append("--force")
        return arguments

    def _experiment(self) -> str:
        """The experiment with every default, as YAML; what the site takes for a request stays in it."""
        from graphufs.config import credentials, loading

        name, names = self.experiment, loading.shipped()
        if "\n" in name:
            found, former = loading.parse_run(name, list(self.overrides))
        elif name in names or name.endswith(".yaml"):
            found, former = loading.load_run(loading.resolve(name), list(self.overrides))
        else:
            raise UserError(f"there is no experiment {name!r}; there are {', '.join(names)}, or a path ending in .yaml")
        credentials.require_named(found)
        return loading.dump(found, former if former.given else None)

    # the end

    def _finish(self, context: Context, answer: dict[str, Any]) -> Any:
        """The step's result, or the failure."""
        ti = context["ti"]
        if answer.get("id"):
            ti.xcom_push(key=NUMBER, value=answer["id"])
        self._tell_history(ti, answer)
        if answer["state"] != "COMPLETED":
            raise AirflowFailException(messages.failure(answer))
        result = dict((answer.get("result") or {}).get("result") or {})
        result = {**result, "job": answer["key"], "site": self.site}
        if result.get("message"):
            self.log.info("%s: %s", self.step, result["message"])
        for word in result.get("warnings", ()):
            self.log.warning("%s: %s", self.step, word)
        for hole in result.get("holes", ()):
            self.log.warning("%s: a hole at %s: %s", self.step, hole["initial_time"], hole["why"])
        if self.skip_without and not result.get(self.skip_without):
            ti.xcom_push(key=RESULT, value=result)
            raise AirflowSkipException(str(result.get("message") or f"{self.step} found nothing to do"))
        for asset in self.outlets:
            context["outlet_events"][asset].extra = {**result, "step": self.step, **(self.event or {})}
        return result

    def _tell_history(self, ti: Any, answer: dict[str, Any]) -> None:
        """Write segments and GPU-hours into the log and an XCom; not getting them does not fail the task."""
        try:
            history = answer.get("history")
            if history is None:
                history = self._client().run("status", answer["key"], "--history", timeout=60)["histories"][0]
            ti.xcom_push(key=USED, value=history.get("used"))
            for one in history["segments"]:
                hours = f", {one['gpu_hours']:.2f} GPU-hours" if one.get("gpu_hours") else ""
                self.log.info(
                    "Attempt %s, id %s on %s, %s to %s: %s%s",
                    *(one.get(name) or "?" for name in ("attempt", "id", "nodes", "start", "end", "reason")),
                    hours,
                )
        except (Unreachable, SiteError, LookupError, TypeError) as error:
            self.log.info("The job's history cannot be shown: %s", error)
