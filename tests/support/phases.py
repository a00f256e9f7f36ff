"""Where the time of a test session goes: a table by phase at its end.

Phases do not overlap: what is timed inside another phase is taken out of that one, so that those of a process add up to
its time. Compiling is what JAX itself reports. Sleeping and waiting for other processes are timed by putting a clock
around the functions of Python's library that do it; what those processes do meanwhile is not looked into.
"""

from __future__ import annotations

import functools
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import psutil
import pytest

STARTING = "starting Python, importing, reading conftest"
COLLECTING = "collecting (imports of the tests' modules included)"
COMPILING = "tracing and compiling (JAX)"
SLEEPING = "sleeping"
PROCESSES = "waiting for other processes"
IDLE = "idle at the end"
REST = "the tests themselves"

_spent: Counter[str] = Counter()
_local = threading.local()


def add(phase: str, seconds: float) -> None:
    """Count seconds of this thread to a phase, and not to the one it is in."""
    if threading.current_thread() is threading.main_thread():  # others work beside it
        _spent[phase] += seconds
        if stack := _stack():
            stack[-1] += seconds


def _stack() -> list[float]:
    """For each phase that this thread is in, the seconds that inner ones have taken."""
    if not hasattr(_local, "stack"):
        _local.stack = []
    return _local.stack


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Count what happens inside the `with` to a phase."""
    stack, began = _stack(), time.perf_counter()
    stack.append(0.0)
    try:
        yield
    finally:
        seconds, inner = time.perf_counter() - began, stack.pop()
        add(name, seconds - inner)
        if stack:
            stack[-1] += inner


def _clocked(function: Any, name: str) -> Any:
    @functools.wraps(function)
    def clocked(*args: Any, **options: Any) -> Any:
        with phase(name):
            return function(*args, **options)

    return clocked


def _compiled(event: str, seconds: float, **_: Any) -> None:
    if event.startswith("/jax/core/compile/"):
        add(COMPILING, seconds)


class Plugin:
    """Counts in each process of pytest-xdist, and tells in the first."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.began = psutil.Process().create_time()
        self.told: list[dict[str, float]] = []
        self.ends: list[float] = []
        if not self.leads_others():
            add(STARTING, time.time() - self.began)
            time.sleep = _clocked(time.sleep, SLEEPING)
            subprocess.Popen.wait = _clocked(subprocess.Popen.wait, PROCESSES)  # type: ignore[method-assign]
            subprocess.Popen.communicate = _clocked(subprocess.Popen.communicate, PROCESSES)  # type: ignore[method-assign]
            jax.monitoring.register_event_duration_secs_listener(_compiled)

    def leads_others(self) -> bool:
        """Whether other processes run the tests."""
        return not hasattr(self.config, "workerinput") and self.config.getoption("numprocesses", None) not in (None, 0)

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self) -> Iterator[None]:
        """Clock the collection."""
        with phase(COLLECTING):
            return (yield)

    def pytest_sessionfinish(self) -> None:
        """Hand in what this process has counted."""
        if self.leads_others():
            return
        whole = time.time() - self.began
        told = {**_spent, REST: whole - sum(_spent.values())}
        if hasattr(self.config, "workeroutput"):
            self.config.workeroutput["phases"] = told
        else:
            self.told.append(told)
            self.ends.append(time.time())

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what another process hands in."""
        if told := getattr(node, "workeroutput", {}).get("phases"):
            self.told.append(told)
            self.ends.append(time.time())

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table."""
        if not self.told or sum(sum(told.values()) for told in self.told) < 60:
            return
        sums: Counter[str] = Counter()
        for told in self.told:
            sums.update(told)
        sums[IDLE] = sum(max(self.ends) - end for end in self.ends)
        whole = sum(sums.values())
        terminalreporter.section(f"seconds by phase, of {len(self.told)} processes together")
        for name, seconds in sums.most_common():
            terminalreporter.write_line(f"{seconds:8.1f} s {100 * seconds / whole:4.0f} %  {name}")
