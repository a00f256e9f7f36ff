"""The page's addresses. Each asks Airflow who is there, nothing but listed files of the copies is handed out.

What sites say is shown as text. Reports, which are HTML, are shown in a frame without scripts, forms and an origin of
its own, and their answers forbid the same by themselves, for those who open them beside the page.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import requires_access_view
from fastapi import Depends, FastAPI, HTTPException, Query, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from graphufs.vocabulary import labels
from jobs.airflow.forms import choices
from jobs.airflow.mirror import read
from jobs.airflow.page import charts, contents, formatting

OURS = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; frame-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)
THEIRS = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)
"""For what a site wrote: no script, no request anywhere, no origin that could read Airflow's cookie."""
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}

Name = Annotated[str, Query(max_length=200)]
Path_ = Annotated[str, Query(max_length=2500)]

# No pages on the application itself, which would lie outside the login.
app = FastAPI(
    docs_url=None,
    redoc_url=None,
    openapi_url=None,
    dependencies=[Depends(requires_access_view(AccessView.WEBSITE))],
)


@app.get("/")
def page() -> Response:
    """Champions, candidates, nightly scores, jobs, reports, history."""
    now = datetime.now(UTC)
    sites = [contents.site(name) for name in sorted({*choices.sites(), *read.sites()})]
    return _html("page.html.j2", sites=sites, experiments=contents.experiments(sites), now=now)


@app.get("/report")
def report(site: Name, path: Path_) -> Response:
    """A report in its frame, with the way back."""
    _file(site, path)
    return _html("report.html.j2", site=site, path=path)


@app.get("/file")
def file(site: Name, path: Path_) -> Response:
    """A file of a site's copy, as the site wrote it."""
    found = _file(site, path)
    return _answer(found.read_bytes(), KINDS[found.suffix], THEIRS)


@app.get("/style.css")
def style() -> Response:
    """The page's style."""
    return _answer(_own("style.css"), "text/css; charset=utf-8", OURS)


@app.get("/icon")
def icon() -> Response:
    """The sign in Airflow's menu."""
    return _answer(_own("icon.svg"), KINDS[".svg"], THEIRS)


def _own(name: str) -> bytes:
    return (Path(__file__).parent / "templates" / name).read_bytes()


def _file(site: str, path: str) -> Path:
    try:
        return contents.file(site, path)
    except LookupError as error:
        raise HTTPException(404, str(error)) from None


def _html(template: str, **values: Any) -> Response:
    return _answer(_templates().get_template(template).render(**values).encode(), KINDS[".html"], OURS)


def _answer(content: bytes, kind: str, policy: str) -> Response:
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "private, no-store",
    }
    return Response(content, media_type=kind, headers=headers)


@cache
def _templates() -> Environment:
    loader = PackageLoader("jobs.airflow.page")
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    names = ("ago", "size", "number", "duration", "period", "pretty")
    found.filters |= {name: getattr(formatting, name) for name in names}
    found.globals |= {
        "chart": charts.chart,
        "forecast": labels.forecast_name,
        "target": formatting.target,
        "costs": formatting.costs,
    }
    return found
