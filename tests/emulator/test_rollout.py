"""The rollout: its steps are single steps."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from graphufs.emulator.rollout import advance, rollout
from graphufs.errors import UserError
from graphufs.model.compile import jit
from tests.support.small_model import CHANNELS, network, samples, stepper

PREDICT = jit(lambda network, stepper, inputs, forcings: stepper(network, inputs, forcings))
ROLLOUT = jit(rollout)


def at(arrays: dict, *steps: int) -> dict:
    return {name: array[:, list(steps)] for name, array in arrays.items()}


def test_each_step_is_a_single_step_from_the_last_prediction() -> None:
    net, step, (inputs, _, forcings) = network(), stepper(), samples()
    predictions = ROLLOUT(net, step, inputs, forcings)
    assert predictions["tmp"].shape == (2, 3, 2, 6, 12)
    current = dict(inputs)
    for time in range(3):
        single = PREDICT(net, step, current, at(forcings, time))
        for name in CHANNELS.target_variables:
            np.testing.assert_allclose(predictions[name][:, time], single[name][:, 0], rtol=1e-5, atol=1e-4)
        for name in ("tmp", "pressfc"):
            current[name] = jnp.concatenate([current[name][:, 1:], single[name]], axis=1)
        newest = at(forcings, time)["day_progress_sin"]
        current["day_progress_sin"] = jnp.concatenate([current["day_progress_sin"][:, 1:], newest], axis=1)


def test_an_input_nobody_knows_the_future_of_stops_a_rollout_of_several_steps() -> None:
    frame = jnp.zeros((1, 2, 1, 6, 12))
    with pytest.raises(UserError, match="soilw1 is an input that changes with time"):
        advance({"soilw1": frame}, {}, {})


def test_forcings_at_other_times_than_the_targets_are_refused() -> None:
    inputs, _, forcings = samples()
    with pytest.raises(UserError, match="rollout of 2 steps"):
        rollout(network(), stepper(), inputs, forcings, steps=2)
