"""One writer at a time: a lock that the operating system lets go of when its holder dies, however it dies.

Several may share a lock instead: one who wants it alone then waits for all of them, and they for him.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from graphufs.errors import Stopped

LOCK = ".lock"
PAUSE = 0.2


@contextmanager
def locked(
    folder: Path,
    *,
    should_stop: Callable[[], bool],
    waiting: Callable[[], object],
    shared: bool = False,
    name: str = LOCK,
) -> Iterator[None]:
    """Hold the lock of a folder, or with others who share it, waiting for another holder.

    `waiting` is called once if there is one. `name` is the lock's file, for a folder that has several. A folder
    that was made for the lock, and in which nothing was written meanwhile, is removed again.

    Raises
    ------
    Stopped
        If `should_stop()` turned true while waiting.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with unless_empty(folder):
        made = not (folder / name).exists()
        descriptor = _open(folder / name)
        try:
            told = False
            while True:
                try:
                    fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
                    if _is(folder / name, descriptor):
                        break
                    os.close(descriptor)  # its holder found nothing to do and removed it
                    descriptor = _open(folder / name)
                except BlockingIOError:
                    if not told:
                        waiting()
                        told = True
                    if should_stop():
                        raise Stopped(f"stopped while waiting for another process that writes {folder}") from None
                    time.sleep(PAUSE)
            yield
        finally:
            if made:
                _remove_alone(folder / name, descriptor)
            os.close(descriptor)


@contextmanager
def unless_empty(folder: Path) -> Iterator[None]:
    """Have a folder, and remove it again with those above it that were made for it, where it is empty in the end."""
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):
            for one in made:
                one.rmdir()


def _open(path: Path) -> int:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # the folder was empty, and another process removed it
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)


def _is(path: Path, descriptor: int) -> bool:
    """Whether the open file is still the one at its path."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove_alone(path: Path, descriptor: int) -> None:
    """Remove a lock that nobody else holds, where nothing else is in its folder."""
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.listdir(path.parent) == [path.name] and _is(path, descriptor):
            path.unlink()
