"""The plan of a training: its stages one after the other, each with its data, optimizer and place among all updates."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import optax

from graphufs.config.experiment import Experiment
from graphufs.config.training import Optimizer, StageLoss
from graphufs.data.dataset import PreparedData
from graphufs.data.loader import BatchLoader
from graphufs.emulator.emulator import training_samples
from graphufs.errors import UserError
from graphufs.train.optimizer import learning_rate


@dataclass(frozen=True)
class PlannedStage:
    """A training stage: its loader's batches, and `first`, how many updates come before its own.

    The loss is averaged over `rollout` steps.
    """

    name: str
    loader: BatchLoader
    first: int
    updates: int
    rollout: int
    optimizer: Optimizer
    loss: StageLoss

    @property
    def steps_at_once(self) -> int:
        """The steps of all members of a sample."""
        return self.rollout * self.loss.members_at_once

    @property
    def end(self) -> int:
        """The number of updates done when it is over."""
        return self.first + self.updates


@dataclass(frozen=True)
class Plan:
    """All stages, and the learning rate by update over all of them."""

    stages: tuple[PlannedStage, ...]
    rate: optax.Schedule

    @staticmethod
    def of(experiment: Experiment, data: PreparedData, shard: tuple[int, int] = (0, 1)) -> Plan:
        """The plan of an experiment; stages counted in epochs get their updates from the valid samples.

        `shard` is (process, processes) where several processes share each batch.

        Raises
        ------
        UserError
            If a stage has fewer valid samples than a batch.
        """
        size, seed, settings = experiment.training.batch_size, experiment.training.seed, experiment.training.stages
        if not settings:
            return Plan((), optax.constant_schedule(0.0))
        loaders = []
        for index, stage in enumerate(settings):
            samples = training_samples(experiment, data, index)
            if len(samples.initial_times) < size:
                raise UserError(
                    f"stage {stage.name!r} has {len(samples.initial_times)} valid samples in the training period, "
                    f"fewer than one batch of {size}; `graphufs prepare` lists the stamps left out"
                )
            loaders.append(BatchLoader(samples, size, (seed, index), shard=shard))
        counts = [
            stage.updates or (stage.epochs or 0) * loader.batches_per_epoch
            for stage, loader in zip(settings, loaders, strict=True)
        ]
        firsts = [0, *accumulate(counts)]
        stages = tuple(
            PlannedStage(
                stage.name,
                loader,
                first,
                count,
                stage.rollout,
                stage.optimizer or experiment.training.optimizer,
                stage.loss,
            )
            for stage, loader, first, count in zip(settings, loaders, firsts, counts, strict=False)
        )
        # The optimizer counts the updates of all stages, and its moments go on from one to the next.
        schedules = [learning_rate(stage.learning_rate, count) for stage, count in zip(settings, counts, strict=True)]
        return Plan(stages, optax.join_schedules(schedules, firsts[1:-1]))

    @property
    def total(self) -> int:
        """The number of all updates."""
        return self.stages[-1].end if self.stages else 0

    def stage_at(self, done: int) -> PlannedStage:
        """The stage in which update number `done` + 1 is, or the last one."""
        return next((stage for stage in self.stages if done < stage.end), self.stages[-1])
