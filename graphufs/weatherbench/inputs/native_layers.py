"""Where a native layer may stand for a pressure level."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graphufs.config.data import EMBEDDED
from graphufs.errors import UserError
from graphufs.replay.pressure_levels import replay_layers, sigma_layers

GROUND = (900.0, 1050.0)
"""Surface pressures in hPa from the ground at 1 km in a low to the sea in a high."""

WITHIN = 0.08
"""The fraction of a level's pressure that the layer's may differ by."""


def as_levels(native: Mapping[float, float], source: str) -> str:
    """What scores say of their levels where layers are taken for the levels they are called by.

    A layer may stand for a level where its pressure stays within 8 % of the level's for surface pressures from 900
    to 1050 hPa, that is over ground up to about 1 km: Replay's layer "500" runs from 469 to 524 hPa there. The lowest
    layers, which follow the ground, may not ("1000" is 1 hPa above the ground wherever that is). `native` has the
    layers' reference pressures by the level they are called by, hPa; `source` is the address of the Replay store.

    Raises
    ------
    UserError
        If a layer is too far from its level.
    """
    levels = np.array(sorted(native))
    reference = np.array([native[level] for level in levels])
    if source == EMBEDDED:
        pressures = sigma_layers(reference).pressure(np.array(GROUND))
    else:
        layers = replay_layers()
        pressures = layers.pressure(np.array(GROUND))[layers.find(reference.tolist())]
    far = np.abs(pressures / levels[:, None] - 1).max(axis=1) > WITHIN
    if far.any():
        names = ", ".join(
            f"{level:g} ({low:.0f} to {high:.0f} hPa)"
            for level, (low, high) in zip(levels[far], pressures[far], strict=True)
        )
        raise UserError(
            f"the native layers {names} cannot stand for pressure levels: over ground up to 1 km their pressure is "
            "more than 8 % off the level's. Set evaluation.era5.native_layers to leave_out to score the surface only"
        )
    return "native model layers taken for the pressure levels they are called by"
