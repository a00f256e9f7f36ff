"""Processes that belong to one folder: in sessions of their own, known by name, found again, ended for sure.

A process is known by its id and its start time, so that no later one with the same id is ever taken for it. The record
lies in the folder as JSON. Linux only: the environment is read from /proc.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jobs.scheduler.processes import Row, process_row, process_table


@dataclass(frozen=True)
class Process:
    """A process as it was started."""

    pid: int
    start: int


def environment(pid: int) -> dict[bytes, bytes]:
    """A process' environment as it was started with; empty where it is gone or another user's."""
    try:
        content = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    return dict(entry.partition(b"=")[::2] for entry in content.split(b"\0") if entry)


def with_descendants(found: set[int], table: Mapping[int, Row]) -> set[int]:
    """These processes and all that descend from them, without the one that asks."""
    found = set(found)
    while new := {pid for pid, row in table.items() if row.parent in found} - found:
        found |= new
    return found - {os.getpid()}


def send(pid: int, number: int) -> None:
    """Send a signal; a process that is gone is not an error."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def free_port(wanted: int = 0, taken: tuple[int, ...] = ()) -> int:
    """A port of the loopback address that is free now; the wanted one, if it is free.

    It is from below those that outgoing connections are given: what is stopped for a while finds it still free.

    Raises
    ------
    OSError
        If no free port was found.
    """
    for port in [wanted] * bool(wanted) + [10000 + secrets.randbelow(22000) for _ in range(1000)]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in taken:
            return port
    raise OSError("there is no free port")


def write_private(path: Path, content: str | bytes, owner: tuple[int, int] = (-1, -1)) -> None:
    """Write a file anew that only its owner may read; what another user may have put in its place is not followed."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        os.fchown(out.fileno(), *owner)
        out.write(content.encode() if isinstance(content, str) else content)


class Keeper:
    """The processes of the folder `base`; those that were started there before are found again.

    As a context manager it is up inside the `with` and down after it. What a subclass must have is `up` and `down`;
    what `record` returns is kept beside the processes, and is `known` when the folder is opened again.
    """

    error: type[RuntimeError] = RuntimeError

    def __init__(self, base: str | Path, record: str) -> None:
        self.base = Path(base).absolute()
        self.log = self.base / "log"
        self._record = self.base / record
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self.known: dict[str, Any] = json.loads(self._record.read_text()) if self._record.exists() else {}
        self.processes = {name: Process(**process) for name, process in self.known.get("processes", {}).items()}

    def __enter__(self) -> Any:
        self.up()
        return self

    def __exit__(self, *error: object) -> None:
        self.down()

    def up(self) -> None:
        """Start everything."""
        raise NotImplementedError

    def down(self) -> None:
        """End everything."""
        raise NotImplementedError

    def record(self) -> dict[str, Any]:
        """What else is to be found again."""
        return {}

    def polite(self, name: str) -> list[int]:
        """The signals that ask a process to end well."""
        return [signal.SIGTERM]

    def logs(self, name: str) -> str:
        """Where to read what became of a process."""
        return str(self.log / f"{name}.log")

    def save(self) -> None:
        """Write the record, readable by its owner only."""
        processes = {name: asdict(process) for name, process in self.processes.items()}
        unfinished = self._record.with_suffix(".partial")
        write_private(unfinished, json.dumps({**self.record(), "processes": processes}, indent=1))
        unfinished.replace(self._record)

    def alive(self, name: str) -> bool:
        """Whether a process runs, as the very one that was started."""
        process = self.processes.get(name)
        if process is None:
            return False
        if process.pid in self._children:
            self._children[process.pid].poll()  # reaps it
        row = process_row(process.pid)
        return row is not None and row.start == process.start

    def spawn(self, name: str, argv: list[str], out: Path, **its: Any) -> subprocess.Popen[bytes]:
        """Start a process in a session of its own, and record it. What it writes is appended to `out`."""
        with open(out, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as stream:
            child = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True, **its
            )
        self._children[child.pid] = child
        self.processes[name] = Process(child.pid, row.start if (row := process_row(child.pid)) else -1)
        self.save()
        return child

    def wait(self, name: str, ready: Callable[[], bool], seconds: float = 60, pause: float = 0.05) -> None:
        """Wait until a process is ready, and no longer than it lives.

        Raises
        ------
        RuntimeError
            Of the class's `error`, if the process ends, or is not ready after `seconds`.
        """
        until = time.monotonic() + seconds
        while not ready():
            if not self.alive(name):
                raise self.error(f"{name} ended instead of getting ready; read {self.logs(name)}")
            if time.monotonic() > until:
                raise self.error(f"{name} was not ready after {seconds:.0f} s; read {self.logs(name)}")
            time.sleep(pause)

    def finish(self, name: str, seconds: float) -> None:
        """Wait for a process that was started here and ends by itself.

        Raises
        ------
        RuntimeError
            Of the class's `error`, if the process fails, or takes longer than `seconds`.
        """
        try:
            code = self._children[self.processes[name].pid].wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise self.error(f"{name} took longer than {seconds:.0f} s; read {self.logs(name)}") from None
        if code:
            raise self.error(f"{name} failed; read {self.logs(name)}")
        del self.processes[name]
        self.save()

    def named(self, name: str) -> str:
        """The name, if there is such a process.

        Raises
        ------
        RuntimeError
            Of the class's `error`, if there is no process of this name.
        """
        if name not in self.processes:
            raise self.error(f"there is no {name} in {self.base}; there are: {', '.join(self.processes) or 'none'}")
        return name

    def signal(self, name: str, number: int) -> None:
        """Send a live process a signal; SIGKILL, SIGSTOP and SIGCONT, which it cannot pass on, to its session."""
        if self.alive(name):
            pid = self.processes[name].pid
            whole = number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT)
            for each in [each for each, row in process_table().items() if row.session == pid] if whole else [pid]:
                send(each, number)

    def gone(self, name: str, seconds: float) -> bool:
        """Whether a process is gone within that time."""
        until = time.monotonic() + seconds
        while self.alive(name) and time.monotonic() < until:
            time.sleep(0.02)
        return not self.alive(name)

    def stop(self, name: str, number: int = 0, seconds: float = 30) -> None:
        """Send a process a signal and wait until it is gone; it is killed where it stays longer than `seconds`.

        By default it is asked to end well. One that is only to be suspended wants `signal` instead.

        Raises
        ------
        RuntimeError
            Of the class's `error`, if the process outlives SIGKILL.
        """
        for number_now in [*([number] if number else self.polite(self.named(name))), signal.SIGKILL]:
            self.signal(self.named(name), number_now)
            if self.gone(name, seconds):
                return
        raise self.error(f"{name} (process {self.processes[name].pid}) outlives SIGKILL")

    def kill_all(self, find: Callable[[], set[int]], seconds: float = 20) -> None:
        """Kill what `find` finds, until it finds nothing: again, for those that were being born.

        Raises
        ------
        RuntimeError
            Of the class's `error`, if processes are left after `seconds`.
        """
        until = time.monotonic() + seconds
        while pids := find():
            if time.monotonic() > until:
                raise self.error(f"processes of {self.base} outlive SIGKILL: {sorted(pids)}")
            for pid in pids:
                send(pid, signal.SIGKILL)
            time.sleep(0.02)
