"""The steps: every piece of work a person or a scheduler can ask for, in one registry.

A step is a function `run(experiment, root, *, progress, should_stop) -> dict`, found by name here and imported only
when it runs. It reports through `progress`, saves and raises `Stopped` soon after `should_stop()` turns true, installs
no signal handler, and does nothing when its output is already there. The command line uses this registry; the job
system and the DAGs do too.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from graphufs.errors import Stopped
from graphufs.experiment import Experiment


@dataclass(frozen=True)
class Event:
    """Where a step stands: `done` of `total` units of the part called `label`, with numbers worth showing."""

    label: str
    done: float
    total: float
    unit: str = ""
    metrics: dict[str, float] = field(default_factory=dict)


Progress = Callable[[Event], None]
ShouldStop = Callable[[], bool]


class Run(Protocol):
    """The signature of a step's function."""

    def __call__(
        self, experiment: Experiment, root: Path, *, progress: Progress, should_stop: ShouldStop
    ) -> dict[str, Any]:
        """Do the work below `root` and return a small JSON result; raise Stopped after a polite stop."""


@dataclass(frozen=True)
class Step:
    """A step's name, what it does, where its function lives, and the steps whose outputs it reads."""

    name: str
    summary: str
    module: str
    needs: tuple[str, ...] = ()

    def load(self) -> Run:
        """Import the function (this is where JAX and xarray come in)."""
        run: Run = importlib.import_module(self.module).run
        return run


STEPS: dict[str, Step] = {
    step.name: step
    for step in (
        Step("prepare", "Read the source and write the training-ready data.", "graphufs.replay.prepare"),
        Step(
            "normalize",
            "Compute mean, standard deviation and standard deviation of differences.",
            "graphufs.normalization.step",
            ("prepare",),
        ),
        Step("train", "Train the emulator, stage by stage.", "graphufs.train.trainer", ("prepare", "normalize")),
        Step("forecast", "Roll the emulator out from every initial time.", "graphufs.forecast.step", ("train",)),
        Step("evaluate", "Score forecasts and baselines against Replay.", "graphufs.weatherbench.step", ("forecast",)),
        Step("report", "Write the one-page HTML report.", "graphufs.report.step", ("evaluate",)),
    )
}
"""All steps, in the order `graphufs run` takes."""


def no_progress(event: Event) -> None:
    """Report nothing."""


def never_stop() -> bool:
    """Never ask to stop."""
    return False


def run_step(
    name: str,
    experiment: Experiment,
    root: Path,
    *,
    progress: Progress = no_progress,
    should_stop: ShouldStop = never_stop,
) -> dict[str, Any]:
    """Run one step and return its result, whose `status` is `completed`, `unchanged` (was done) or `stopped`.

    Raises
    ------
    UserError
        If the input is wrong or an earlier step's output is missing.
    """
    try:
        result = STEPS[name].load()(experiment, root, progress=progress, should_stop=should_stop)
    except Stopped as stop:
        return {"step": name, "status": "stopped", "message": str(stop)}
    return {"step": name, **result}
