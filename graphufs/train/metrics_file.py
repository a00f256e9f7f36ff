"""Training's metrics as JSON lines, one object a line, appended as the training goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from graphufs.storage.atomic import write_text


class MetricsFile:
    """Appends to a metrics file; when training goes on from a checkpoint, lines written after it are dropped first."""

    def __init__(self, path: Path, resumed_at: int) -> None:
        self._path = path
        kept = [line for line in read(path) if line["update"] <= resumed_at]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))

    def write(self, event: str, update: int, values: dict[str, Any]) -> None:
        """Append one line."""
        with open(self._path, "a") as file:
            file.write(json.dumps({"event": event, "update": update, **values}) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a metrics file, in order; torn ones, and those that are no event, are left out."""
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text(errors="replace").splitlines():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and "event" in line and type(line.get("update")) is int:
            lines.append(line)
    return lines
