"""The programs of an experiment, with shapes in the place of arrays: to be compiled ahead, or traced."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np
import optax

from graphufs.config.experiment import Experiment
from graphufs.config.training import Optimizer, StageLoss
from graphufs.data.loader import Batch
from graphufs.emulator.domain import Domain
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.forcings import derived_forcing
from graphufs.model.arrangement import GPU, Arrangement
from graphufs.plan.ahead import Machine
from graphufs.train.devices import Devices
from graphufs.train.loss import SQUARED
from graphufs.train.stages import Plan
from graphufs.train.train_step import Controls, Objective
from graphufs.vocabulary.variables import DERIVED_FORCINGS

Jitted = tuple[Any, tuple[Any, ...]]
"""A jitted function and its arguments."""


class TrainingPrograms:
    """The update, validation and forecast of an experiment on a machine; without one, on one device of some kind."""

    def __init__(
        self, experiment: Experiment, domain: Domain, machine: Machine | None = None, arrangement: Arrangement = GPU
    ) -> None:
        self.experiment, self.domain, self.machine = experiment, domain, machine
        devices = Devices((jax.devices()[0],)) if machine is None else machine.devices
        emulator = ReplayEmulator.outline(experiment, domain, arrangement)
        self.objective = Objective(emulator, Plan((), optax.constant_schedule(1.0)), devices)

    @property
    def parameters(self) -> int:
        """The number of the network's parameters."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.objective.emulator.network))

    @property
    def state(self) -> tuple[int, int]:
        """The numbers in a training's state, of the optimizer too where there is one, and the arrays they are in."""
        network = self.objective.emulator.network
        learns = bool(self.experiment.training.stages)
        leaves = jax.tree.leaves(jax.eval_shape(self._alone.start, network) if learns else network)
        return sum(leaf.size for leaf in leaves), len(leaves)

    def update(
        self, rollout: int, settings: Optimizer, device_batch_size: int, batch_size: int, loss: StageLoss = SQUARED
    ) -> Jitted:
        """An update from a batch, of which each device computes so many samples at once."""
        state = jax.eval_shape(self._alone.start, self.objective.emulator.network)
        number = partial(jax.ShapeDtypeStruct, ())
        controls = Controls(number(np.int32), number(np.float32), number(np.float32), number(np.uint32))  # type: ignore[arg-type]
        batch = self._batch(batch_size, rollout)
        if self.machine is not None:
            state = self.machine.divided(state, self.objective.state_specs(state))
        return self.objective.update(settings, device_batch_size, loss), (
            state,
            self._everywhere(controls),
            *self._constants,
            batch,
        )

    def validation(self, batch_size: int) -> Jitted:
        """The losses of a batch, one step ahead: the network forward."""
        constants = self._everywhere(self.objective.emulator.network), *self._constants
        numbers = self._everywhere((jax.ShapeDtypeStruct((), np.uint32), jax.ShapeDtypeStruct((), np.int32)))
        last = self.experiment.training.stages[-1].loss
        return self.objective.loss_program(last), (*constants, self._batch(batch_size, 1), *numbers)

    def forecast(self, samples: int, steps: int) -> Jitted:
        """A rollout of so many steps from so many initial times (of one member); on one device of a machine of one."""
        emulator, channels = self.objective.emulator, self.experiment.model.noise
        noise = jax.ShapeDtypeStruct((samples, steps, channels), np.float32) if channels else None
        network, stepper, noise = self._everywhere((emulator.network, emulator.stepper, noise))
        return emulator.rollout_program, (network, stepper, self._batch(samples, steps), noise)

    @cached_property
    def _alone(self) -> Objective:
        """The objective on one device, whose arrays need no place."""
        return replace(self.objective, devices=Devices(self.objective.devices.devices[:1]))

    @cached_property
    def _constants(self) -> Any:
        host = self.objective.constants_on_host
        return host if self.machine is None else self.machine.divided(host, self.objective.specs)

    def _everywhere(self, tree: Any) -> Any:
        return tree if self.machine is None else self.machine.replicated(tree)

    def _batch(self, samples: int, steps: int) -> Batch:
        data, domain = self.experiment.data, self.domain
        times = data.input_frames + steps
        grid = domain.latitude.size, domain.longitude.size
        stamp = np.array(["2000-01-01"], "datetime64[ns]")
        derived = {
            name: derived_forcing(name, stamp, domain.latitude, domain.longitude, data.tisr_period).shape[1:]
            for name in sorted({*data.inputs, *data.forcings} & set(DERIVED_FORCINGS))
        }

        def shape(*dims: int) -> Any:
            return jax.ShapeDtypeStruct((samples, times, *dims), np.float32)

        batch = Batch(shape(len(domain.channels), *grid), {name: shape(*dims) for name, dims in derived.items()})
        if self.machine is None:
            return batch
        division = self.objective.division
        return self.machine.shared(batch) if division is None else self.machine.divided(*division.outline(batch))
