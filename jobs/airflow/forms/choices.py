"""What the DAGs' trigger forms offer. Read at every parse, so it stays cheap: no JAX, no xarray, no network."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from graphufs.config import loading
from graphufs.errors import UserError
from jobs.airflow.mirror import read
from jobs.site import Site, available, load

POOL = "graphufs"
"""The pool of tasks whose site is chosen in a form: Airflow fixes a task's pool before the form is filled in."""
OVERRIDE = r"^[A-Za-z_][A-Za-z0-9_.]*=[^\x00-\x1f]*$"
"""What an override looks like; whether its key and value are right, the first task says."""
WITHOUT_CREDENTIALS = r"^(?!.*storage_options)(?!.*://\S*[@?])" + OVERRIDE[1:]
"""What a form takes: it is kept in Airflow's database, so what may be a credential is refused before a run is made."""
LONGEST_MODEL = 200
"""Characters of a model's id."""
MOST_MODELS = 50
"""Models that a form proposes."""


def own_values(key: str) -> dict[str, Any]:
    """What the shipped experiments say of a key, as in `training.stages.0.updates`, by experiment."""
    found = {}
    for name, place in _loaded().items():
        for part in key.split("."):
            place = place[int(part)] if isinstance(place, list) else place[part]
        if place is not None:
            found[name] = place
    return found


@cache
def _loaded() -> dict[str, Any]:
    """The shipped experiments with every default; those that are wrong are left to the first task to complain of."""
    found = {}
    for name in loading.shipped():
        try:
            found[name] = loading.load(loading.EXPERIMENTS / f"{name}.yaml").model_dump(mode="json")
        except UserError:
            continue
    return found


@cache
def sites() -> list[str]:
    """The sites that tasks can use: not those of a debugger, nor patterns that still have <brackets> to fill in."""
    return [name for name, path in available().items() if _site(name, path) is not None]


def models() -> list[str]:
    """What a form proposes for a model: roles, then the newest models that were seen on any site."""
    return ["champion", "latest", *read.models(sites())[:MOST_MODELS]]


def pool_of(site: str) -> str | None:
    """The pool of a site that is known when the DAG is read."""
    path = available().get(site)
    found = _site(site, path) if path else None
    return found.control.pool if found else None


def pool() -> str:
    """The pool for tasks whose site is chosen in a form: that of all sites, if they have the same one."""
    pools = {pool_of(name) for name in sites()}
    return str(pools.pop()) if len(pools) == 1 else POOL


def _site(name: str, path: Path) -> Site | None:
    text = "\n".join(line.partition("#")[0] for line in path.read_text("utf-8", "replace").splitlines())
    if re.search(r"<[^<>]+>", text):
        return None
    try:
        found = load(name)
    except UserError:  # `graphufs-jobs sites NAME` says what is wrong; a DAG file must be readable all the same
        return None
    return None if found.executor == "debug" else found
