"""The pressure of Replay's native layers, and interpolation from whole columns of them to pressure levels.

The 127 layers are bounded by interfaces at p = a + b p_s, p_s being the surface pressure; a layer's own pressure is
the logarithmic mean of its interfaces, as that of the reference pressures in `pfull` is. Layers of the embedded world
lie at p = sigma p_s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

from graphufs.errors import UserError
from graphufs.replay.levels import same_level

REFERENCE = 1000.0
"""The surface pressure in hPa that `pfull` is the layers' pressure for."""


@dataclass(frozen=True)
class Layers:
    """A vertical coordinate: a and b of the interfaces, from the top down, [layer + 1]; `a` in hPa.

    Or, without `interfaces`, the layers' own, [layer], between which nothing is averaged.
    """

    a: np.ndarray
    b: np.ndarray
    interfaces: bool = True

    @property
    def reference(self) -> np.ndarray:
        """The pressures over a ground at 1000 hPa, hPa [layer]: what the store calls `pfull`."""
        return self.pressure(np.array(REFERENCE))

    def pressure(self, surface_pressure: np.ndarray) -> np.ndarray:
        """The layers' pressures, hPa [layer, ...], over a surface pressure [...] in hPa."""
        place = (slice(None), *(None,) * np.ndim(surface_pressure))
        p = self.a[place] + self.b[place] * np.asarray(surface_pressure, np.float64)
        return (p[1:] - p[:-1]) / np.log(p[1:] / p[:-1]) if self.interfaces else p

    def find(self, native: Sequence[float]) -> np.ndarray:
        """Which layers these reference pressures in hPa are, int [n].

        Raises
        ------
        UserError
            If one is none of them.
        """
        indices = np.array([int(np.argmin(np.abs(self.reference - value))) for value in native], int)
        if strange := [v for v, i in zip(native, indices, strict=True) if not _is_same(self.reference[i], v)]:
            raise UserError(
                f"{strange[0]:g} hPa is not a layer of this vertical coordinate, whose {len(self.reference)} layers "
                f"run from {self.reference[0]:g} to {self.reference[-1]:g} hPa"
            )
        return indices


def _is_same(reference: float, value: float) -> bool:
    # the table's pressures are logarithmic means to within 2e-5
    return bool(same_level(reference, value)) or abs(value / reference - 1) < 1e-4


@cache
def replay_layers() -> Layers:
    """Replay's 127 hybrid layers, from the table that comes with dinosaur."""
    lines = resources.files("dinosaur").joinpath("data/ufs127_hybrid_levels.csv").read_text().splitlines()[1:]
    a, b = np.array([[float(value) for value in line.split("\t")[1:3]] for line in lines]).T
    return Layers(a / 100, b)


def sigma_layers(reference: np.ndarray) -> Layers:
    """Layers at constant fractions of the surface pressure, given what they are over 1000 hPa, [layer]."""
    b = np.asarray(reference, np.float64) / REFERENCE
    return Layers(np.zeros_like(b), b, interfaces=False)


def to_pressure_levels(values: np.ndarray, pressure: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Values on pressure levels, interpolated linearly in the logarithm of pressure between neighbouring layers.

    Values and the layers' pressures are [layer, ...], from the top down, pressure rising with the layer and in the unit
    of `levels`; what is returned is float32 [level, ...]. There is no extrapolation: a level above the uppermost
    layer's pressure or below the lowest layer's (so also below the ground) has NaN, which scores leave out with
    `skipna`. A NaN in either neighbour makes NaN.

    Raises
    ------
    UserError
        If there are fewer than two layers, or pressure does not rise everywhere.
    """
    if len(values) < 2 or values.shape != pressure.shape:
        raise UserError(
            f"interpolation needs at least two layers and their pressures, got shapes {values.shape} and "
            f"{pressure.shape}"
        )
    if not (np.diff(pressure, axis=0) > 0).all():
        raise UserError("the layers' pressures must rise from the first layer to the last")
    logarithm = np.log(pressure)
    found = np.empty((len(levels), *values.shape[1:]), np.float32)
    for position, level in enumerate(levels):
        below = np.clip((pressure < level).sum(axis=0), 1, len(values) - 1)[None]  # the first layer not above the level
        lower, upper = (np.take_along_axis(logarithm, at, 0)[0] for at in (below, below - 1))
        share = (np.log(level) - upper) / (lower - upper)
        low, high = (np.take_along_axis(values, at, 0)[0].astype(np.float64) for at in (below, below - 1))
        inside = (level >= pressure[0]) & (level <= pressure[-1])
        found[position] = np.where(inside, high + share * (low - high), np.nan)
    return found
