"""Quantities that several targets make, as further channels of a loss: wind speed and hydrostatic balance.

    diagnosed = Diagnosed.build(["wind_speed"], experiment.data, domain, statistics)
    diagnosed(targets)["wind_speed"]          # [..., level, lat, lon], over a usual change during a time step

They are made alike of a prediction and of the truth, in physical units, so that the loss sees what errors of single
variables do not tell: components of the wind that are damped together, a mass and a temperature that do not fit. With
u and v the wind, T temperature, q specific humidity, p_s surface pressure, Phi geopotential and the virtual temperature
T_v = T (1 + (R_v/R_d - 1) q):

* wind_speed, 10m_wind_speed [m s-1]: sqrt(u^2 + v^2).
* hydrostatic_thickness [m] of native layers between interfaces at p = a + b p_s: (R_d/g) T_v ln(p_below/p_above).
* hydrostatic_balance [m2 s-2] between neighbouring pressure levels, 1 above 2, which is 0 where the balance holds:
  Phi_1 - Phi_2 - R_d (T_v1 + T_v2)/2 ln(p_2/p_1).

The first three are those of NOAA's graph-ufs (thickness as ufs2arco's Layers2Pressure.calc_delz with its constants, but
positive). Their scales need no statistics but those of the variables. With d the standard deviation of a variable's
change over a time step (of itself, for a target that is no input):

* wind speed: sqrt((d_u^2 + d_v^2)/2), what of a change lies along a wind of any direction.
* thickness: the root of the sum of (dh/dx d_x)^2 over x = T, q, p_s, with the derivatives at the mean state.
* balance: R_d (d_Tv1 + d_Tv2)/2 ln(p_2/p_1), so that an error of 1 is a usual change of temperature, without the change
  of geopotential that belongs to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from graphufs.config.data import Data, Transform
from graphufs.emulator.domain import Domain
from graphufs.errors import UserError
from graphufs.model.channels import Arrays
from graphufs.normalization.statistics import Statistics
from graphufs.normalization.transforms import inverse
from graphufs.replay.pressure_levels import REFERENCE, replay_layers
from graphufs.replay.synthetic.replay_layout import SIGMA_INTERFACES
from graphufs.vocabulary.loss_diagnostics import LOSS_DIAGNOSTICS
from graphufs.vocabulary.variables import weatherbench_name

GRAVITY, DRY_AIR, VAPOUR = 9.80665, 287.05, 461.5
"""m s-2, and the gas constants R_d and R_v in J kg-1 K-1, as ufs2arco has them."""
MOISTURE = VAPOUR / DRY_AIR - 1
THICKNESS, BALANCE = "hydrostatic_thickness", "hydrostatic_balance"
_CALM = 1e-6
"""m2 s-2, the least square of a speed: the root has no derivative at 0."""


class Diagnosed(eqx.Module):
    """What is made of fields, and what it is divided by."""

    names: tuple[str, ...] = eqx.field(static=True)
    levels: tuple[tuple[float, ...], ...] = eqx.field(static=True)
    """Of each name the pressures of its levels in hPa, ascending; none where it has no levels."""
    targets: tuple[tuple[str, str], ...] = eqx.field(static=True)
    """Of each variable WeatherBench2's name and the experiment's."""
    transforms: tuple[tuple[str, Transform], ...] = eqx.field(static=True)
    """Of the network's fields, by the experiment's names."""
    scales: dict[str, jax.Array]
    """float32 [level] by name."""
    a: jax.Array
    b: jax.Array
    """Of the interfaces above and below each layer, float32 [2, layer], a in Pa: or neighbouring pressure levels."""

    @staticmethod
    def build(names: Sequence[str], data: Data, domain: Domain, statistics: Statistics | None) -> Diagnosed | None:
        """Prepare what is asked for; None where nothing is, else with the statistics of the network's fields.

        Raises
        ------
        UserError
            If a variable does not exist everywhere, or the levels are not those that a formula is of.
        """
        if not names:
            return None
        if statistics is None:
            raise UserError(
                "what a loss diagnoses is scaled by statistics, and there are none: load_normalization() first"
            )
        known = {weatherbench_name(name): name for name in data.targets}
        targets = {one: known[one] for name in names for one in LOSS_DIAGNOSTICS[name]}
        if masked := sorted(set(targets.values()) & set(domain.masks(data))):
            raise UserError(
                f"training.loss.diagnostics names {', '.join(names)}, but {masked[0]} does not exist everywhere; leave "
                "out what is made of it"
            )
        levels = {name: _levels(domain, targets[LOSS_DIAGNOSTICS[name][1]]) for name in names}
        a = b = np.zeros((2, 0))
        if THICKNESS in names:
            a, b = _interfaces(levels[THICKNESS], data.interfaces, domain)
        if BALANCE in names:
            if not domain.on_pressure_levels or len(levels[BALANCE]) < 2:
                raise UserError(
                    f"training.loss.diagnostics names {BALANCE}, which is between neighbouring pressure levels, and "
                    + (
                        "the data have one level only"
                        if domain.on_pressure_levels
                        else f"the data lie on native layers; take {THICKNESS}"
                    )
                )
            a = 100 * np.array([levels[BALANCE][:-1], levels[BALANCE][1:]])
            b = np.zeros_like(a)
            levels[BALANCE] = tuple((a.mean(axis=0) / 100).tolist())
        scales = _scales(names, data, targets, statistics, (a, b))
        return Diagnosed(
            names=tuple(names),
            levels=tuple(levels[name] for name in names),
            targets=tuple(sorted(targets.items())),
            transforms=tuple(sorted((own, data.transforms[own]) for own in targets.values() if own in data.transforms)),
            scales={name: jnp.asarray(values, jnp.float32) for name, values in scales.items()},
            a=jnp.asarray(a, jnp.float32),
            b=jnp.asarray(b, jnp.float32),
        )

    def __call__(self, targets: Arrays) -> dict[str, jax.Array]:
        """The quantities over their scales, [..., level, lat, lon], of targets as network and loss see them."""
        transforms = dict(self.transforms)
        fields = {
            name: inverse(transforms[own], targets[own]) if own in transforms else targets[own]
            for name, own in self.targets
        }
        found = {}
        for name in self.names:
            first, second, *third = (fields[one] for one in LOSS_DIAGNOSTICS[name])
            if name == THICKNESS:
                value = thickness(first, second, third[0], self.a, self.b)
            elif name == BALANCE:
                value = imbalance(first, second, third[0], self.a)
            else:
                value = speed(first, second)
            found[name] = value / self.scales[name][:, None, None]
        return found


def speed(u: jax.Array, v: jax.Array) -> jax.Array:
    """Of the wind [m s-1], [...] as its components are; at least 1 mm s-1."""
    return jnp.sqrt(jnp.maximum(u**2 + v**2, _CALM))


def thickness(surface: Any, temperature: Any, humidity: Any, a: jax.Array, b: jax.Array) -> jax.Array:
    """Of hydrostatic layers [m], [..., layer, lat, lon], with interfaces a [Pa] and b [2, layer].

    Over a surface pressure [Pa] [..., 1, lat, lon], of temperature [K] and specific humidity [..., layer, lat, lon].
    """
    above, below = (a[:, None, None] + b[:, None, None] * surface for a, b in zip(a, b, strict=True))
    return DRY_AIR / GRAVITY * temperature * (1 + MOISTURE * humidity) * jnp.log(below / above)


def imbalance(geopotential: Any, temperature: Any, humidity: Any, pressures: jax.Array) -> jax.Array:
    """What geopotential [m2 s-2] has beyond the hydrostatic, [..., level - 1, lat, lon], between levels [2, level - 1].

    Of fields [..., level, lat, lon], from the top down, temperature in K.
    """
    virtual = temperature * (1 + MOISTURE * humidity)
    mean = (virtual[..., :-1, :, :] + virtual[..., 1:, :, :]) / 2
    deeper = jnp.log(pressures[1] / pressures[0])[:, None, None]
    return geopotential[..., :-1, :, :] - geopotential[..., 1:, :, :] - DRY_AIR * mean * deeper


def _levels(domain: Domain, variable: str) -> tuple[float, ...]:
    return tuple(float(native) for _, native in domain.levels(variable))


def _interfaces(
    levels: Sequence[float], wanted: Sequence[float], domain: Domain
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of native layers a [Pa] and b [2, layer], or of thick ones between `wanted` interfaces in hPa."""
    if domain.on_pressure_levels:
        raise UserError(
            f"training.loss.diagnostics names {THICKNESS}, which is of native layers, and the data lie on pressure "
            f"levels; take {BALANCE}"
        )
    replay, sigma = replay_layers(), np.array(SIGMA_INTERFACES)
    a, b, middles = replay.a * 100, replay.b, replay.reference
    columns = [(a, b, middles), (np.zeros_like(sigma), sigma, REFERENCE * (sigma[1:] + sigma[:-1]) / 2)]
    if wanted:
        snapped = [int(np.argmin(np.abs(a / 100 + b * REFERENCE - value))) for value in wanted]
        thick = [(a[snapped], b[snapped]), (np.zeros(len(wanted)), np.array(wanted) / REFERENCE)]
        columns = [(a, b, (a[1:] + a[:-1]) / 200 + REFERENCE * (b[1:] + b[:-1]) / 2) for a, b in thick]
    for a, b, middles in columns:
        at = np.array([int(np.argmin(np.abs(middles - level))) for level in levels])
        if np.allclose(middles[at], levels, rtol=1e-4) and (a + b)[at].min() > 0:
            return np.stack([a[at], a[at + 1]]), np.stack([b[at], b[at + 1]])
    raise UserError(
        f"training.loss.diagnostics names {THICKNESS}, but the layers at {', '.join(f'{one:g}' for one in levels)} hPa "
        "do not all lie between known interfaces at pressures above 0; leave it out, or some of the layers"
    )


