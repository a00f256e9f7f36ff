"""The store behind JAX's persistent compilation cache, as many processes share it: whole entries, and a bounded size.

JAX 0.10 writes an entry in place. A process that reads it meanwhile gets a part of it ("incomplete or truncated
stream"), and a part that a killed process left is never written again: each later start warns and compiles. With its
own bound on the size JAX takes a file lock around each read, which not every shared file system has, and writes no
more once one entry lacks its time of use. Here an entry appears whole, by a rename, and begins with its checksum; when
it was used last is the file's own time, set by reading it; no lock is needed, as whoever misses an entry compiles.

JAX offers no public way to put a store behind its cache. `install` needs two functions of a private module; where a
version of JAX has others, JAX's own store stays, and tests/model/test_compilation_cache.py fails.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax

from graphufs.storage.atomic import replace_file

SUFFIX = "-program"
MOST_BYTES = 4 * 2**30
"""What a folder's entries may take together. A large training's take some 10 MB each."""
_KEEP = 0.9
"""How much of that is kept when room is made, so that not each new entry lists the folder for one old one."""
_UNSEEN = 1 / 64
"""The share of what is free that a process writes before it looks again: others write too, and a look costs time."""
_DIGEST = hashlib.sha256().digest_size


class ProgramStore:
    """Compiled programs by their key, in a folder: what JAX calls to get one and to put one."""

    def __init__(self, folder: str | Path, most_bytes: int = MOST_BYTES) -> None:
        self._path, self._most = Path(folder), most_bytes  # JAX reads `_path`
        self._unseen = 0.0
        self._path.mkdir(parents=True, exist_ok=True)

    def get(self, key: str) -> bytes | None:
        """The entry of a key; None where there is none or a damaged one, which is removed with a warning."""
        path = self._path / f"{key}{SUFFIX}"
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        digest, value = content[:_DIGEST], content[_DIGEST:]
        if hashlib.sha256(value).digest() != digest:
            warnings.warn(f"compiling anew: {path.name} in JAX's compilation cache was damaged", stacklevel=2)
            path.unlink(missing_ok=True)
            return None
        with suppress(OSError):  # a cache that may only be read serves too
            os.utime(path)
        return value

    def put(self, key: str, value: bytes) -> None:
        """Keep an entry, unless it is larger than all may be together; others make room for it.

        One that is there is replaced: JAX has not found it, or could not use it.
        """
        path, size = self._path / f"{key}{SUFFIX}", _DIGEST + len(value)
        if size > self._most:
            return
        self._make_room(size)
        with replace_file(path) as temporary:
            temporary.write_bytes(hashlib.sha256(value).digest() + value)

    def _make_room(self, size: int) -> None:
        """Remove the entries that were used longest ago where, with a new one, they are too many bytes together."""
        self._unseen -= size
        if self._unseen >= 0:
            return
        there = []
        for path in self._path.glob(f"*{SUFFIX}"):
            with suppress(FileNotFoundError):  # another process makes room too
                found = path.stat()
                there.append((found.st_mtime_ns, found.st_size, path))
        total = sum(bytes_ for _, bytes_, _ in there) + size
        self._unseen = _UNSEEN * max(0, self._most - total)
        if total <= self._most:
            return
        for _, bytes_, path in sorted(there):
            if total <= _KEEP * self._most:
                break
            path.unlink(missing_ok=True)
            total -= bytes_


def install() -> bool:
    """Put this store behind JAX's cache in this process, wherever that lies; whether this version of JAX lets it.

    JAX's settings hold as before. Its own store is used where they name no folder of a file system, or ask for it to be
    verified; a bound on the size that they set is this store's.
    """
    try:
        from jax._src import compilation_cache

        own, start_anew = compilation_cache.get_file_cache, compilation_cache.reset_cache
    except (ImportError, AttributeError):
        return False
    if getattr(own, "shared", False):
        return True

    def shared(path: str) -> Any:
        settings: Any = jax.config  # its attributes are made when it is imported
        most = settings.jax_compilation_cache_max_size
        if "://" in path or settings.jax_compilation_cache_check_contents:
            return own(path)
        return ProgramStore(path, MOST_BYTES if most == -1 else most), path

    shared.shared = True  # type: ignore[attr-defined]
    compilation_cache.get_file_cache = shared
    start_anew()  # what was compiled before may have opened JAX's own store
    return True
