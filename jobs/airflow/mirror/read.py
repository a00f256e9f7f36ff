"""The local copy of what sites hold, for forms and pages: read without asking any site.

    $GRAPHUFS_MIRROR/<site>/catalogue.json    what `graphufs-jobs show` said, and when
                            files/...         reports and tables, at their paths below the site's root

By default it lies in `$AIRFLOW_HOME/graphufs-mirror`. Everything that reads it must see the same folder: workers, the
DAG processor, and the API server where pages are shown. `jobs.airflow.mirror.fetch` writes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any

from graphufs.errors import UserError
from jobs.catalogue_limits import ENDINGS, PART

CATALOGUE, FILES = "catalogue.json", "files"
PATH = re.compile(rf"{PART}(/{PART}){{0,9}}{ENDINGS}")
"""What the path of a file in a copy looks like."""
LARGEST = 16 * 2**20
"""Bytes of a catalogue that is still read."""


def folder() -> Path:
    """The folder of all sites' copies."""
    home = Path(os.environ.get("AIRFLOW_HOME", "~/airflow"))
    return Path(os.environ.get("GRAPHUFS_MIRROR") or home / "graphufs-mirror").expanduser().absolute()


def sites() -> list[str]:
    """The sites that there are copies of."""
    return sorted(path.parent.name for path in folder().glob(f"[A-Za-z0-9_]*/{CATALOGUE}"))


def place(site: str) -> Path:
    """The folder of a site's copy.

    Raises
    ------
    UserError
        If that is not the name of a site.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", site):
        raise UserError(f"{site!r} is not the name of a site")
    return folder() / site


def catalogue(site: str) -> dict[str, Any] | None:
    """What the site held when it was last looked at; None if it never was.

    Raises
    ------
    UserError
        If the copy cannot be read, or is larger than one that `fetch` writes.
    """
    path = place(site) / CATALOGUE
    try:
        with open(path, "rb") as file:
            text = file.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise ValueError(f"it has more than the {LARGEST:,} bytes that are read")
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError("it is no catalogue")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"the copy {path} cannot be read: {error}; the DAG catalogue fetches it again, `graphufs-jobs show` tells "
            "the same on the site"
        ) from None
    return content


def models(sites: list[str]) -> list[str]:
    """The ids of the models there are on some sites, the newest first; of a copy that cannot be read, none."""
    found = []
    for site in sites:
        with contextlib.suppress(UserError):  # a form must come up; the page and the DAG catalogue tell of it
            told = (catalogue(site) or {}).get("models")
            found += [one for one in (told if isinstance(told, list) else ()) if isinstance(one, dict)]
    ordered = sorted(found, key=lambda model: str(model.get("registered", "")), reverse=True)
    return list(dict.fromkeys(str(model["id"]) for model in ordered if model.get("id")))
