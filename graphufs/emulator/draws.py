"""The noise that members are made of: each draw is a function of numbers that say what it is for.

In training these are the seed, the update, the place of the sample in the batch, the member and the step. So a training
that goes on, on other devices or with other parts of a batch at once, sees the same. In forecasts they are the seed,
the initial time, the member and the step.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

TRAINING, VALIDATION, FORECAST, AUGMENTATION = 1, 2, 3, 4
"""What is drawn, noise or how samples are moved: anew for each, whatever the numbers after it."""


def batch_noise(
    seed: jax.Array | np.uint32, purpose: int, number: jax.Array | np.int32, shape: tuple[int, int, int, int]
) -> jax.Array:
    """Noise of a batch, standard normal, float32 of `shape`, (sample, member, step, channel).

    `number` is that of the update, or of the batch of a validation.
    """
    samples, members, steps, channels = shape
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), purpose), number)
    return _by_numbers(key, (jnp.arange(samples), jnp.arange(members), jnp.arange(steps)), channels)


def member_noise(
    seed: int, initial_times: np.ndarray, member: int, steps: int, channels: int, *, first: int = 0
) -> np.ndarray:
    """Noise of one member of forecasts from initial times [time], float32 [time, step, channel], from step `first` on.

    It is a function of the seed, the initial time, the member and the step, so that a member is the same in an ensemble
    of any size, whatever else is forecast with it.
    """
    hours = initial_times.astype("datetime64[h]").astype(np.int64).astype(np.uint32)
    key = jax.random.fold_in(jax.random.key(np.uint32(seed)), FORECAST)
    numbers = (jnp.asarray(hours), jnp.array([member]), first + jnp.arange(steps))
    return np.asarray(_by_numbers(key, numbers, channels)[:, 0])


def _by_numbers(key: jax.Array, numbers: tuple[jax.Array, ...], channels: int) -> jax.Array:
    """Noise [..., channel] of all combinations of numbers, each folded into the key in turn."""
    if not numbers:
        return jax.random.normal(key, (channels,))
    folded = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers[0])
    return jax.vmap(lambda one: _by_numbers(one, numbers[1:], channels))(folded)
