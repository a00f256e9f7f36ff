"""Local processes, known by machine, boot, number and start time: a number alone is soon another's."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from graphufs.errors import UserError

TICKS = os.sysconf("SC_CLK_TCK")
VMSTAT = Path("/proc/vmstat")
MARKED = "SUBMITIT_LOCAL_COMMAND"
"""The variable that all processes of a job have, with the place of its attempt in it."""


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
            return Row(_ticks(process), process.ppid(), os.getsid(pid))
    except (psutil.Error, ProcessLookupError):
        return None


def _ticks(process: psutil.Process) -> int:
    # what psutil itself compares: the public time changes when the system's clock is set
    return round(process._proc.create_time(monotonic=True) * TICKS)


def process_table() -> dict[int, Row]:
    """All live processes by their ids."""
    return {pid: row for pid in psutil.pids() if (row := process_row(pid))}


def start_ticks(pid: int, *, ended: bool = False) -> int | None:
    """When a process started, in the kernel's ticks; None when it is gone, or `ended` but not reaped unless asked."""
    if ended:
        try:
            return _ticks(psutil.Process(pid))
        except psutil.Error:
            return None
    row = process_row(pid)
    return None if row is None else row.start


def identity(pid: int) -> dict[str, Any]:
    """What to know a process by later: machine, boot and start time; and how often memory had run out by now."""
    return {"host": host(), "boot": _boot(), "ticks": start_ticks(pid), "oom_kills": oom_kills()}


def host() -> str:
    """This machine's name."""
    return os.uname().nodename


def same_boot(process: dict[str, Any]) -> bool:
    """Whether an identity is of this machine as it runs since its last start."""
    return process.get("host") == host() and process.get("boot", "") == _boot()


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def oom_kills() -> int | None:
    """How many processes the kernel has ended since its start because memory ran out; None where it does not tell."""
    try:
        lines = VMSTAT.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


def alive(pid: int, process: dict[str, Any], mark: str | None = None) -> bool | None:
    """Whether a process, or what it has started, runs; None where this machine cannot know.

    What it started has `mark` in its environment: see `members`.
    """
    if process.get("host") != host():
        return None
    if same_boot(process) and process["ticks"] is not None and start_ticks(pid) == process["ticks"]:
        return True  # without a look at all others
    return bool(members(pid, process, mark))


def members(pid: int, process: dict[str, Any], mark: str | None = None) -> list[psutil.Process]:
    """What runs of a session, its first process in front: a job is over when all of it is.

    The kernel gives a number to nobody while a session has it. So where a process of this number started at another
    time, the session is a stranger's. Where there is none, it may be one too, whose first process has ended as well:
    then those count that have `mark` in the variable MARKED of their environment, which is inherited.
    """
    if not same_boot(process) or process["ticks"] is None:
        return []
    first, found = start_ticks(pid, ended=True), []
    if first == process["ticks"] == start_ticks(pid):
        with contextlib.suppress(psutil.Error):
            found.append(psutil.Process(pid))
    if process.get("here") or first not in (None, process["ticks"]):
        return found
    for other, row in process_table().items():
        if row.session == pid and other != pid and row.start >= process["ticks"]:
            with contextlib.suppress(psutil.Error):
                one = psutil.Process(other)
                if first is not None or (mark is not None and mark in one.environ().get(MARKED, "")):
                    found.append(one)
    return found


def end(pid: int, process: dict[str, Any], mark: str | None = None, patience: float = 20.0) -> None:
    """Ask a process and what it has started to end, and make them after `patience` seconds.

    Raises
    ------
    UserError
        If the process runs on another machine.
    """
    if alive(pid, process, mark) is None:
        raise UserError(f"process {pid} runs on {process.get('host')}; end it there")
    for number in (signal.SIGTERM, signal.SIGKILL):
        running = members(pid, process, mark)
        if number == signal.SIGTERM and running and running[0].pid == pid:
            del running[1:]  # submitit's controller hands SIGTERM on
        for one in running:
            with contextlib.suppress(psutil.Error):  # psutil sees to it that the number is still this process's
                one.send_signal(number)
        deadline = time.monotonic() + patience
        while running and alive(pid, process, mark) and time.monotonic() < deadline:
            time.sleep(0.05)
