"""What one test has compiled serves the next one in the same process: tests train the same small network many times.

Only what a program takes as arguments may differ between two users of it; all else it depends on is in its key. To
trace and lower an update of tiny takes seconds, to run it thirty milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

ELSEWHERE = {
    *("stages", "seed", "init_from", "divergence", "tracking", "validate_every", "validation_forecasts"),
    *("checkpoint_every", "checkpoint_minutes", "keep_checkpoints"),
}
"""Keys of `training` that no program depends on, or through its stage only."""


@contextmanager
def kept() -> Iterator[None]:
    """While it lasts, keep compiled updates, validation losses and rollouts, and give them to all that are alike."""
    from graphufs.emulator.emulator import ReplayEmulator
    from graphufs.train.loss import SQUARED
    from graphufs.train.train_step import Objective, Program

    update, losses, predict = (
        Objective.program,
        Objective.loss_program,
        ReplayEmulator.__dict__["rollout_program"],
    )
    there: dict[Any, Any] = {}

    def once(key: Any, make: Any) -> Any:
        if key not in there:
            there[key] = make()
        return there[key]

    def place(emulator: ReplayEmulator) -> tuple[Any, ...]:
        experiment, domain = emulator.experiment, emulator.domain
        fields = [(name, field.tobytes()) for name, field in sorted(domain.static.items())]
        grid = domain.latitude.tobytes(), domain.longitude.tobytes(), repr(domain.slices)
        return experiment.data.model_dump_json(), experiment.model.model_dump_json(), *fields, *grid

    def of(objective: Objective) -> tuple[Any, ...]:
        training = objective.emulator.experiment.training.model_dump_json(exclude=ELSEWHERE)
        return *place(objective.emulator), training, objective.devices

    def kept_update(self: Objective, stage: Any, device_batch_size: int) -> Program:
        words = stage.optimizer.model_dump_json(), stage.loss.model_dump_json()
        settings = stage.rollout, *words, stage.loader.batch_size, device_batch_size
        compiled = once(("update", of(self), settings), lambda: update(self, stage, device_batch_size).compiled)
        return Program(compiled, self, device_batch_size)

    def kept_losses(self: Objective, loss: Any = SQUARED) -> Any:
        return once(("losses", of(self), loss), lambda: losses(self, loss))

    def kept_predict(self: ReplayEmulator) -> Any:
        return once(("predict", place(self)), lambda: predict.func(self))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Objective, "program", kept_update)
        patch.setattr(Objective, "loss_program", kept_losses)
        patch.setattr(ReplayEmulator, "rollout_program", property(kept_predict))
        yield
