"""Samples turned about the globe's axis and mirrored at the equator: the same laws of motion, another weather.

A training that sees few samples learns from these what does not depend on the place. Each sample of each update is
moved as numbers say that are drawn for it; a training that goes on draws the same. Static inputs and forcings move with
the fields; what stays is the network's knowledge of latitude and longitude.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from graphufs.config.training import Augmentation
from graphufs.emulator.draws import AUGMENTATION
from graphufs.errors import UserError
from graphufs.grid.grid import TOLERANCE
from graphufs.vocabulary.mirror import changes_sign


class Moves(NamedTuple):
    """How the samples of a batch are moved."""

    turns: jax.Array
    """int32 [batch], grid points to the east."""
    mirrored: jax.Array
    """bool [batch]."""


def draw(
    settings: Augmentation, seed: jax.Array | np.uint32, update: jax.Array | np.int32, samples: int, longitudes: int
) -> Moves:
    """The moves [batch] of samples on a grid of so many longitudes: a function of the seed and the update's number."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), AUGMENTATION), update)
    to_turn, to_mirror = jax.random.split(key)
    turns = jax.random.randint(to_turn, (samples,), 0, longitudes if settings.rotate_longitude else 1)
    mirrored = jax.random.bernoulli(to_mirror, shape=(samples,)) & settings.mirror
    return Moves(turns, mirrored)


def move(fields: Mapping[str, Any], moves: Moves) -> dict[str, jax.Array]:
    """Fields by variable, [batch, time, level, lat, lon] where an axis of length 1 stands for all, moved."""
    return {name: _moved(name, jnp.asarray(values), moves) for name, values in fields.items()}


def _moved(name: str, values: jax.Array, moves: Moves) -> jax.Array:
    values = jnp.broadcast_to(values, (len(moves.turns), *values.shape[1:]))
    if values.shape[-1] > 1:
        values = jax.vmap(lambda one, turns: jnp.roll(one, turns, axis=-1))(values, moves.turns)
    mirrored = values[..., ::-1, :] * (-1 if changes_sign(name) else 1)
    return jnp.where(moves.mirrored[:, None, None, None, None], mirrored, values)


def check(settings: Augmentation, latitude: np.ndarray, longitude: np.ndarray, masks: dict[str, np.ndarray]) -> None:
    """Check that a grid in degrees has the symmetries asked for.

    Raises
    ------
    UserError
        If its longitudes do not go round the globe in equal steps, its latitudes are not the same on both sides of the
        equator, or a variable does not exist everywhere: `masks` has such variables, [level, lat, lon].
    """
    if not settings.asked:
        return
    if masks:
        raise UserError(
            f"training.augmentation moves fields over the globe, but {', '.join(sorted(masks))} does not exist "
            "everywhere; leave training.augmentation out"
        )
    circle = longitude[0] + 360.0 / len(longitude) * np.arange(len(longitude))
    if settings.rotate_longitude and not np.allclose(longitude, circle, rtol=0, atol=TOLERANCE):
        raise UserError(
            "training.augmentation.rotate_longitude is true, but the grid's "
            f"{len(longitude)} longitudes, {longitude[0]:g} to {longitude[-1]:g}, do not go round the globe in equal "
            "steps; set it to false"
        )
    if settings.mirror and not np.allclose(latitude, -latitude[::-1], rtol=0, atol=TOLERANCE):
        raise UserError(
            f"training.augmentation.mirror is true, but the grid's {len(latitude)} latitudes, {latitude[0]:g} to "
            f"{latitude[-1]:g}, are not the same on both sides of the equator; set it to false"
        )
