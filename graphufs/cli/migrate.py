"""`graphufs migrate`: bring what earlier versions left below a root to the formats of this one.

Outputs are named by what made them and are never rewritten: a format that changes gives them another name. What keeps
its name (checkpoints' descriptions, events of the registry, intents and attempts of jobs) says its format, and is
rewritten by `STEPS`, a file at a time, each in one step: a migration that was killed is repeated. What this version
keeps twice and earlier ones did not gets its second copy. Commits that a killed `prepare` left beside a manifest are
put into it, so that earlier versions read it, too.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.text import Text

from graphufs.cli.ending import DONE, FAILED
from graphufs.cli.terminal import console
from graphufs.errors import UserError
from graphufs.registry import event_files
from graphufs.storage import formats
from graphufs.storage.atomic import write_bytes, write_json
from graphufs.storage.checksums import CHECKED, Damaged, read_checked, write_checked
from graphufs.storage.lock import locked

PLACES = {
    "data": ("data/*/manifest.json",),
    "checkpoint": ("runs/*/*/checkpoints/[0-9]*/meta.json",),
    "registry": ("registry/history/[0-9]*.json", "registry/copies/[0-9]*.json"),
    "job": ("jobs/*/intent.json", "jobs/*/attempts/*/attempt.json"),
}
"""Where the files are that say their format, by kind."""
STEPS: dict[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""By kind and format what makes a file's content that of the next format. So far every file of version 0.1.0 is read
as it is, so there is none."""


@dataclass(frozen=True)
class Change:
    """Something that is to be done: to which file, what, and how."""

    path: Path
    what: str
    make: Callable[[], object]


def migrate(
    root: Path,
    *,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> int:
    """Bring what earlier versions left below ROOT to the formats of this one; it may be repeated, and killed.

    Everything that earlier versions made stays readable without it. A root in which a later version has worked is
    refused. Exit code 1: something could not be read; it is named and left as it is.

    Parameters
    ----------
    root
        The root folder.
    dry_run
        Say what would be done, and do nothing.
    json_
        Print JSON.

    Raises
    ------
    UserError
        If there is no such folder, or a later version has worked in it.
    """
    if not root.is_dir():
        raise UserError(f"there is no folder {root}; give the root that holds data, runs and jobs")
    counts: Counter[tuple[str, int]] = Counter()
    unread: list[str] = []
    formats.require_root(root, note=not dry_run)
    changes = [*_documents(root, counts, unread), *_second_copies(root)]
    for change in () if dry_run else changes:
        change.make()
    if json_:
        found = [{"kind": kind, "format": number, "files": count} for (kind, number), count in sorted(counts.items())]
        told = [{"path": str(change.path), "what": change.what} for change in changes]
        print(json.dumps({"formats": found, "changes": told, "made": not dry_run, "unread": unread}, indent=2))
        return FAILED if unread else DONE
    out = console()
    for (kind, number), count in sorted(counts.items()):
        out.print(f"{kind}: {count} files of format {number}; this version writes {formats.FORMATS[kind]}")
    for change in changes:
        out.print(Text(f"{change.path}: {change.what}"), soft_wrap=True)
    for line in unread:
        console(stderr=True).print(Text(f"warning: {line}", "yellow"), soft_wrap=True)
    done = "would be made without --dry-run" if dry_run else "made"
    out.print(f"{len(changes)} changes {done}" if changes else "nothing needs changing")
    return FAILED if unread else DONE


def _documents(root: Path, counts: Counter[tuple[str, int]], unread: list[str]) -> list[Change]:
    """Changes of format. All files are looked at before the first is changed.

    Raises
    ------
    UserError
        If one is of a later format.
    """
    changes = []
    for kind, patterns in PLACES.items():
        for path in sorted(one for pattern in patterns for one in root.glob(pattern)):
            try:
                found = read_checked(path).get("format", 1)
            except FileNotFoundError:
                continue
            except (OSError, Damaged) as error:
                unread.append(f"{path} cannot be read and is left as it is ({error})")
                continue
            if kind == "data" and found == _manifests().JOURNALED:
                changes.append(Change(path, "takes up the commits beside it", partial(_take_up, path.parent)))
                found = formats.FORMATS[kind]
            formats.require(path, found, kind)
            counts[kind, found] += 1
            if (kind, found) in STEPS:
                what = f"from format {found} to {formats.FORMATS[kind]}"
                changes.append(Change(path, what, partial(_rewrite, path, kind)))
    return changes


def _rewrite(path: Path, kind: str) -> None:
    """Bring a file to the present format in one step; nothing where that was done since it was looked at."""
    job = path.parent if path.name == "intent.json" else path.parents[2]
    with locked(job if kind == "job" else path.parent, should_stop=lambda: False, waiting=lambda: None):
        content = read_checked(path)
        before = content.get("format", 1)
        while (step := STEPS.get((kind, content.get("format", 1)))) is not None:
            content = {**step(content), "format": content.get("format", 1) + 1}
        if content.get("format", 1) == before:
            return
        write = write_checked if CHECKED in json.loads(path.read_text()) else write_json
        write(path, content)


def _second_copies(root: Path) -> Iterator[Change]:
    for number in event_files.without_copy(root):
        path = event_files.event_file(root, number)
        yield Change(path, "gets a copy", partial(event_files.copy, root, number))
    manifests = _manifests()
    for path in sorted(root.glob(f"data/*/{manifests.MANIFEST}")):
        if not (path.parent / manifests.COPY).exists():
            yield Change(path, "gets a copy", partial(_copy_manifest, path, path.parent / manifests.COPY))


def _manifests() -> Any:
    from graphufs.data import manifest  # brings numpy, which no other command of this side needs

    return manifest


def _take_up(folder: Path) -> None:
    with locked(folder, should_stop=lambda: False, waiting=lambda: None):
        manifest = _manifests().Manifest.recover(folder)
        if manifest is not None and manifest.journal[0]:
            manifest.write(folder)


def _copy_manifest(path: Path, copy: Path) -> None:
    with locked(path.parent, should_stop=lambda: False, waiting=lambda: None):
        read_checked(path)  # a damaged one is not worth a copy
        if not copy.exists():
            write_bytes(copy, path.read_bytes())
