"""One update of the parameters, and the loss over a whole period, as compiled functions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from graphufs.emulator import ReplayEmulator
from graphufs.model.compile import jit
from graphufs.model.network import GraphCast
from graphufs.model.normalized import Stepper
from graphufs.train.loader import Batch, DerivedCache, Samples
from graphufs.train.loss import LossWeights, batch_loss_and_grads, sample_losses


class State(NamedTuple):
    """What an update changes: the parameters and the optimizer's state."""

    network: GraphCast
    optimizer: optax.OptState


class Outcome(NamedTuple):
    """What an update found, as device scalars: batch-mean loss, its part by target, norm of the gradient."""

    loss: jax.Array
    by_variable: dict[str, jax.Array]
    gradient_norm: jax.Array


@dataclass(frozen=True)
class Objective:
    """The loss of an experiment: an emulator's step with the weights of its errors."""

    emulator: ReplayEmulator
    optimizer: optax.GradientTransformation

    @cached_property
    def weights(self) -> LossWeights:
        """Latitude, level and variable weights as the experiment says."""
        experiment, domain = self.emulator.experiment, self.emulator.domain
        settings = experiment.training.loss
        by_pressure = settings.level_weights and experiment.data.source.component == "fv3"
        levels = {name: [native for _, native in domain.levels(name)] for name in experiment.data.targets}
        return LossWeights.build(
            self.emulator.channels,
            domain.latitude,
            domain.longitude,
            levels={name: values for name, values in levels.items() if values} if by_pressure else None,
            variable_weights=settings.variable_weights,
            parent_latitude=domain.parent_latitude,
            weigh_latitudes=settings.latitude_weights,
            masks=domain.masks(experiment.data),
        )

    def start(self) -> State:
        """The emulator's parameters with a fresh optimizer."""
        network = jax.tree.map(jnp.array, self.emulator.network)  # a copy, as updates use up what they are given
        return State(network, self.optimizer.init(network))

    def update(self, state: State, batch: Batch) -> tuple[State, Outcome]:
        """Take one step. The state given is used up: its memory is taken for the new one."""
        result: tuple[State, Outcome] = self._update(state, self.emulator.stepper, self.weights, batch)
        return result

    def losses(self, network: GraphCast, batch: Batch) -> NDArray[np.float32]:
        """The loss of each sample of a batch, [batch]."""
        return np.asarray(self._losses(network, self.emulator.stepper, self.weights, batch))

    @cached_property
    def _update(self) -> Any:
        def update(state: State, stepper: Stepper, weights: LossWeights, batch: Batch) -> tuple[State, Outcome]:
            inputs, targets, forcings = self.emulator.fields(batch)
            (loss, by_variable), gradients = batch_loss_and_grads(
                state.network, stepper, weights, inputs, targets, forcings
            )
            updates, optimizer = self.optimizer.update(gradients, state.optimizer, state.network)
            network = optax.apply_updates(state.network, updates)
            return State(network, optimizer), Outcome(loss, by_variable, optax.tree.norm(gradients))

        return jit(update, donate_argnums=0)

    @cached_property
    def _losses(self) -> Any:
        def losses(network: GraphCast, stepper: Stepper, weights: LossWeights, batch: Batch) -> jax.Array:
            inputs, targets, forcings = self.emulator.fields(batch)
            return sample_losses(network, stepper, weights, inputs, targets, forcings)[0]

        return jit(losses)


def mean_loss(objective: Objective, network: GraphCast, samples: Samples, batch_size: int) -> float:
    """The mean loss over all samples. The last batch is filled up with repeats, which do not count."""
    total, count = 0.0, len(samples.initial_times)
    cache = DerivedCache()
    for chosen in _batches(samples.initial_times, batch_size):
        losses = objective.losses(network, samples.read(chosen.filled, cache))
        total += float(losses[: chosen.wanted].sum(dtype=np.float64))
    return total / count


class _Chosen(NamedTuple):
    filled: NDArray[np.datetime64]
    wanted: int


def _batches(times: NDArray[np.datetime64], size: int) -> Iterator[_Chosen]:
    for first in range(0, len(times), size):
        part = times[first : first + size]
        yield _Chosen(np.concatenate([part, np.repeat(part[-1:], size - len(part))]), len(part))
