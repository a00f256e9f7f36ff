"""Following a metrics file that another process writes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO


class Lines:
    """The lines of a file that grows, and of which the end is now and then dropped by writing it anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._seen: list[int] = []
        self.sent = 0
        """How many of the first lines were sent."""
        self.waiting: list[bytes] = []
        """The whole lines after them."""

    def go_to(self, sent: int) -> None:
        """Begin after so many lines."""
        self._file, self._seen, self.sent, self.waiting = None, [], sent, []

    def sent_next(self, count: int) -> None:
        """Count the next lines as sent."""
        del self.waiting[:count]
        self.sent += count

    def look(self) -> None:
        """Read what is new."""
        if not self._path.is_file():
            return
        # While the file is open no other can have its inode.
        if self._file is None or os.fstat(self._file.fileno()).st_ino != self._path.stat().st_ino:
            before, self._seen = self._seen, []
            self._file = open(self._path, "rb")
            lines = self._read()
            if before:
                same = next((n for n, (a, b) in enumerate(zip(before, self._seen, strict=False)) if a != b), None)
                kept = min(len(before), len(self._seen)) if same is None else same
                self.sent = min(self.sent, kept)
            self.waiting = lines[self.sent :]
        else:
            self.waiting += self._read()

    def _read(self) -> list[bytes]:
        assert self._file is not None
        start = self._file.tell()
        text = self._file.read()
        end = text.rfind(b"\n") + 1
        self._file.seek(start + end)
        lines = text[:end].splitlines()
        self._seen += [hash(line) for line in lines]
        return lines
