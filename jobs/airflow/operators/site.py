"""Tasks that ask a site something short. While a site is unreachable, most of them wait without a worker."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException, TaskDeferred

from graphufs.errors import UserError
from jobs.airflow.mirror.fetch import refresh
from jobs.airflow.operators.trigger import SiteTrigger
from jobs.airflow.sites.client import Refused, SiteClient, SiteError, Unreachable

PREFLIGHT = 900.0
"""Seconds for a site's preflight: it starts the job's Python, and asks Slurm once a step."""


class SiteCommand(BaseOperator):
    """Ask a site; `ask` says what. A site that cannot be asked is waited for as long as `patience` says."""

    template_fields: Sequence[str] = ("site",)
    ui_color = "#eef3db"

    def __init__(self, *, site: str, patience: timedelta = timedelta(days=7), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.site, self.patience = site, patience

    def ask(self, client: SiteClient, context: Context) -> Any:
        """What the task is about.

        Raises
        ------
        Unreachable, SiteError
            As the client does.
        """
        raise NotImplementedError

    def execute(self, context: Context) -> Any:
        """Ask, or wait until that is possible."""
        return self._ask(context, time.time() + self.patience.total_seconds())

    def execute_again(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on when the site can be asked again.

        Raises
        ------
        AirflowFailException
            If the deadline passed before the site could be asked.
        """
        if event.get("late"):
            raise AirflowFailException(f"site {self.site} was unreachable for {self.patience}")
        return self._ask(context, event["deadline"])

    def _ask(self, context: Context, deadline: float) -> Any:
        try:
            return self.ask(SiteClient.load(self.site), context)
        except Unreachable as error:
            self.log.warning("Site %s is unreachable: %s. Waiting until it answers", self.site, error)
            raise TaskDeferred(trigger=SiteTrigger(self.site, deadline), method_name="execute_again") from None
        except (UserError, Refused) as error:
            raise AirflowFailException(f"site {self.site} says: {error}") from None
        except SiteError as error:
            raise AirflowException(f"site {self.site}: {error}") from None


class MirrorOperator(SiteCommand):
    """Fetch what forms and pages need from a site; skipped, keeping the old copy, if the site is unreachable."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"doc_md": "Fetch what forms and pages show from the site.", **kwargs})

    def ask(self, client: SiteClient, context: Context) -> Any:
        """What was fetched, removed and left out.

        Raises
        ------
        AirflowSkipException
            If the site cannot be reached; the old copy stays.
        """
        try:
            done = refresh(client, self.site, lambda words: self.log.warning("%s", words))
        except Unreachable as error:
            raise AirflowSkipException(f"site {self.site} is unreachable, the old copy is kept: {error}") from None
        self.log.info("Models: %(models)s, runs: %(runs)s, files: %(files)s, fetched: %(fetched)s", done)
        return done


class PreflightOperator(SiteCommand):
    """See whether a site has all that jobs will need, before anything waits in a queue for hours.

    `job_resources` are those that the jobs of a step will be asked for with, as in `["train.gpus=2"]`.
    """

    template_fields: Sequence[str] = ("site", "job_resources")

    def __init__(self, *, job_resources: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job_resources = job_resources

    def ask(self, client: SiteClient, context: Context) -> Any:
        """The findings; what is missing fails the task.

        Raises
        ------
        AirflowFailException
            If the site is not ready.
        """
        wanted = [f"--resource={one}" for one in self.job_resources]
        content = client.run("sites", "--check", *wanted, timeout=PREFLIGHT)
        bad = []
        for finding in content["findings"]:
            word = {True: "ok", False: "MISSING", None: "note"}[finding["good"]]
            self.log.info("%-16s %-8s %s", finding["what"], word, finding["words"])
            bad += [f"{finding['what']}: {finding['words']}"] if finding["good"] is False else []
        if bad:
            raise AirflowFailException(f"site {self.site} is not ready: {'; '.join(bad)}")
        return content["findings"]
