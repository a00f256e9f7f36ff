"""One update of the parameters, and the loss over a whole period, as compiled functions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec
from numpy.typing import NDArray

from graphufs.config.training import Optimizer, StageLoss
from graphufs.data.loader import Batch, DerivedCache, WindowReader
from graphufs.emulator import symmetries
from graphufs.emulator.diagnosed import Diagnosed
from graphufs.emulator.draws import TRAINING, VALIDATION, batch_noise
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.model.compile import jit
from graphufs.model.exchange import SPACE
from graphufs.model.network import GraphCast
from graphufs.model.one_step import Stepper
from graphufs.train.devices import AXIS, Devices
from graphufs.train.division import Division, mean_over_devices, on_devices
from graphufs.train.loss import SQUARED, LossDiagnostics, LossWeights, batch_loss_and_grads, sample_losses
from graphufs.train.loss_weights import channel_factors
from graphufs.train.optimizer import by_tensor, optimizer, rate_factors, split
from graphufs.train.stages import Plan, PlannedStage
from graphufs.train.vectors import changed

# Whether each step of a rollout is computed again for the gradient; None leaves it to scan_steps. For blocks of grid
# points see ReplayEmulator.stepper.
_REMAT_STEPS = {"auto": None, "nothing": False, "steps": True, "blocks": False, "everything": True}


Constants = tuple[Stepper, LossWeights, Any]
"""Of an update: static fields by name, where they are divided, else None."""


class State(NamedTuple):
    """What an update changes: parameters, the optimizer's state, and the parameters' average where one is kept."""

    network: GraphCast
    optimizer: optax.OptState
    average: GraphCast | None

    @property
    def forecaster(self) -> GraphCast:
        """The parameters for validation and forecasts."""
        return self.network if self.average is None else self.average


class Controls(NamedTuple):
    """Numbers that change from update to update: how many are done, the learning rate, and the factor to it.

    As arguments, and not as constants of a program, they let all stages with the same rollout share one; so does the
    seed of the noise.
    """

    done: np.int32
    learning_rate: np.float32
    rate_factor: np.float32
    seed: np.uint32


class UpdateResult(NamedTuple):
    """What an update found, on the device: the batch's mean loss, what it is made of, the norm of its gradient."""

    loss: jax.Array
    diagnostics: LossDiagnostics
    gradient_norm: jax.Array


@dataclass(frozen=True)
class Program:
    """A stage's compiled update. The state given is used up: its memory is taken for the new one."""

    compiled: jax.stages.Compiled
    objective: Objective
    device_batch_size: int
    ahead_bytes: int = 0
    """Of a device's memory, what the next batch takes, which comes meanwhile."""

    def __call__(self, state: State, controls: Controls, batch: Batch) -> tuple[State, UpdateResult]:
        """Take one step with this process's part of a batch, on the devices already or not."""
        objective = self.objective
        placed = batch if isinstance(batch.frames, jax.Array) else objective.scatter(batch)
        result: tuple[State, UpdateResult] = self.compiled(state, controls, *objective.constants, placed)
        return result

    @property
    def needed_bytes(self) -> int:
        """The memory of one device that running it takes, its arguments and the next batch included."""
        sizes = self.compiled.memory_analysis()
        if sizes is None:
            return 0
        return int(
            sizes.temp_size_in_bytes
            + sizes.argument_size_in_bytes
            + sizes.output_size_in_bytes
            - sizes.alias_size_in_bytes
            + self.ahead_bytes
        )


def _with_frozen(state: State, frozen: GraphCast | None) -> State:
    """The state with the tensors that do not learn, bit for bit as they were."""
    if frozen is None:
        return state
    average = None if state.average is None else eqx.combine(state.average, frozen)
    return State(eqx.combine(state.network, frozen), state.optimizer, average)


