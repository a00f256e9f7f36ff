"""The compiled updates of a training's stages, and how much each device computes at once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from graphufs.errors import UserError
from graphufs.model.arrangement import arrangement_for
from graphufs.steps import Event, Progress
from graphufs.train.compiling.memory_check import available_bytes, gibibytes
from graphufs.train.stages import PlannedStage
from graphufs.train.train_step import Objective, Program

AT_ONCE = 2
"""Programs that are compiled at a time beside the training: each takes memory of its own."""


class _TooLarge(UserError):
    """A stage's update does not fit the memory."""


class Programs:
    """Compiles the first stage's update when it is asked for, and those of the others beside the training.

    XLA compiles without Python's lock: two programs are made at once, or one while another runs.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self._programs: dict[tuple[int, str, str], Future[Program]] = {}
        self._beside = ThreadPoolExecutor(AT_ONCE, "compiling")
        compute = objective.emulator.experiment.training.compute
        self._share = objective.emulator.experiment.training.batch_size // objective.devices.groups
        self._fixed = compute.device_batch_size
        # One sample fills a CPU's cache; other devices are the faster the more they have at once.
        arrangement = arrangement_for(objective.devices.devices[0].platform)
        self.device_batch_size = self._fixed or (1 if arrangement.samples_in_turn else self._share)
        if self._share % self.device_batch_size:
            raise UserError(
                f"training.compute.device_batch_size is {self.device_batch_size}, but each of "
                f"{objective.devices.groups} devices (or groups that share samples) has {self._share} samples of a "
                "batch, which is not a multiple of it"
            )

    def prefer(self, device_batch_size: int | None) -> None:
        """Take the size a checkpoint was made with, so that sums keep their order; the experiment overrules it."""
        if device_batch_size and self._fixed is None and self._share % device_batch_size == 0:
            self.device_batch_size = device_batch_size

    def prepare(self, stages: Sequence[PlannedStage], progress: Progress) -> None:
        """Compile the first stage's update, and see whether that with the longest rollout fits the memory.

        An ensemble's members count as so many more steps. The longest is compiled at the same time where it may decide
        how many samples are computed at once, and where processes have to agree. Elsewhere the first stage does not
        wait for it: `prepare_others` begins it, and whether it fits, `require_fit` says.

        Raises
        ------
        UserError
            If it does not fit and fewer samples at once are no way out.
        """
        if not stages:
            return
        first, longest = stages[0], max(stages, key=lambda stage: stage.steps_at_once)
        progress(Event(f"compiling stage {first.name}", 0, 1))
        waits = self._may_shrink or self.objective.devices.processes > 1
        if not waits and self._key(first) != self._key(longest):
            self[first]
        else:
            self._agree(first, longest, waits)
        progress(Event(f"compiling stage {first.name}", 1, 1))

    def _agree(self, first: PlannedStage, longest: PlannedStage, waits: bool) -> None:
        """Compile both updates, with fewer samples at once until the longest fits if that may decide."""
        _ = self.objective.constants  # before two threads ask for them
        while True:
            fitting = self._programs[self._key(longest)] = self._beside.submit(self._fitting, longest)
            try:
                self[first]
                if waits:
                    fitting.result()
                return
            except _TooLarge:
                if not self._may_shrink:
                    raise
            size = self.device_batch_size // 2
            self.device_batch_size = next(n for n in range(size, 0, -1) if self._share % n == 0)
            self._programs.clear()

    def prepare_others(self, stages: Sequence[PlannedStage]) -> None:
        """Begin to compile what is not yet, the longest rollout first: after the first update, which would wait."""
        if self.objective.devices.processes > 1 or not stages:
            return
        longest = max(stages, key=lambda stage: stage.steps_at_once)
        for stage in (longest, *stages):
            if (key := self._key(stage)) not in self._programs:
                if stage is longest:
                    self._programs[key] = self._beside.submit(self._fitting, stage)
                else:
                    self._programs[key] = self._beside.submit(self.objective.program, stage, self.device_batch_size)

    def close(self) -> None:
        """Begin to compile nothing more: a process that is asked to end would wait for that."""
        self._beside.shutdown(wait=False, cancel_futures=True)

    def require_fit(self) -> None:
        """See whether what was compiled beside the training so far fits the memory; costs nothing.

        Raises
        ------
        UserError
            If it does not.
        """
        for program in self._programs.values():
            if program.done():
                program.result()

    @property
    def _may_shrink(self) -> bool:
        """Whether fewer samples may be computed at once."""
        return self._fixed is None and self.device_batch_size > 1

    def _fitting(self, longest: PlannedStage) -> Program:
        """The update of the stage with the longest rollout, which fits the memory."""
        available = available_bytes(self.objective.devices.devices[0])
        program = self.objective.program(longest, self.device_batch_size)
        if available is not None and program.needed_bytes > available:
            raise _TooLarge(
                f"stage {longest.name!r} with its rollout of {longest.rollout} steps needs "
                f"{gibibytes(program.needed_bytes)} of memory, and {gibibytes(available)} can be had here; "
                + self._remedy()
            )
        return program

    def _remedy(self) -> str:
        compute = self.objective.emulator.experiment.training.compute
        ways = []
        ensembles = any(stage.loss.kind == "crps" for stage in self.objective.emulator.experiment.training.stages)
        if ensembles and not compute.members_in_turn:
            ways.append("set training.compute.members_in_turn to true")
        if self.device_batch_size > 1:
            ways.append(f"lower training.compute.device_batch_size (now {self.device_batch_size})")
        if compute.rematerialize not in ("auto", "everything"):
            ways.append(f"set training.compute.rematerialize to everything (now {compute.rematerialize})")
        if compute.precision != "bfloat16":
            ways.append("set training.compute.precision to bfloat16")
        return ", or ".join([*ways, "shorten the rollout, or use a machine with more memory"])

    def __getitem__(self, stage: PlannedStage) -> Program:
        """A stage's compiled update, the same for all stages that differ in their learning rates alone."""
        key = self._key(stage)
        if key not in self._programs:
            made: Future[Program] = Future()
            made.set_result(self.objective.program(stage, self.device_batch_size))
            self._programs[key] = made
        return self._programs[key].result()

    @staticmethod
    def _key(stage: PlannedStage) -> tuple[int, str, str]:
        return stage.rollout, stage.optimizer.model_dump_json(), stage.loss.model_dump_json()
