"""One writer at a time: a lock that the operating system lets go of when its holder dies, however it dies.

Several may share a lock instead: one who wants it alone then waits for all of them, and they for him.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

    `waiting` is called once if there is one. `name` is the lock's file, for a folder that has several.

    Raises
    ------
    Stopped
        If `should_stop()` turned true while waiting.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o666)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        told = False
        while True:
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    waiting()
                    told = True
                if should_stop():
                    raise Stopped(f"stopped while waiting for another process that writes {folder}") from None
                time.sleep(PAUSE)
        yield
    finally:
        os.close(descriptor)