def _scales(
    names: Sequence[str],
    data: Data,
    targets: Mapping[str, str],
    statistics: Statistics,
    interfaces: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> dict[str, NDArray[np.float64]]:
    """[level] by name, see above."""
    mean, change = {}, {}
    for name, own in targets.items():
        mean[name] = statistics.mean[own]
        change[name] = (statistics.diffs_std if own in data.inputs else statistics.std)[own]
        if own in data.transforms:  # a change of the logarithm is a relative one
            mean[name] = np.exp(mean[name])
            change[name] = change[name] * mean[name]
    found = {}
    for name in names:
        first, second, *third = (change[one] for one in LOSS_DIAGNOSTICS[name])
        if not third:
            found[name] = np.sqrt((first**2 + second**2) / 2)
            continue
        warm, moist = mean["temperature"], 1 + MOISTURE * mean["specific_humidity"]
        by_temperature, by_humidity = moist * second, MOISTURE * warm * third[0]
        a, b = interfaces
        if name == THICKNESS:
            above, below = a + b * mean["surface_pressure"]
            deeper = np.log(below / above)
            by_pressure = moist * warm * (b[1] / below - b[0] / above) * first
            parts = (deeper * by_temperature) ** 2 + (deeper * by_humidity) ** 2 + by_pressure**2
            found[name] = DRY_AIR / GRAVITY * np.sqrt(parts)
        else:
            virtual = np.sqrt(by_temperature**2 + by_humidity**2)
            found[name] = DRY_AIR * np.log(a[1] / a[0]) * (virtual[:-1] + virtual[1:]) / 2
    return found
