"""Local processes, known by number and start time: a number alone is soon another's."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from graphufs.errors import UserError

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Row:
    """A live process in the table of them; `start` in the kernel's ticks since the machine started."""

    start: int
    parent: int
    session: int


def process_row(pid: int) -> Row | None:
    """A process' line in the table; None where it is gone or only waits to be reaped."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                return None
            # what psutil itself compares: the public time changes when the system's clock is set
            start = round(process._proc.create_time(monotonic=True) * TICKS)
            return Row(start, process.ppid(), os.getsid(pid))
    except (psutil.Error, ProcessLookupError):
        return None


def process_table() -> dict[int, Row]:
    """All live processes by their ids."""
    return {pid: row for pid in psutil.pids() if (row := process_row(pid))}


def start_ticks(pid: int) -> int | None:
    """When a process started, in the kernel's ticks; None when it is gone."""
    row = process_row(pid)
    return None if row is None else row.start


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
    return [pid for pid, row in process_table().items() if row.session == session > 1]


def end(pid: int, process: dict[str, Any], patience: float = 20.0) -> None:
    """Ask a process and its children to end, and make them after `patience` seconds.

    Raises
    ------
    UserError
        If the process runs on another machine.
    """
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
