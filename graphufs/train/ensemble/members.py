"""The score of an ensemble's members in training, which makes their spread true.

With the errors e_i of M members against one truth, at each point

    skill A = mean |e_i|,   distance P = mean over pairs |e_i - e_j|,   crps = A - (1 - (1 - alpha)/M) P / 2:

fair for alpha = 1, the members' step function's CRPS (biased) for alpha = 0, almost fair between (Lang et al. 2024,
arXiv:2412.15832). It is computed as the mean over pairs of (|e_i| + |e_j| - (1 - eps) |e_i - e_j|)/2, whose terms are
all positive, not as a difference of two means. Errors of members are taken, not their outputs: in a rollout each member
has its own last input, and its outputs are differences from that.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from graphufs.emulator.rollout import Observe, scan_steps
from graphufs.model.channels import Arrays
from graphufs.model.network import GraphCast
from graphufs.model.one_step import Stepper


class Spread(NamedTuple):
    """What ensembles look like, by target [..., level], spatial means in units of the normalised target.

    With M members the unbiased mean squared error of their mean is that of the mean of M, less variance / M; the
    corrected spread/skill is the root of variance / mean_error.
    """

    skill: dict[str, jax.Array]
    """A, the mean absolute error of the members."""
    distance: dict[str, jax.Array]
    """P, the mean distance of two members."""
    variance: dict[str, jax.Array]
    """Of the members, unbiased."""
    mean_error: dict[str, jax.Array]
    """The mean squared error of the ensemble's mean, unbiased."""


def crps(errors: jax.Array, alpha: float = 1.0) -> jax.Array:
    """The score of errors [member, ...] at each point, [...]; of one member the absolute error."""
    count = len(errors)
    sizes = jnp.abs(errors)
    if count == 1:
        return sizes[0]
    share = 1 - (1 - alpha) / count
    pairs = [
        (sizes[i] + sizes[j] - share * jnp.abs(errors[i] - errors[j])) / 2 for i, j in combinations(range(count), 2)
    ]
    return sum(pairs[1:], start=pairs[0]) / len(pairs)


def spread(errors: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Skill, distance, variance and squared error of the mean, of errors [member, ...] at each point, as `Spread`."""
    count = len(errors)
    distances = [jnp.abs(errors[i] - errors[j]) for i, j in combinations(range(count), 2)]
    variance = errors.var(axis=0, ddof=1)
    distance = sum(distances[1:], start=distances[0]) / len(distances)
    return jnp.abs(errors).mean(axis=0), distance, variance, errors.mean(axis=0) ** 2 - variance / count


def neighbourhood_means(errors: jax.Array, areas: jax.Array, points: int) -> tuple[jax.Array, jax.Array]:
    """Area-weighted means over blocks of so many rows and columns, and each block's share of the area.

    Errors are [..., level, lat, lon], areas [level or 1, lat, lon or 1] as in `LossWeights`, 0 where there is nothing
    to score. Means are [..., level, block row, block column], shares [level or 1, block row, block column]; where rows
    or columns are no multiple of `points`, the last blocks are smaller.
    """
    rows, columns = errors.shape[-2:]
    after = (-rows % points, -columns % points)

    def sums(field: jax.Array) -> jax.Array:
        padded = jnp.pad(field, [(0, 0)] * (field.ndim - 2) + [(0, after[0]), (0, after[1])])
        blocks = padded.reshape(
            *field.shape[:-2], (rows + after[0]) // points, points, (columns + after[1]) // points, points
        )
        return blocks.sum(axis=(-3, -1))

    whole = jnp.broadcast_to(areas, (areas.shape[0], rows, columns))
    share = sums(whole)
    return sums(errors * whole) / jnp.where(share > 0, share, 1.0), share


def member_errors(
    network: GraphCast,
    stepper: Stepper,
    observe: Observe,
    fields: tuple[Arrays, Arrays, Arrays],
    noise: jax.Array,
    *,
    in_turn: bool,
    **how: Any,
) -> dict[str, jax.Array]:
    """The errors of members that noise [batch, member, step, channel] makes, by target.

    They are [member, step, batch, 1, level, lat, lon]. `fields` are inputs, forcings and targets, `observe` makes
    errors of a step, `how` is for `scan_steps`. With `in_turn` members follow each other and are computed again for the
    gradient: the memory is that of one.
    """

    def errors(fields: tuple[Arrays, Arrays, Arrays], noise: jax.Array) -> dict[str, jax.Array]:
        inputs, forcings, targets = fields
        found: dict[str, jax.Array] = scan_steps(
            network, stepper, inputs, forcings, observe, targets, noise=noise, **how
        )
        return found

    batch, members = noise.shape[:2]
    if in_turn:
        in_order: dict[str, jax.Array] = jax.lax.map(
            jax.checkpoint(lambda one: errors(fields, one)), jnp.moveaxis(noise, 1, 0)
        )
        return in_order
    # side by side, as so many more samples: those of one sample lie together
    static = stepper.channels.static_variables

    def repeated(arrays: Arrays) -> dict[str, jax.Array]:
        return {
            name: jnp.repeat(array, members, axis=0) if array.shape[0] == batch and name not in static else array
            for name, array in arrays.items()
        }

    inputs, forcings, targets = map(repeated, fields)
    found = errors((inputs, forcings, targets), noise.reshape(batch * members, *noise.shape[2:]))
    return {
        name: jnp.moveaxis(error.reshape(error.shape[0], batch, members, *error.shape[2:]), 2, 0)
        for name, error in found.items()
    }
