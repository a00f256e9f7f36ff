"""Training's metrics as JSON lines, one object a line, appended as the training goes.

Each line ends with its own checksum, `crc32`, so that of a damaged file the other lines stay. Version 0.1.0 wrote none.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graphufs.storage import run_files
from graphufs.storage.atomic import write_text

CHECKSUM = "crc32"
MARK = f', "{CHECKSUM}": '


class MetricsFile:
    """Appends to a metrics file; when training goes on from a checkpoint, lines written after it are dropped first."""

    def __init__(self, path: Path, resumed_at: int) -> None:
        self._path = path
        _rewrite(path, [text for text, line in _whole(path) if line["update"] <= resumed_at])

    def write(self, event: str, update: int, values: dict[str, Any]) -> None:
        """Append one line."""
        text = json.dumps({"event": event, "update": update, **values})
        with open(self._path, "a") as file:
            file.write(f"{text[:-1]}{MARK}{zlib.crc32(text.encode())}}}\n")


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a metrics file, in order; torn and changed ones, and those that are no event, are left out."""
    return [{name: value for name, value in line.items() if name != CHECKSUM} for _, line in _whole(path)]


def mend(path: Path) -> str | None:
    """Leave out the damaged lines of a metrics file that is not as it was listed; what is lost, in a line."""
    wrong = run_files.damage(path.parent, path.name)
    if wrong is None:
        return None
    if not path.is_file():
        run_files.forget(path.parent, path.name)
        return f"{path} was lost: the report shows nothing of the training up to here"
    kept = [text for text, _ in _whole(path)]
    lost = len(path.read_bytes().splitlines()) - len(kept)
    _rewrite(path, kept)
    return f"{wrong.partition(';')[0]}: {lost} of its lines are damaged and left out, {len(kept)} are kept"


def _rewrite(path: Path, lines: list[str]) -> None:
    run_files.forget(path.parent, path.name)
    write_text(path, "".join(f"{line}\n" for line in lines))
    run_files.note(path.parent, path.name)


def _whole(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The text and content of each whole line."""
    if not path.is_file():
        return
    for text in path.read_text("utf-8", errors="replace").splitlines():
        content, mark, checksum = text.rpartition(MARK)
        if mark and checksum != f"{zlib.crc32(f'{content}}}'.encode())}}}":
            continue
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and "event" in line and type(line.get("update")) is int:
            yield text, line
