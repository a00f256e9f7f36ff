"""Local processes, known by number and start time: a number alone is soon another's."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from graphufs.errors import UserError


def start_ticks(pid: int) -> int | None:
    """When a process started, in the kernel's ticks; None when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def alive(pid: int, process: dict[str, Any]) -> bool | None:
    """Whether a process runs; None where this machine cannot know."""
    if process.get("host") != os.uname().nodename:
        return None
    return start_ticks(pid) == process["ticks"]


def end(pid: int, process: dict[str, Any], patience: float = 20.0) -> None:
    """Ask a process and its children to end, and make them after `patience` seconds."""
    running = alive(pid, process)
    if running is None:
        raise UserError(f"process {pid} runs on {process.get('host')}; end it there")
    if not running:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            # submitit's controller hands SIGTERM on; all are in one session
            os.kill(pid, number) if number == signal.SIGTERM else os.killpg(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + patience
        while alive(pid, process) and time.monotonic() < deadline:
            time.sleep(0.05)