@dataclass(frozen=True)
class Objective:
    """The loss of an experiment: an emulator's step with the weights of its errors, on some devices."""

    emulator: ReplayEmulator
    plan: Plan
    devices: Devices
    _derived: DerivedCache = field(default_factory=DerivedCache, repr=False)
    _loss_programs: dict[StageLoss, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def weights(self) -> LossWeights:
        """Latitude, level and variable weights as the experiment says."""
        experiment, domain = self.emulator.experiment, self.emulator.domain
        settings = experiment.training.loss
        by_pressure = settings.level_weights and experiment.data.source.component == "fv3"
        levels = {name: [native for _, native in domain.levels(name)] for name in experiment.data.targets}
        wanted = {name: [level for level, _ in domain.levels(name)] for name in experiment.data.targets}
        return LossWeights.build(
            self.emulator.channels,
            domain.latitude,
            domain.longitude,
            levels={name: values for name, values in levels.items() if values} if by_pressure else None,
            variable_weights=settings.variable_weights,
            channel_weights=channel_factors(settings.channel_weights, wanted),
            parent_latitude=domain.parent_latitude,
            weigh_latitudes=settings.latitude_weights,
            masks=domain.masks(experiment.data),
            diagnosed=Diagnosed.build(settings.diagnostics, experiment.data, domain, self.emulator.statistics),
        )

    @cached_property
    def division(self) -> Division | None:
        """How devices share each sample; None where they do not."""
        return Division.of(self.emulator, self.devices)

    @cached_property
    def constants_on_host(self) -> Constants:
        """`constants`, as every process has them."""
        if self.division is not None:
            return self.division.constants(self.emulator, self.weights)
        return self.emulator.stepper, self.weights, None

    @cached_property
    def specs(self) -> Any:
        """How the constants are divided over the devices."""
        if self.division is not None:
            return self.division.specs(self.constants_on_host)
        return jax.tree.map(lambda _: PartitionSpec(), self.constants_on_host)

    @cached_property
    def constants(self) -> Constants:
        """What every program takes and none changes, on all devices: stepper, weights, and divided static fields."""
        constants: Constants = self.devices.place(self.constants_on_host, self.specs)
        return constants

    def scatter(self, batch: Batch) -> Batch:
        """This process's part of a batch, over the devices, to which it goes in the background."""
        if self.devices.single:
            (device,) = self.devices.devices
            # a CPU computes on the host's arrays as they are
            return batch if device.platform == "cpu" else jax.device_put(batch, device)
        if self.division is None:
            return self.devices.scatter(batch)
        return self.devices.scatter(batch, self.division.batch_specs(batch))

    @cached_property
    def _rates(self) -> NDArray[np.float32]:
        """The learning rate of each update, [updates]."""
        rate = jit(jax.vmap(lambda done: jnp.asarray(self.plan.rate(done), jnp.float32)))
        return np.asarray(rate(np.arange(self.plan.total, dtype=np.int32)))

    def controls(self, done: int, rate_factor: float = 1.0) -> Controls:
        """What the update that follows `done` others is told, with the types a program is compiled for."""
        return Controls(np.int32(done), self._rates[done], np.float32(rate_factor), self._seed)

    @property
    def _seed(self) -> np.uint32:
        return np.uint32(self.emulator.experiment.training.seed)

    def start(self, network: GraphCast) -> State:
        """The state before the first update, from given parameters."""
        network = jax.tree.map(jnp.array, network)  # copies, as updates use up what they are given
        average = None if self._average is None else jax.tree.map(jnp.array, network)
        # the structure of its state does not depend on the settings; what is frozen has none
        settings = self.emulator.experiment.training
        moments = optimizer(settings.optimizer, self.plan.rate).init(split(network, settings.freeze)[0])
        return self.place(State(network, moments, average))

    def place(self, state: State) -> State:
        """A state that every process has whole, over the devices."""
        placed: State = self.devices.place(state, self.state_specs(state))
        return placed

    def state_specs(self, state: State) -> State:
        """How a state is divided over the devices: parameters are the same on all, moments where that is asked for."""
        same: State = jax.tree.map(lambda _: PartitionSpec(), state)
        return same._replace(optimizer=self.devices.spread(state.optimizer)) if self._spreads else same

    @property
    def _spreads(self) -> bool:
        return self.emulator.experiment.training.compute.shard_optimizer and not self.devices.single

    def program(self, stage: PlannedStage, device_batch_size: int) -> Program:
        """Compile a stage's update: a device computes `device_batch_size` samples of its part of a batch at once."""
        state = jax.eval_shape(lambda: self.start(self.emulator.network)) if self.devices.single else None
        if state is None:
            state = self.start(self.emulator.network)
        sample = stage.loader.samples.read(stage.loader.initial_times(0)[:1])
        share = stage.loader.batch_size // self.devices.shard[1]
        widened = jax.tree.map(lambda part: np.broadcast_to(part, (share, *part.shape[1:])), sample)
        size = sum(part.nbytes for part in jax.tree.leaves(widened)) * self.devices.processes // self.devices.count
        if self.devices.single:
            batch = jax.tree.map(lambda part: jax.ShapeDtypeStruct(part.shape, part.dtype), widened)
        else:
            batch = self.scatter(widened)
        function = self.update(stage.optimizer, device_batch_size, stage.loss)
        compiled = function.lower(state, self.controls(0), *self.constants, batch).compile()
        return Program(compiled, self, device_batch_size, 0 if self.devices.devices[0].platform == "cpu" else size)

    @property
    def _average(self) -> float | None:
        return self.emulator.experiment.training.average

    def _noise(self, loss: StageLoss, seed: Any, purpose: int, number: Any, batch: Batch) -> jax.Array | None:
        """The noise [sample, member, step, channel] of a whole batch's members; None where the loss knows none."""
        if loss.kind != "crps":
            return None
        experiment = self.emulator.experiment
        steps = batch.frames.shape[1] - experiment.data.input_frames
        shape = len(batch.frames), loss.members, steps, experiment.model.noise
        return batch_noise(seed, purpose, number, shape)

    def _moves(self, controls: Controls, batch: Batch) -> symmetries.Moves | None:
        """How the samples of a whole batch are moved; None where they are not."""
        settings = self.emulator.experiment.training.augmentation
        if not settings.asked:
            return None
        return symmetries.draw(settings, controls.seed, controls.done, len(batch.frames), batch.frames.shape[-1])

    def update(self, settings: Optimizer, device_batch_size: int, loss: StageLoss = SQUARED) -> Any:
        """The jitted update (state, controls, *constants, batch) -> (state, UpdateResult)."""
        training = self.emulator.experiment.training
        compute, factors = training.compute, training.learning_rate_factors

        def gradients(
            network: tuple[GraphCast, GraphCast | None], constants: Constants, batch: tuple[Batch, Any]
        ) -> Any:
            (stepper, weights, static), (noise, moves) = constants, batch[1]
            inputs, targets, forcings = self.emulator.fields(batch[0], static)
            if moves is not None:
                inputs, targets, forcings = (symmetries.move(part, moves) for part in (inputs, targets, forcings))
            learning, frozen = network
            found = batch_loss_and_grads(
                learning,
                stepper,
                weights,
                inputs,
                targets,
                forcings,
                loss=loss,
                noise=noise,
                in_turn=compute.members_in_turn,
                device_batch_size=device_batch_size,
                remat=_REMAT_STEPS[compute.rematerialize],
                frozen=frozen,
            )
            return found if self.devices.single else mean_over_devices(found, self.devices)

        by_name = rate_factors(self.emulator.network, factors) if factors else {}

        def change(old: State, gradient: Any, controls: Controls, norm: jax.Array | None) -> State:
            """Of networks, or of vectors or blocks of their numbers; of blocks with the whole gradient's norm."""
            transformation = optimizer(settings, lambda _: controls.learning_rate, norm)
            updates, moments = transformation.update(gradient, old.optimizer, old.network)
            updates = jax.tree.map(lambda update: controls.rate_factor * update, updates)
            if factors:
                updates = by_tensor(updates, by_name)
            network = optax.apply_updates(old.network, updates)
            return State(network, moments, self._averaged(old.average, network, controls.done))

        def update(
            state: State, controls: Controls, stepper: Stepper, weights: LossWeights, static: Any, batch: Batch
        ) -> tuple[State, UpdateResult]:
            constants: Constants = stepper, weights, static
            noise = self._noise(loss, controls.seed, TRAINING, controls.done, batch)
            drawn = noise, self._moves(controls, batch)
            shared = self._on_devices(gradients, batch)
            learning, frozen = split(state.network, training.freeze)
            average = None if state.average is None else split(state.average, training.freeze)[0]
            state = State(learning, state.optimizer, average)
            (value, diagnostics), gradient = shared((learning, frozen), constants, (batch, drawn))
            how = stepper.graph.arrangement
            if not self.devices.single:  # among devices XLA alone
                how = replace(how, kernels="xla")
            # a factor is of a tensor, which a vector or block of numbers does not know; and tensors are what is divided
            new, norm = changed(change, state, gradient, controls, how, apart=bool(factors) or self._spreads)
            if self._spreads:
                new = self.devices.constrain(new, self.state_specs(new))
            return _with_frozen(new, frozen), UpdateResult(value, diagnostics, norm)

        return jit(update, deterministic=compute.deterministic, donate_argnums=0)

    def _averaged(self, average: Any, network: Any, done: Any) -> Any:
        """The exponential moving average, with a decay that grows from 0.1 so that the first updates do not linger."""
        if average is None or self._average is None:
            return None
        decay = jnp.minimum(self._average, (1.0 + done) / (10.0 + done))
        return jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, average, network)

    def _on_devices(self, function: Any, batch: Batch) -> Any:
        """A function of (network, constants, (batch, what was drawn for it)) that each device runs with its part."""
        return function if self.devices.single else on_devices(function, self.devices, self.division, self.specs, batch)

    def loss_program(self, loss: StageLoss = SQUARED) -> Any:
        """The jitted losses (network, *constants, batch, seed, number of the batch) -> [batch], over all devices."""
        if loss in self._loss_programs:
            return self._loss_programs[loss]

        def losses(network: GraphCast, constants: Constants, batch: tuple[Batch, jax.Array | None]) -> jax.Array:
            stepper, weights, static = constants
            fields = self.emulator.fields(batch[0], static)
            found = sample_losses(network, stepper, weights, *fields, loss=loss, noise=batch[1])[0]
            found = jax.lax.psum(found, SPACE) if self.devices.space > 1 else found
            return found if self.devices.single else jax.lax.all_gather(found, AXIS, tiled=True)

        def of_batch(
            network: GraphCast,
            stepper: Stepper,
            weights: LossWeights,
            static: Any,
            batch: Batch,
            seed: Any,
            number: Any,
        ) -> jax.Array:
            noise = self._noise(loss, seed, VALIDATION, number, batch)
            shared = self._on_devices(losses, batch)
            found: jax.Array = shared(network, (stepper, weights, static), (batch, noise))
            return found

        return self._loss_programs.setdefault(loss, jit(of_batch))

    def losses(
        self, network: GraphCast, batch: Batch, loss: StageLoss = SQUARED, number: int = 0
    ) -> NDArray[np.float32]:
        """The loss of each sample of a batch, [batch], given this process's part of it.

        `number` is that of the batch, which its noise depends on, the same at each validation.
        """
        program = self.loss_program(loss)
        return np.asarray(program(network, *self.constants, self.scatter(batch), self._seed, np.int32(number)))

    def mean_loss(self, network: GraphCast, samples: WindowReader, loss: StageLoss = SQUARED) -> float:
        """The mean loss over all samples. The last batch is filled up with repeats, which do not count."""
        total, count = 0.0, len(samples.initial_times)
        process, processes = self.devices.shard
        size = self.emulator.experiment.training.batch_size
        part = slice(process * size // processes, (process + 1) * size // processes)
        for first in range(0, count, size):
            times = samples.initial_times[first : first + size]
            filled = np.concatenate([times, np.repeat(times[-1:], size - len(times))])
            losses = self.losses(network, samples.read(filled[part], self._derived), loss, first // size)
            total += float(losses[: len(times)].sum(dtype=np.float64))
        return total / count
