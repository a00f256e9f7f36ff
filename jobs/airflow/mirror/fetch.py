"""Fetching what a site holds into the local copy that forms and pages read.

The site is believed as far as its words go, not its paths: nothing is written outside its folder of the copy. A file
appears atomically, the catalogue comes after the files it names, and what the site no longer has goes last.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from graphufs.storage.atomic import write_bytes, write_json
from graphufs.storage.lock import locked
from jobs.airflow.mirror import read
from jobs.airflow.sites.client import Refused, SiteClient, SiteError
from jobs.job.folder import now

LARGEST = 32 * 2**20
"""Bytes of a file that is still fetched."""
TOTAL = 2**30
"""Bytes that a site's copy may have; the newest files come first."""


def refresh(client: SiteClient, site: str, say: Callable[[str], object]) -> dict[str, int]:
    """Bring a site's copy up to date; how many things there are, and how many files were fetched.

    Raises
    ------
    Unreachable, SiteError
        As the client does. The copy is then as it was, but for files that were fetched already.
    """
    place = read.place(site)

    told = "waiting for another task that fetches from the same site"
    with locked(place, should_stop=lambda: False, waiting=lambda: say(told)):
        before = {one["path"]: one for one in (read.catalogue(site) or {}).get("files", ())}
        content = client.run("show")
        kept, left_out, fetched = [], [], 0
        size = 0
        for one in sorted(_listed(content.get("files", ())), key=lambda one: str(one["modified"]), reverse=True):
            if one["bytes"] > LARGEST or size + one["bytes"] > TOTAL:
                left_out.append(one["path"])
                continue
            target = place / read.FILES / one["path"]
            if before.get(one["path"]) != one or not target.is_file() or target.stat().st_size != one["bytes"]:
                try:
                    data = _fetch(client, one["path"])
                except Refused as error:  # gone since
                    say(f"{one['path']} was not fetched: {error}")
                    continue
                write_bytes(target, data)
                fetched += 1
            kept.append(one)
            size += one["bytes"]
        if left_out:
            say(f"{len(left_out)} files are too large to be fetched: {', '.join(left_out[:10])}")
        content = {**content, "files": kept, "left_out": left_out, "mirrored": now()}
        write_json(place / read.CATALOGUE, content)
        _remove_others(place / read.FILES, {one["path"] for one in kept})
    counts = {name: len(content.get(name, ())) for name in ("models", "runs", "files")}
    return {**counts, "fetched": fetched, "left_out": len(left_out)}


def _listed(files: Any) -> Iterable[dict[str, Any]]:
    """The files a site names, without those whose paths are not those of reports and tables below its root."""
    for one in files if isinstance(files, list) else ():
        path, size = one.get("path"), one.get("bytes")
        if isinstance(path, str) and read.PATH.fullmatch(path) and isinstance(size, int) and size >= 0:
            yield {"path": path, "bytes": size, "modified": str(one.get("modified"))}


def _fetch(client: SiteClient, path: str) -> bytes:
    content = client.run("fetch", path, f"--limit={LARGEST}")
    data = base64.b64decode(content["base64"], validate=True)
    if hashlib.sha256(data).hexdigest() != content["sha256"] or len(data) > LARGEST:
        raise SiteError(f"{path} was not transferred completely; it is fetched again next time")
    return data


def _remove_others(folder: Path, kept: set[str]) -> None:
    """Remove what the site no longer has, what writers that died have left, and folders that are empty then."""
    for path, folders, names in os.walk(folder, topdown=False):
        for name in names:
            if Path(path, name).relative_to(folder).as_posix() not in kept:
                Path(path, name).unlink()
        for name in folders:
            if not any(Path(path, name).iterdir()):
                Path(path, name).rmdir()
