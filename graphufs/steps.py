"""The steps: every piece of work a person or a scheduler can ask for, in one registry.

A step is a function `run(experiment, root, *, progress, should_stop) -> dict`, found by name here and imported only
when it runs. The experiment is configuration; what somebody asks of this one run is a `Request` beside it, which a step
is given that reads any of its fields. It reports through `progress`, saves and raises `Stopped` soon after
`should_stop()` turns true, installs no signal handler, and does nothing when its output is already there. The command
line uses this registry; the job system and the DAGs do too.

A step that says so can be done in parts, by several processes on several machines at once, each given its `Part`. The
same step without a part then completes the rest and finishes the output.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from graphufs.config.experiment import Experiment
from graphufs.config.request import Request
from graphufs.errors import Stopped, UserError
from graphufs.storage.formats import require_root


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


@dataclass(frozen=True)
class Part:
    """One of `count` parts that a step is divided into, number `index` from 0.

    Raises
    ------
    UserError
        If there is no such part.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        whole = all(isinstance(number, int) and not isinstance(number, bool) for number in (self.index, self.count))
        if not whole or not 0 <= self.index < self.count:
            raise UserError(
                f"there is no part {self.index!r} of {self.count!r}; parts are numbered from 0 to their count less one"
            )

    def share(self, total: int) -> range:
        """Which of `total` equal pieces of work are this part's: neighbours, and as many as any part's or one less."""
        return range(self.index * total // self.count, (self.index + 1) * total // self.count)


class Run(Protocol):
    """The signature of a step's function."""

    def __call__(
        self,
        experiment: Experiment,
        root: Path,
        *,
        progress: Progress,
        should_stop: ShouldStop,
        part: Part = ...,
        request: Request = ...,
    ) -> dict[str, Any]:
        """Do the work below `root` and return a small JSON result; raise Stopped after a polite stop.

        `part` is given to steps only that can be done in parts, and not to do the whole work. `request` is given to
        steps only that ask for some of its fields.
        """


@dataclass(frozen=True)
class Step:
    """A step's name, what it does, where its function lives, and the steps whose outputs it reads.

    `parts` says whether it can be done in parts. `plans` says that its result's `experiment` is what the steps of a
    chain after it are given, with what its `request` adds; without an experiment there is nothing for them to do.
    `asks` names the fields of a request that it reads.
    """

    name: str
    summary: str
    module: str
    needs: tuple[str, ...] = ()
    parts: bool = False
    plans: bool = False
    asks: tuple[str, ...] = ()

    def load(self) -> Run:
        """Import the function (this is where JAX and xarray come in)."""
        run: Run = importlib.import_module(self.module).run
        return run

    def require_read(self, request: Request) -> None:
        """See that the step reads all that is asked for.

        Raises
        ------
        UserError
            If it does not.
        """
        if strange := [name for name in request.given if name not in self.asks]:
            known = ", ".join(self.asks) or "nothing"
            raise UserError(
                f"{', '.join(strange)} cannot be asked of {self.name}, which reads {known} of a request; leave it out, "
                "or ask a step that reads it"
            )


STEPS: dict[str, Step] = {
    step.name: step
    for step in (
        Step("prepare", "Read the source and write the training-ready data.", "graphufs.data.prepare"),
        Step(
            "normalize",
            "Compute mean, standard deviation and standard deviation of differences.",
            "graphufs.normalization.step",
            ("prepare",),
        ),
        Step("train", "Train the emulator, stage by stage.", "graphufs.train.trainer", ("prepare", "normalize")),
        Step(
            "forecast",
            "Roll the emulator out from every initial time.",
            "graphufs.forecast.step",
            ("train",),
            parts=True,
        ),
        Step(
            "evaluate",
            "Score forecasts and baselines against Replay, ERA5 or both.",
            "graphufs.weatherbench.evaluate",
            ("forecast",),
        ),
        Step(
            "publish",
            "Write forecasts in the formats of forecast.products, for other tools.",
            "graphufs.products.publish",
            ("forecast",),
        ),
        Step("report", "Write the one-page HTML report.", "graphufs.report.step", ("evaluate",)),
        Step(
            "register",
            "Enter the trained model and its scores in the registry.",
            "graphufs.registry.register",
            ("evaluate",),
            asks=("champion",),
        ),
        Step(
            "extend_world",
            "Let a night pass in the embedded world; other sources grow by themselves.",
            "graphufs.nightly.extend_world",
            asks=("night",),
        ),
        Step(
            "plan_nightly",
            "Choose a night's model and initial times.",
            "graphufs.nightly.plan",
            ("register",),
            plans=True,
            asks=("model",),
        ),
        Step(
            "record_nightly",
            "Add a night's scores to those of the nights before, and refresh the report.",
            "graphufs.nightly.record",
            ("evaluate",),
        ),
        Step(
            "plan_retraining",
            "Choose a challenger's windows and fresh initial times.",
            "graphufs.retraining.plan",
            plans=True,
        ),
        Step(
            "compare_models",
            "Forecast and score challenger and champion on the same fresh initial times.",
            "graphufs.retraining.compare",
            ("train",),
            asks=("champion",),
        ),
        Step(
            "decide",
            "Promote, hold or refuse a compared challenger.",
            "graphufs.retraining.decide",
            ("compare_models",),
            asks=("champion", "answer", "decided_by", "why", "cost"),
        ),
        Step(
            "rollback",
            "Make the former champion the champion again.",
            "graphufs.registry.rollback",
            asks=("rollback_to", "decided_by", "why"),
        ),
    )
}
"""All steps."""

CHAINS: dict[str, tuple[str, ...]] = {
    "run": ("prepare", "normalize", "train", "forecast", "evaluate", "report"),
    "nightly": ("extend_world", "plan_nightly", "prepare", "forecast", "evaluate", "record_nightly"),
    "retrain": ("plan_retraining", "prepare", "normalize", "train", "compare_models", "decide"),
}
"""Steps in the order in which the commands `graphufs run`, `nightly` and `retrain`, and the DAGs, take them.

Where an experiment has `forecast.products`, `publish` follows the forecasts: `with_products`.
"""


def with_products(steps: Sequence[str], experiment: Experiment) -> tuple[str, ...]:
    """Steps of a chain, and `publish` after the forecasts where the experiment has forecast.products."""
    if not experiment.forecast.products or "forecast" not in steps[:-1]:
        return tuple(steps)
    after = steps.index("forecast") + 1
    return (*steps[:after], "publish", *steps[after:])


NOTHING_ASKED = Request()


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
    part: Part | None = None,
    request: Request = NOTHING_ASKED,
) -> dict[str, Any]:
    """Run one step, or a part of it, and return its result.

    The result's `status` is `completed`, `unchanged` (was done) or `stopped`. When all parts are completed, the step is
    still to be run without a part: that finishes it.

    Raises
    ------
    UserError
        If the input is wrong, an earlier step's output is missing, a part is asked for of a step that has none, or the
        request has a field that the step does not read.
    """
    step = STEPS[name]
    step.require_read(request)
    require_root(root)
    if part is not None and not step.parts:
        able = ", ".join(other.name for other in STEPS.values() if other.parts)
        raise UserError(f"{name} cannot be done in parts; only {able} can. Run it as a whole")
    more: dict[str, Any] = {} if part is None else {"part": part}
    if step.asks:
        more["request"] = request
    try:
        result = step.load()(experiment, root, progress=progress, should_stop=should_stop, **more)
    except Stopped as stop:
        return {"step": name, "status": "stopped", "message": str(stop)}
    return {"step": name, **result}
