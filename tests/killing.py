"""Run a step in a process of its own that halts at a chosen point, to be killed or let go on from there."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from graphufs.experiment import Experiment

CHILD = """
import functools, importlib, json, sys
from pathlib import Path
from graphufs.experiment import Experiment
from graphufs.steps import run_step

step, root, module, name, call, moment = sys.argv[1:7]
owner, _, attribute = name.rpartition(".")
target = importlib.import_module(module)
target = getattr(target, owner) if owner else target
function, calls = getattr(target, attribute), 0

def halt():
    print("halted", flush=True)
    sys.stdin.readline()

@functools.wraps(function)
def halting(*args, **kwargs):
    global calls
    calls += 1
    if calls == int(call) and moment == "before":
        halt()
    result = function(*args, **kwargs)
    if calls == int(call) and moment == "after":
        halt()
    return result

setattr(target, attribute, halting)
experiment = Experiment.model_validate_json(sys.argv[7])
print(json.dumps(run_step(step, experiment, Path(root))), flush=True)
"""


class Halted:
    """A step that runs in another process until the `call`-th call of a function, and waits there."""

    def __init__(
        self, step: str, experiment: Experiment, root: Path, module: str, name: str, call: int, moment: str = "before"
    ) -> None:
        dumped = experiment.model_dump_json()
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, step, str(root), module, name, str(call), moment, dumped],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line == "halted", f"the step never came to {module}.{name}, call {call}: {line}"

    def kill(self) -> None:
        """End it as the kernel or a job system would: no chance to clean up."""
        self.process.kill()
        self.process.communicate()
        assert self.process.returncode == -signal.SIGKILL

    def go_on(self) -> dict[str, Any]:
        """Let it finish, and return the step's result."""
        answer, _ = self.process.communicate("\n", timeout=120)
        assert self.process.returncode == 0
        result: dict[str, Any] = json.loads(answer)
        return result
