"""What Airflow loads, as the entry point `airflow.plugins` of this package: a page, and where its menu shows it."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

PREFIX = "/graphufs"
"""Where the page lies below Airflow's own address."""


class ModelsPlugin(AirflowPlugin):
    """The page of models. Every process of Airflow loads this; the API server alone asks for the application."""

    name = "graphufs"
    external_views = [
        {"name": "Models", "href": f"{PREFIX}/", "destination": "nav", "url_route": "models", "icon": f"{PREFIX}/icon"}
    ]

    @property
    def fastapi_apps(self) -> list[dict[str, Any]]:
        """The application, made when it is asked for: what it imports, workers and schedulers do without."""
        from jobs.airflow.page.app import app

        return [{"app": app, "url_prefix": PREFIX, "name": "Models of graph-ufs"}]
