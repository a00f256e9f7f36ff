"""The logbook: collects what updates found, and tells it now and then: metrics file, trackers, terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from graphufs.steps import Event, Progress
from graphufs.train.divergence import Guard
from graphufs.train.ensemble.collapse import described, require_spread
from graphufs.train.stages import PlannedStage
from graphufs.train.train_step import UpdateResult

Sink = Callable[[str, int, dict[str, Any]], None]
"""Takes (event, update, values), as a line of metrics.jsonl has them."""


class Logbook:
    """The outcomes since the last report, and the speed.

    Reading an outcome waits for the device, so this is done for several updates at once.
    """

    def __init__(self, sinks: Sequence[Sink], progress: Progress) -> None:
        self.sinks, self.progress = sinks, progress
        self._pending: list[UpdateResult] = []
        self.restart_clock()

    def restart_clock(self, waited: float = 0.0) -> None:
        """Count speed from now on; `waited` is what the stage's loader has waited so far."""
        self._began, self._waited = time.perf_counter(), waited

    def write(self, event: str, update: int, **values: Any) -> None:
        """Tell all sinks."""
        for sink in self.sinks:
            sink(event, update, values)

    def note(self, outcome: UpdateResult) -> None:
        """Keep an update's outcome for the next report."""
        self._pending.append(outcome)

    def forget(self) -> None:
        """Drop what was not reported."""
        self._pending = []

    def report(self, done: int, stage: PlannedStage, guard: Guard, learning_rate: float) -> None:
        """Report the updates since the last report; `done` is the number of the last one, which had `learning_rate`.

        Raises
        ------
        LossDiverged
            If the guard says so.
        UserError
            If the members of an ensemble are all the same.
        """
        if not self._pending:
            return
        losses = [float(outcome.loss) for outcome in self._pending]
        norms = [float(outcome.gradient_norm) for outcome in self._pending]
        for number, (loss, norm) in enumerate(zip(losses, norms, strict=True), done - len(losses) + 1):
            guard.look(number, loss, norm)
        now, waited = time.perf_counter(), stage.loader.waited
        seconds = max(now - self._began, 1e-9)
        waiting = max(waited - self._waited, 0.0) / seconds
        speed = len(losses) * stage.loader.batch_size / seconds
        self.restart_clock(waited)
        found = [jax.device_get(outcome.diagnostics) for outcome in self._pending]
        diagnostics = jax.tree.map(lambda *parts: np.mean(parts, axis=0, dtype=np.float64).tolist(), *found)
        self._pending = []
        of_members = {}
        if diagnostics.spread is not None:
            require_spread(found[-1].spread, done, stage)
            of_members = {"ensemble": described(diagnostics.spread)}
        loss = float(np.mean(losses))
        self.write(
            "update",
            done,
            stage=stage.name,
            loss=loss,
            loss_by_variable=diagnostics.by_variable,
            error_by_level=diagnostics.by_level,
            learning_rate=learning_rate,
            gradient_norm=float(np.mean(norms)),
            samples_per_second=round(speed, 3),
            waiting=round(waiting, 4),
            **of_members,
        )
        shown = {"loss": loss, "samples/s": speed, "waiting %": 100 * waiting}
        self.progress(Event(f"stage {stage.name}", done - stage.first, stage.updates, "updates", shown))
