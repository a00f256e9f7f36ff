"""What people are told of jobs on a terminal and in a task's log alike; no array library, for the control plane."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from graphufs.config.request import words


def progress(event: dict[str, Any] | None, most: int) -> str:
    """A progress event in one line, with so many metrics at most."""
    if not event:
        return ""
    share = f" ({100 * event['done'] / event['total']:.0f} %)" if event.get("total") else ""
    numbers = "".join(f"  {name} {value:.4g}" for name, value in list(event.get("metrics", {}).items())[:most])
    return f"{event['label']} {event['done']:,.0f}/{event['total']:,.0f}{share}{numbers}"


def advice(step: str, path: PurePath, request: Mapping[str, Any]) -> list[str]:
    """How to see what became of a job, by its step, folder and request: its logs, and the same in the debugger."""
    root = str(path.parents[1])
    again = ["graphufs-jobs", "submit", step, str(path / "experiment.yaml"), "--site", "debug", "--root", root]
    again += [f"--request={word}" for word in words(request)]
    return [
        f"  logs:      {shlex.join(['graphufs-jobs', 'logs', path.name, '--root', root])}",
        f"  reproduce: {shlex.join(again)}",
    ]
