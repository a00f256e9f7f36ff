"""How a step shows itself to a person at a terminal: progress bars, and Ctrl-C as a polite request to stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from graphufs.steps import Event, ShouldStop

LINE_INTERVAL = 15.0
"""Seconds between two progress lines where the output is not a terminal."""


class _Console(Console):
    """One that leaves it to `ending.finish` what a pipe that nobody reads means."""

    def on_broken_pipe(self) -> None:
        """Called by rich while it handles the error."""
        raise


class _StandardError(_Console):
    """Where it takes nothing, as on a log's full disk, work goes on. Rich keeps the words for the next time."""

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's own."""
        try:
            super().print(*objects, **options)
        except BrokenPipeError:  # somebody has seen enough
            raise
        except OSError:
            pass


def console(stderr: bool = False, width: int | None = None) -> Console:
    """Standard output or standard error for people. What stands in a name is shown as it is: no markup, no emoji."""
    kind = _StandardError if stderr else _Console
    return kind(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)


class Bars:
    """Shows a step's events: a bar for each label on a terminal, now and then a line elsewhere (logs, CI)."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._tasks: dict[str, TaskID] = {}
        self._last_line: dict[str, float] = {}
        self._progress = Progress(
            TextColumn("{task.description:<28}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]:>18}", markup=False),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[numbers]}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        count = f"{event.done:,.0f}/{event.total:,.0f} {event.unit}".strip()
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in event.metrics.items())
        description = f"{self._title}: {event.label}" if self._title else event.label
        if not self._console.is_terminal:
            self._line(event, f"{description} {count}  {numbers}".rstrip())
            return
        if event.label not in self._tasks:
            self._tasks[event.label] = self._progress.add_task(
                description, total=event.total, count=count, numbers=numbers
            )
        self._progress.update(
            self._tasks[event.label], completed=event.done, total=event.total, count=count, numbers=numbers
        )

    def _line(self, event: Event, text: str) -> None:
        now = time.monotonic()
        finished = event.done >= event.total
        if finished or now - self._last_line.get(event.label, 0.0) >= LINE_INTERVAL:
            self._last_line[event.label] = now
            self._console.print(text, soft_wrap=True)


@contextmanager
def handled(numbers: Iterable[int], handler: Any) -> Iterator[None]:
    """Have signals handled so inside the `with`, and as before after it."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


@contextmanager
def polite_stop(console: Console) -> Iterator[ShouldStop]:
    """Turn SIGINT and SIGTERM into a `should_stop` that saves first; a second signal interrupts at once."""
    received: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        console.print("Stopping after saving; once more to stop at once.", style="yellow")

    with handled((signal.SIGINT, signal.SIGTERM), on_signal):
        yield lambda: bool(received)
