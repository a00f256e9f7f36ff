"""Run a step in a process of its own that halts at a chosen point, to be killed or let go on from there."""

from __future__ import annotations

import functools
import importlib
import signal
from pathlib import Path
from typing import Any

from graphufs.config.experiment import Experiment
from graphufs.steps import run_step
from tests.support.children import Child


def run_halting(
    connection: Any, step: str, experiment: Experiment, root: Path, module: str, name: str, call: int, moment: str
) -> dict[str, Any]:
    """In the child: run a step, halt before or after the `call`-th call of a function until there is an answer."""
    owner, _, attribute = name.rpartition(".")
    target = importlib.import_module(module)
    target = getattr(target, owner) if owner else target
    function, calls = getattr(target, attribute), 0

    def halt() -> None:
        connection.send(("said", "halted"))
        connection.recv()

    @functools.wraps(function)
    def halting(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and moment == "before":
            halt()
        result = function(*args, **kwargs)
        if calls == call and moment == "after":
            halt()
        return result

    setattr(target, attribute, halting)
    return run_step(step, experiment, root)


class Halted:
    """A step that runs in another process until the `call`-th call of a function, and waits there."""

    def __init__(
        self, step: str, experiment: Experiment, root: Path, module: str, name: str, call: int, moment: str = "before"
    ) -> None:
        self.child = Child(run_halting, step, experiment, root, module, name, call, moment)
        said = self.child.hear()
        assert said == "halted", f"the step never came to {module}.{name}, call {call}: {said}"

    def kill(self) -> None:
        """End it as the kernel or a job system would: no chance to clean up."""
        assert self.child.kill() == -signal.SIGKILL

    def go_on(self) -> dict[str, Any]:
        """Let it finish, and return the step's result."""
        self.child.answer()
        result: dict[str, Any] = self.child.hear(120)
        assert self.child.end() == 0
        return result
