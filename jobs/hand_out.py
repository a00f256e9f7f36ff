"""Files and folders below a root, handed out; nothing that lies elsewhere."""

from __future__ import annotations

import base64
import hashlib
import shutil
import sys
from pathlib import Path
from typing import Any

from graphufs import reading
from graphufs.errors import UserError
from graphufs.storage.atomic import new_folder, replace_file
from graphufs.storage.paths import Paths
from jobs.job.folder import CREDENTIALS, JobFolder


def report_of(root: Path, key: str) -> Path:
    """The report of a job's experiment.

    Raises
    ------
    UserError
        If there is no such job, or its experiment has no report yet.
    """
    path = Paths(JobFolder(root, key).experiment(), root).report
    if not path.exists():
        raise UserError(f"there is no report of {key} yet ({path}); submit the step `report`")
    return path


def fetch(root: Path, name: str, to: Path | None) -> int:
    """Copy a file or folder below the root to `to`, or write a file to standard output; returns bytes.

    Raises
    ------
    UserError
        If it is not there, or not below the root, by whatever links.
    """
    path = _below(root, name)
    if path.is_dir():
        if to is None:
            raise UserError(f"{name} is a folder; give its destination with --to")
        if to.exists():
            raise UserError(f"{to} exists already; give another destination")
        for link in path.rglob("*"):
            if link.is_symlink() and not link.resolve().is_relative_to(root.resolve()):
                raise UserError(f"{link} points outside {root}; only files below it can be fetched")
        with new_folder(to) as temporary:
            shutil.copytree(path, temporary, dirs_exist_ok=True, ignore=shutil.ignore_patterns(CREDENTIALS))
        return sum(file.stat().st_size for file in to.rglob("*") if file.is_file())
    if to is None:
        with reading.open_file(path) as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return path.stat().st_size
    target = to / path.name if to.is_dir() else to
    try:
        with replace_file(target) as temporary:
            shutil.copyfile(path, temporary)
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror}") from None
    return target.stat().st_size


def packed(root: Path, name: str, limit: int) -> dict[str, Any]:
    """A file below the root as text for JSON: `base64`, its `sha256`, and its size in `bytes`.

    Raises
    ------
    UserError
        If it is not there, not below the root, no file, or larger than the limit.
    """
    path = _below(root, name)
    if not path.is_file():
        raise UserError(f"{name} is not a file; give its destination with --to")
    with reading.open_file(path) as file:
        data = file.read(min(max(limit, 0), path.stat().st_size) + 1)  # a buffer of that size is made
    if len(data) > limit:
        raise UserError(f"{name} has {path.stat().st_size:,} bytes, more than the limit of {limit:,}")
    digest = hashlib.sha256(data).hexdigest()
    return {"path": name, "bytes": len(data), "sha256": digest, "base64": base64.b64encode(data).decode()}


def _below(root: Path, name: str) -> Path:
    if "\0" in name:
        raise UserError(f"{name!r} is no path; leave out the NUL")
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()):
        raise UserError(f"{name} is outside {root}; only files below it can be fetched")
    if path.name == CREDENTIALS:
        raise UserError(f"{name} holds credentials, which are handed out to nobody")
    if not path.exists():
        raise UserError(f"there is no {name} below {root}")
    return path
