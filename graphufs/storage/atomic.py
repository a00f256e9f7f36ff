"""Atomic writes: files and folders that readers see complete or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from graphufs.storage.lock import locked

NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
"""What file systems without hard links say to one."""


def fsync(path: Path) -> None:
    """Force a file or folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, content: Any) -> None:
    """Write JSON to `path` in one step: a reader sees the old content or the new, never a part."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text to `path` in one step."""
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_private(path: Path, content: Any) -> None:
    """Write JSON to `path` in one step; its owner alone may read it, at no moment anybody else."""
    with replace_file(path) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps(content) + "\n")


def write_bytes(path: Path, content: bytes, *, alone: bool = False) -> None:
    """Write bytes to `path` in one step; for `alone` see `replace_file`."""
    with replace_file(path, alone=alone) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replace_file(path: Path, *, alone: bool = False) -> Iterator[Path]:
    """Write a temporary sibling file that takes the place of `path` at the end, in one step and on disk.

    Folders above are made. When the body raises, `path` stays as it was. `alone` says that no other process writes
    here, as under a lock: the temporary file has one name then, so that what a killed process left is overwritten.
    """
    with _temporary_file(path, "" if alone else f".{uuid4().hex}") as temporary:
        yield temporary
        fsync(temporary)
        os.replace(temporary, path)
        fsync(path.parent)  # else a power failure may bring the old content back, after others acted on the new one


def create_json(path: Path, content: Any) -> bool:
    """Like `create_text`, with JSON."""
    return create_text(path, json.dumps(content, indent=2) + "\n")


def create_text(path: Path, text: str) -> bool:
    """Write text to a new file atomically; of several writers one alone succeeds.

    False if the file was there already; it is then as it was. Where the file system has no hard links, a lock keeps the
    writers apart.
    """
    with _temporary_file(path, f".{uuid4().hex}") as temporary:
        temporary.write_text(text, encoding="utf-8")
        fsync(temporary)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in NO_HARD_LINKS:
                raise
            if not _named_under_lock(temporary, path):
                return False
    fsync(path.parent)
    return True


def _named_under_lock(temporary: Path, path: Path) -> bool:
    with locked(path.parent, should_stop=lambda: False, waiting=lambda: None, name=".create.lock"):
        if path.exists():
            return False
        os.replace(temporary, path)
        return True


@contextmanager
def _temporary_file(path: Path, distinction: str) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}{distinction}.tmp")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a temporary sibling folder that becomes `path` at the end, in one rename.

    Leftovers of earlier attempts that were killed are removed first. A folder already at `path` is replaced. When the
    body raises, nothing appears.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for ending in ("tmp", "trash"):
        for leftover in path.parent.glob(f".{path.name}.*.{ending}"):
            shutil.rmtree(leftover, ignore_errors=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        for folder, _, names in os.walk(temporary):
            for name in names:
                fsync(Path(folder, name))
            fsync(Path(folder))
        remove_folder(path)
        os.rename(temporary, path)
        fsync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Remove a folder, if there, so that no half of it is ever seen under its name."""
    if path.exists():
        shutil.rmtree(set_aside(path))


def set_aside(path: Path) -> Path:
    """Give a folder a name under which nobody looks for it, in one step, before it is removed; the name."""
    trash = path.with_name(f".{path.name}.{os.getpid()}.trash")
    os.rename(path, trash)
    return trash
