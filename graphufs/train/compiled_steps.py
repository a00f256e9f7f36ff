"""The compiled updates of a training's stages, and how much each device computes at once."""

from __future__ import annotations

from collections.abc import Sequence

from graphufs.errors import UserError
from graphufs.model.arrangement import arrangement_for
from graphufs.steps import Event, Progress
from graphufs.train.memory_check import available_bytes, gibibytes
from graphufs.train.stages import PlannedStage
from graphufs.train.train_step import Objective, Program


class Programs:
    """Compiles a stage's update when it is first asked for."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self._programs: dict[tuple[int, str], Program] = {}
        compute = objective.emulator.experiment.training.compute
        self._share = objective.emulator.experiment.training.batch_size // objective.devices.count
        self._fixed = compute.device_batch_size
        # One sample fills a CPU's cache; other devices are the faster the more they have at once.
        arrangement = arrangement_for(objective.devices.devices[0].platform)
        self.device_batch_size = self._fixed or (1 if arrangement.samples_in_turn else self._share)
        if self._share % self.device_batch_size:
            raise UserError(
                f"training.compute.device_batch_size is {self.device_batch_size}, but each of "
                f"{objective.devices.count} devices has {self._share} samples of a batch, which is not a multiple of it"
            )

    def prefer(self, device_batch_size: int | None) -> None:
        """Take the size a checkpoint was made with, so that sums keep their order; the experiment overrules it."""
        if device_batch_size and self._fixed is None and self._share % device_batch_size == 0:
            self.device_batch_size = device_batch_size

    def prepare(self, stages: Sequence[PlannedStage], progress: Progress) -> None:
        """Compile the stage with the longest rollout before anything runs, and see that it fits the memory.

        Raises
        ------
        UserError
            If it does not fit and fewer samples at once are no way out.
        """
        if not stages:
            return
        longest = max(stages, key=lambda stage: stage.rollout)
        progress(Event(f"compiling stage {longest.name}", 0, 1))
        available = available_bytes(self.objective.devices.devices[0])
        while True:
            program = self[longest]
            if available is None or program.needed_bytes <= available:
                break
            if self._fixed is not None or self.device_batch_size == 1:
                raise UserError(
                    f"stage {longest.name!r} with its rollout of {longest.rollout} steps needs "
                    f"{gibibytes(program.needed_bytes)} of memory, and {gibibytes(available)} can be had here; "
                    + self._remedy()
                )
            size = self.device_batch_size // 2
            self.device_batch_size = next(n for n in range(size, 0, -1) if self._share % n == 0)
            self._programs.clear()
        progress(Event(f"compiling stage {longest.name}", 1, 1))

    def _remedy(self) -> str:
        compute = self.objective.emulator.experiment.training.compute
        ways = []
        if self.device_batch_size > 1:
            ways.append(f"lower training.compute.device_batch_size (now {self.device_batch_size})")
        if compute.rematerialize not in ("auto", "everything"):
            ways.append(f"set training.compute.rematerialize to everything (now {compute.rematerialize})")
        if compute.precision != "bfloat16":
            ways.append("set training.compute.precision to bfloat16")
        return ", or ".join([*ways, "shorten the rollout, or use a machine with more memory"])

    def __getitem__(self, stage: PlannedStage) -> Program:
        """A stage's compiled update, the same for all stages that differ in their learning rates alone."""
        key = stage.rollout, stage.optimizer.model_dump_json()
        if key not in self._programs:
            self._programs[key] = self.objective.program(stage, self.device_batch_size)
        return self._programs[key]
