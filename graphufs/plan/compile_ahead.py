"""The process that compiles an experiment's programs for a card: `python -m graphufs.plan.compile_ahead FOLDER`.

FOLDER has request.json and domain.npz (graphufs.plan.child). On standard output comes a JSON object a line: what it is
about to do, {"doing": ...}, and at the end {"result": ...}.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.config.training import Optimizer, StageLoss
from graphufs.emulator.domain import Domain
from graphufs.plan.ahead import Machine
from graphufs.plan.fit import Fit, largest
from graphufs.plan.programs import TrainingPrograms
from graphufs.plan.target import Target


def main(folder: Path) -> None:
    """Compile what is requested and print the figures."""
    request = json.loads((folder / "request.json").read_text())
    experiment = loading.parse(request["experiment"], origin="the request")
    with np.load(folder / "domain.npz") as arrays:
        domain = Domain.from_arrays(dict(arrays))
    space = experiment.training.compute.mesh.space
    machine = Machine.of(Target.named(request["device"]), request["devices"], request["nodes"], space)
    _tell({"result": compile_all(experiment, domain, machine, request["usable"], request["initial_times"])})


def compile_all(
    experiment: Experiment, domain: Domain, machine: Machine, usable: int, initial_times: int
) -> dict[str, Any]:
    """Figures of each stage's update, of validation and of a forecast, and what fits `usable` bytes of a card.

    Without stages, those of a forecast alone.
    """
    settings = experiment.training
    programs, alone = TrainingPrograms(experiment, domain, machine), TrainingPrograms(experiment, domain, machine.first)
    share = settings.batch_size // machine.devices.groups
    known: dict[tuple[int, str, str, int], dict[str, Any]] = {}

    def update(rollout: int, optimizer: Optimizer, loss: StageLoss, size: int) -> dict[str, Any]:
        key = rollout, optimizer.model_dump_json(), loss.model_dump_json(), size
        if key not in known:
            _tell({"doing": f"compiling the update with a rollout of {rollout}, {size} of {share} samples at once"})
            known[key] = machine.figures(*programs.update(rollout, optimizer, size, settings.batch_size, loss))
        return known[key]

    steps = experiment.forecast.lead_time // experiment.data.time_step
    together = min(experiment.forecast.batch_size, initial_times)
    _tell({"doing": f"compiling a forecast of {steps} steps from {together} initial times"})
    forecast = alone.machine.figures(*alone.forecast(together, steps)) if alone.machine else {}
    forecast |= {"initial_times": together, "steps": steps}
    if not settings.stages:
        return {"stages": {}, "forecast": forecast}
    stages = [
        (stage.name, stage.rollout, stage.optimizer or settings.optimizer, stage.loss) for stage in settings.stages
    ]
    _, rollout, optimizer, loss = max(stages, key=lambda stage: stage[1] * stage[3].members_at_once)
    fit: Fit = largest(
        share,
        usable,
        lambda size: int(update(rollout, optimizer, loss, size)["memory"]["total"]),
        most=settings.compute.device_batch_size,
    )
    size = fit.size or 1
    found = {name: update(rollout, optimizer, loss, size) for name, rollout, optimizer, loss in stages}
    _tell({"doing": f"compiling the validation of {settings.batch_size} samples"})
    validation = machine.figures(*programs.validation(settings.batch_size))
    return {
        "device_batch_size": {
            "share": share,
            "size": fit.size,
            "needed": {str(tried): amount for tried, amount in sorted(fit.needed.items())},
            "extrapolated": fit.extrapolated,
        },
        "stages": found,
        "validation": validation,
        "forecast": forecast,
    }


def _tell(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
