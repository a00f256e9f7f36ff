"""Fetching what a site holds into the local copy that forms and pages read.

The site is believed as far as its words go, not its paths and sizes: nothing is written outside its folder of the copy,
and of a file no more is taken than was announced. A file appears atomically, the catalogue comes after the files it
names, and what the site no longer has goes last.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from graphufs import reading
from graphufs.errors import UserError
from graphufs.storage.atomic import write_bytes
from graphufs.storage.lock import locked
from jobs.airflow.mirror import read
from jobs.airflow.sites.client import Refused, SiteClient, SiteError
from jobs.catalogue_limits import limited
from jobs.job.records import now

LARGEST = 32 * 2**20
"""Bytes of a file that is still fetched."""
TOTAL = 2**30
"""Bytes that a site's copy may have; the newest files come first."""


def refresh(client: SiteClient, site: str, say: Callable[[str], object]) -> dict[str, int]:
    """Bring a site's copy up to date; how many things there are, and how many files were fetched.

    Of a site that tells more than a copy takes (`jobs.catalogue_limits`), the newest are kept. Each file that is not
    what the site says of it is named, and left out.

    Raises
    ------
    Unreachable, SiteError
        As the client does, or if the catalogue is too large in spite of its limits. The copy is then as it was, but
        for files that were fetched already.
    """
    place = read.place(site)

    told = "waiting for another task that fetches from the same site"
    with locked(place, should_stop=lambda: False, waiting=lambda: say(told)):
        before = _before(site, say)
        content = limited(client.run("show"))
        for part, count in content["older"].items():
            say(f"{count:,} older {part} are not told of here")
        kept, left_out, fetched = [], [], 0
        size = refused = 0
        for one in _listed(content["files"], say):
            if one["bytes"] > LARGEST or size + one["bytes"] > TOTAL or refused > LARGEST:
                left_out.append(one["path"])
                continue
            target = place / read.FILES / one["path"]
            try:
                if before.get(one["path"]) != one or not target.is_file() or target.stat().st_size != one["bytes"]:
                    write_bytes(target, _fetch(client, one["path"], one["bytes"]))
                    fetched += 1
            except _Odd as error:
                refused += error.size
                say(f"{one['path']} was not fetched: {error}")
                continue
            except (Refused, OSError) as error:  # gone since; or a file is where a folder is to be
                say(f"{one['path']} was not fetched: {error}")
                continue
            kept.append(one)
            size += one["bytes"]
        if left_out:
            why = "are too large" if refused <= LARGEST else "are too large, or come after too much that was refused,"
            say(f"{len(left_out)} files {why} to be fetched: {', '.join(left_out[:10])}")
        content = {**content, "files": kept, "left_out": left_out, "mirrored": now()}
        text = json.dumps(content, separators=(",", ":")).encode()
        if len(text) > read.LARGEST:
            raise SiteError(
                f"the catalogue has {len(text):,} bytes, more than the {read.LARGEST:,} that are read; the old copy is "
                "kept"
            )
        write_bytes(place / read.CATALOGUE, text)
        _remove_others(place / read.FILES, {one["path"] for one in kept})
    counts = {name: len(content[name]) for name in ("models", "runs", "files")}
    return {**counts, "fetched": fetched, "left_out": len(left_out)}


class _Odd(Exception):
    """What came is not what the site said; with the bytes that came."""

    def __init__(self, words: str, size: int) -> None:
        super().__init__(words)
        self.size = size


def _before(site: str, say: Callable[[str], object]) -> dict[str, dict[str, Any]]:
    """The files of the copy by path; none where it cannot be read, so that all are fetched again."""
    try:
        files = (read.catalogue(site) or {}).get("files", ())
        return {one["path"]: one for one in files}
    except UserError as error:
        say(str(error))
    except (TypeError, KeyError):
        say("the copy lists no files that could be read; all are fetched again")
    return {}


def _listed(files: list[Any], say: Callable[[str], object]) -> Iterator[dict[str, Any]]:
    """The files a site names, the newest first, without those that cannot be reports and tables below its root."""
    found, folders, odd = set[str](), set[str](), list[Any]()
    for one in files:
        path, size = (one.get("path"), one.get("bytes")) if isinstance(one, dict) else (None, None)
        if not isinstance(path, str) or not read.PATH.fullmatch(path) or type(size) is not int or size < 0:
            odd.append(one)
            continue
        above = {parent.as_posix() for parent in PurePosixPath(path).parents}
        if path in found or path in folders or above & found:
            say(f"{path} was not fetched: the site lists it twice, or another file as if it were a folder")
            continue
        found.add(path)
        folders |= above
        yield {"path": path, "bytes": size, "modified": str(one.get("modified"))}
    if odd:
        say(f"{len(odd)} files that the site lists are none by path and size, as {reading.shown(odd[0])}")


def _fetch(client: SiteClient, path: str, size: int) -> bytes:
    content = client.run("fetch", path, f"--limit={size}")
    text = content.get("base64")
    came = len(text) * 3 // 4 if isinstance(text, str) else 0
    if came > size + 2:  # what the encoding adds at the end
        raise _Odd(f"the site says that it has {size:,} bytes, and sent some {came:,}", came)
    try:
        data = base64.b64decode(str(text), validate=True)
    except ValueError:
        raise _Odd("what came is no file", came) from None
    if len(data) != size:
        raise _Odd(f"the site says that it has {size:,} bytes, and sent {len(data):,}", came)
    if hashlib.sha256(data).hexdigest() != content.get("sha256"):
        raise _Odd("it was not transferred completely; it is fetched again next time", came)
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
