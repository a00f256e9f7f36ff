"""A site's small copy, brought up to date as a task."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowSkipException

from jobs.airflow.mirror.fetch import refresh
from jobs.airflow.operators.site import SiteCommand
from jobs.airflow.sites.client import SiteClient, Unreachable


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
            done = refresh(client, self.site, lambda words: self.log.info("%s", words))
        except Unreachable as error:
            raise AirflowSkipException(f"site {self.site} is unreachable, the old copy is kept: {error}") from None
        self.log.info("Models: %(models)s, runs: %(runs)s, files: %(files)s, fetched: %(fetched)s", done)
        return done
