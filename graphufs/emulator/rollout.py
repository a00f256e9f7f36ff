"""The autoregressive rollout: each step's prediction becomes an input of the next; for training and forecasting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from graphufs.errors import UserError
from graphufs.model.channels import Arrays
from graphufs.model.network import EdgeEmbeddings, GraphCast
from graphufs.model.one_step import Stepper

Observe = Callable[[dict[str, jax.Array], dict[str, jax.Array], dict[str, jax.Array], Any], Any]
"""(normalised outputs, prediction, inputs it was made from, this step's extra) -> what to keep of the step."""


def rollout(
    network: GraphCast,
    stepper: Stepper,
    inputs: Arrays,
    forcings: Arrays,
    *,
    steps: int | None = None,
    noise: jax.Array | None = None,
) -> dict[str, jax.Array]:
    """Predictions [batch, steps, level, lat, lon] by target, in physical units; see `scan_steps`."""

    def observe(outputs: Any, prediction: Any, inputs: Any, extra: Any) -> Any:
        return prediction

    kept = scan_steps(network, stepper, inputs, forcings, observe, steps=steps, noise=noise)
    return {name: jnp.moveaxis(array[:, :, 0], 0, 1) for name, array in kept.items()}


def scan_steps(
    network: GraphCast,
    stepper: Stepper,
    inputs: Arrays,
    forcings: Arrays,
    observe: Observe,
    extra: Any = None,
    *,
    steps: int | None = None,
    edges: EdgeEmbeddings | None = None,
    noise: jax.Array | None = None,
    remat: bool | None = None,
) -> Any:
    """Step by step, keep what `observe` returns, stacked along a new first axis.

    Inputs are canonical arrays, `input_frames` times each, static ones once; forcings those at the target times,
    [batch, steps, ...]; `extra` is a pytree of arrays [batch, steps, ...] of which `observe` gets [batch, 1, ...] at
    each step. `steps` is needed only where there are no forcings; `edges` are `network.embed_edges(stepper.graph)`
    where already known. `noise` is [batch, steps, channel], for a network conditioned on it. `remat`: recompute each
    step when differentiated, so that memory does not grow with the steps' activations. None: so; on a CPU it is faster
    too (193 against 267 ms for four steps of the demo).

    Raises
    ------
    UserError
        If an input depends on time but is neither a target nor a forcing, or the forcings' times do not fit.
    """
    forcings = {name: forcings[name] for name in stepper.channels.forcing_variables if name in forcings}
    steps = _count_steps(forcings, steps)
    static = {name: inputs[name] for name in stepper.channels.static_variables if name in inputs}
    moving = {name: array for name, array in inputs.items() if name in stepper.channels.input_variables}
    moving = {name: array for name, array in moving.items() if name not in static}
    edges = stepper.embed_edges(network) if edges is None else edges

    def step(moving: dict[str, jax.Array], now: tuple[Any, ...]) -> tuple[dict[str, jax.Array], Any]:
        forcing, extra, noise = now
        current = {**moving, **static}
        outputs = stepper.apply(network, current, forcing, edges, noise)
        prediction = stepper.to_physical(outputs, current)
        return advance(moving, prediction, forcing), observe(outputs, prediction, current, extra)

    if steps == 1:
        # the inputs may then hold variables nothing is known about at the next time
        outputs = stepper.apply(network, inputs, forcings, edges, None if noise is None else noise[:, 0])
        prediction = stepper.to_physical(outputs, inputs)
        return jax.tree.map(lambda array: array[None], observe(outputs, prediction, dict(inputs), extra))
    by_time = jax.tree.map(lambda array: jnp.moveaxis(array, 1, 0)[:, :, None], (forcings, extra))
    of_steps = (*by_time, None if noise is None else jnp.moveaxis(noise, 1, 0))
    moving = {name: _widen(array, forcings.get(name)) for name, array in moving.items()}
    return jax.lax.scan(step if remat is False else jax.checkpoint(step), moving, of_steps, length=steps)[1]


def advance(inputs: Arrays, prediction: Arrays, forcings: Arrays) -> dict[str, jax.Array]:
    """The inputs of the next step: the oldest time dropped, the predicted or forcing one appended.

    `inputs` hold the variables that depend on time [batch, time, ...]; the others have one time.

    Raises
    ------
    UserError
        If an input is neither predicted nor a forcing.
    """
    new: dict[str, jax.Array] = {}
    for name, array in inputs.items():
        latest = prediction.get(name, forcings.get(name))
        if latest is None:
            raise UserError(
                f"{name} is an input that changes with time, but neither a target nor a forcing: its value at later "
                "times is unknown and no rollout of several steps can be made. Add it to the forcings or the targets"
            )
        shape = jnp.broadcast_shapes(array[:, :1].shape, latest.shape)
        older = jnp.broadcast_to(array[:, 1:], (shape[0], array.shape[1] - 1, *shape[2:]))
        new[name] = jnp.concatenate([older, jnp.broadcast_to(latest, shape)], axis=1)
    return new


def _count_steps(forcings: Mapping[str, jax.Array], steps: int | None) -> int:
    lengths = {name: array.shape[1] for name, array in forcings.items()}
    wanted = steps if steps is not None else max(lengths.values(), default=1)
    if wrong := {name: length for name, length in lengths.items() if length != wanted}:
        raise UserError(f"a rollout of {wanted} steps needs forcings at as many times, got {wrong}")
    return wanted


def _widen(array: jax.Array, forcing: jax.Array | None) -> jax.Array:
    """Give an input the shape it will keep through the scan."""
    if forcing is not None:
        rest = jnp.broadcast_shapes(array[:, :1].shape, forcing[:, :1].shape)
        return jnp.broadcast_to(array, (rest[0], array.shape[1], *rest[2:]))
    return array
