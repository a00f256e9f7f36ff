"""Where a training stands, besides the arrays: what a checkpoint's meta.json keeps of it, and how a resume checks it.

There are no random numbers to keep: the initial parameters come from the seed, and which samples a batch holds is a
function of the seed, the stage and the number of the batch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graphufs.emulator import checkpoint
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.errors import UserError
from graphufs.storage.paths import Paths
from graphufs.train.stages import Plan


@dataclass(frozen=True)
class Best:
    """The best score of the validation forecasts so far (lower is better), and after how many updates."""

    score: float
    update: int


@dataclass(frozen=True)
class Position:
    """A place in a training, after so many updates `done`.

    `rate_factor` is what the guard's `rollbacks` have made of the learning rate, `guard` the losses it remembers, see
    Guard.state.
    """

    done: int = 0
    rate_factor: float = 1.0
    rollbacks: int = 0
    best: Best | None = None
    guard: dict[str, Any] | None = None

    def meta(self, plan: Plan) -> dict[str, Any]:
        """For meta.json: this position, and which data each stage's batches come from."""
        stage = plan.stage_at(max(self.done - 1, 0))
        return {
            "stage": stage.name,
            "stage_updates": self.done - stage.first,
            "total": plan.total,
            "position": asdict(self),
            "loaders": {stage.name: stage.loader.identity() for stage in plan.stages},
        }

    @staticmethod
    def from_meta(meta: dict[str, Any]) -> Position:
        """The position a checkpoint was written at."""
        position = dict(meta["position"])
        best = position.pop("best")
        return Position(**position, best=None if best is None else Best(**best))


def require_own(path: Path, paths: Paths, plan: Plan, emulator: ReplayEmulator) -> dict[str, Any]:
    """The meta.json of a checkpoint from which this very training can go on.

    Raises
    ------
    UserError
        If it belongs to another run, or its data or statistics are others than now.
    """
    meta = checkpoint.read_meta(path)
    remedy = f"restore what it was trained with, or remove {paths.checkpoints} to start over"
    run = meta["hashes"]["run"]
    if run != paths.hashes["run"]:
        raise UserError(f"the checkpoint {path} belongs to the run {run}, not {paths.hashes['run']}; {remedy}")
    for stage in plan.stages:
        before, now = meta["loaders"].get(stage.name), stage.loader.identity()
        if before != now:
            changed = [key for key in now if before is None or before.get(key) != now[key]]
            told = ", ".join(f"{key} {(before or {}).get(key)} then, {now[key]} now" for key in changed)
            raise UserError(
                f"the checkpoint {path} was trained on other samples of stage {stage.name!r}: {told}; {remedy}"
            )
    arrays = checkpoint.read_arrays(path, "emulator.npz")
    changed = [
        name.removeprefix("statistics.")
        for name, values in emulator.arrays().items()
        if name.startswith("statistics.") and not np.array_equal(arrays.get(name, np.nan), values)
    ]
    if changed:
        raise UserError(
            f"the checkpoint {path} was trained with other statistics: {', '.join(sorted(changed))} changed; {remedy}"
        )
    return meta
