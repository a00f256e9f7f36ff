"""A file that grows by lines, each with its checksum: what is written costs what is new, not all that was before.

The first line says of what the file is a journal, so that one which was left beside something newer is never taken for
its own. A line counts once it ends with a line break: what a kill left behind it is passed over, and overwritten.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from graphufs import reading
from graphufs.storage.atomic import write_bytes
from graphufs.storage.checksums import LONGEST, Damaged


class Journal:
    """Appends to a journal; of several writers one at a time, as under a lock."""

    def __init__(self, path: Path, descriptor: int, lines: int) -> None:
        self._path, self._file, self._lines = path, descriptor, lines

    @classmethod
    def begin(cls, path: Path, of: str) -> Self:
        """Begin a new journal, in place of any at `path`."""
        write_bytes(path, _line({"of": of, "line": 0}), alone=True)
        return cls(path, os.open(path, os.O_WRONLY | os.O_APPEND), 1)

    def append(self, content: Mapping[str, Any]) -> None:
        """Add a line, and force it to disk. Where that fails, the line does not count."""
        line, before = _line({**content, "line": self._lines}), os.fstat(self._file).st_size
        try:
            written = os.write(self._file, line)
            if written < len(line):
                os.write(self._file, line[written:])  # raises why there is no room
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, before)
            raise
        self._lines += 1

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def entries(path: Path, of: str) -> list[dict[str, Any]] | None:
    """What was appended to the journal, oldest first; None where there is none, or it is one of something else.

    Raises
    ------
    Damaged
        If a line is not what was written, or one is gone before the last.
    """
    try:
        text = reading.read_file(path, LONGEST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Damaged(f"{path} cannot be read ({error})") from None
    found = []
    for number, line in enumerate(text[: text.rfind(b"\n") + 1].splitlines()):
        checksum, _, content = line.partition(b" ")
        if checksum != b"%08x" % zlib.crc32(content):
            raise Damaged(f"line {number + 1} of {path} has changed since it was written")
        entry = json.loads(content)
        if entry.pop("line") != number:
            raise Damaged(f"{path} has lost its line {number + 1}")
        found.append(entry)
    if not found:
        raise Damaged(f"{path} is empty")
    return found[1:] if found[0] == {"of": of} else None


def _line(content: Mapping[str, Any]) -> bytes:
    text = json.dumps(content, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)
