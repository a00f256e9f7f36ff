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


def identity(pid: int) -> dict[str, Any]:
    """What to know a process by later: machine, boot and start time."""
    return {"host": os.uname().nodename, "boot": _boot(), "ticks": start_ticks(pid)}


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def alive(pid: int, process: dict[str, Any]) -> bool | None:
    """Whether a process runs; None where this machine cannot know."""
    if process.get("host") != os.uname().nodename:
        return None
    if process["ticks"] is None or process.get("boot", "") != _boot():
        return False
    return start_ticks(pid) == process["ticks"] or (not process.get("here") and bool(_left(pid)))


def _left(session: int) -> list[int]:
    """What still runs of a session whose first process is gone: a job is over when all of it is."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if fields[0] not in "ZX" and int(fields[3]) == session > 1:
            found.append(int(path.parent.name))
    return found


def end(pid: int, process: dict[str, Any], patience: float = 20.0) -> None:
    """Ask a process and its children to end, and make them after `patience` seconds."""
    running = alive(pid, process)
    if running is None:
        raise UserError(f"process {pid} runs on {process.get('host')}; end it there")
    if not running:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            if number == signal.SIGTERM and start_ticks(pid) != process["ticks"]:
                os.killpg(pid, number)
                continue
            # submitit's controller hands SIGTERM on; all are in one session
            os.kill(pid, number) if number == signal.SIGTERM else os.killpg(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + patience
        while alive(pid, process) and time.monotonic() < deadline:
            time.sleep(0.05)
