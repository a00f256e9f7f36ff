"""The embedded world's model: dinosaur's spectral dynamical core at T21 with eight sigma levels, plus our physics.

The primitive equations are advanced by dinosaur's SIL3 implicit-explicit scheme and del^6 diffusion; the physics then
acts on grid columns (operator splitting) and returns to spectral space as increments, so that what physics leaves
alone is not smoothed. The dry mass is put back to its constant each step. One or two hours a step; a stamp every six.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO, Any

import jax
import jax.numpy as jnp
import numpy as np
from dinosaur import coordinate_systems, primitive_equations, scales, sigma_coordinates, spherical_harmonic
from dinosaur import time_integration as integration
from dinosaur.units import SimUnits
from numpy.typing import NDArray

from graphufs.config.data import StochasticPhysics
from graphufs.errors import UserError
from graphufs.model import compilation_cache
from graphufs.replay.synthetic import astronomy, geography, physics
from graphufs.replay.synthetic.physics import Clock, Columns, Geometry
from graphufs.replay.synthetic.replay_layout import SIGMA_INTERFACES, STAMP
from graphufs.replay.synthetic.stochastic import TendencyPattern

HOURS_OF_MEAN = 3
"""Averaged fields hold the mean over the three hours that end at the stamp, as Replay's do."""

REFERENCE_TEMPERATURE = 270.0
DIFFUSION_TIME = 6 * 3600.0
"""E-folding time [s] of the smallest resolved wave under del^6 diffusion."""


# A year of weather takes long to compute, and other rounding makes it another weather: always compiled as XLA's
# defaults have it, whatever XLA_FLAGS asks for.
OPTIMIZED: dict[str, Any] = {"xla_backend_optimization_level": 3, "xla_cpu_use_fusion_emitters": True}

UNPERTURBED = StochasticPhysics()
Step = tuple[Clock, Any]
"""Of the model: when it begins, and the same in hours since 1970 where physics is perturbed, else None."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class WorldState:
    """All the model remembers: the spectral state (float32, dinosaur's units) and the land slab [1, lon, lat] in K."""

    dynamics: primitive_equations.State
    land_temperature: jax.Array
    pattern: jax.Array | None = None
    """What perturbs the physics (graphufs.replay.synthetic.stochastic); None where nothing does."""

    def save(self, file: IO[bytes]) -> None:
        """Write the state in NumPy's npz format, complete: `load` gives back the very same bits."""
        more: dict[str, Any] = {} if self.pattern is None else {"pattern": self.pattern}
        np.savez(
            file,
            vorticity=self.dynamics.vorticity,
            divergence=self.dynamics.divergence,
            temperature_variation=self.dynamics.temperature_variation,
            log_surface_pressure=self.dynamics.log_surface_pressure,
            humidity=self.dynamics.tracers["humidity"],
            land_temperature=self.land_temperature,
            **more,
        )

    @classmethod
    def load(cls, file: IO[bytes]) -> WorldState:
        """Read a state that `save` wrote."""
        with np.load(file) as arrays:
            dynamics = primitive_equations.State(
                jnp.asarray(arrays["vorticity"]),
                jnp.asarray(arrays["divergence"]),
                jnp.asarray(arrays["temperature_variation"]),
                jnp.asarray(arrays["log_surface_pressure"]),
                {"humidity": jnp.asarray(arrays["humidity"])},
            )
            pattern = jnp.asarray(arrays["pattern"]) if "pattern" in arrays else None
            return cls(dynamics, jnp.asarray(arrays["land_temperature"]), pattern)


@contextlib.contextmanager
def arithmetic() -> Iterator[None]:
    """Run on the CPU in single precision, whatever the caller uses: the same seed is then the same world.

    Raises
    ------
    UserError
        If JAX was told not to use the CPU.
    """
    try:
        device = jax.devices("cpu")[0]
    except RuntimeError as error:
        raise UserError(
            f"the embedded world is computed on the CPU, which JAX does not offer here ({error}); "
            "unset JAX_PLATFORMS or add cpu to it"
        ) from error
    with jax.enable_x64(False), jax.default_device(device):
        yield


class IdealisedWorld:
    """The model: its grid, its orography and the functions that start and advance it. Use within `arithmetic()`.

    It takes a step each `hours`, 1 or 2; its physics is perturbed as `stochastic` says. Making one takes a second and
    its first run is compiled for several; `shared_model` makes one a process.
    """

    def __init__(self, hours: int = 1, stochastic: StochasticPhysics = UNPERTURBED) -> None:
        self._units = SimUnits.from_si()
        self._grid = spherical_harmonic.Grid.T21(
            radius=self._units.radius, spherical_harmonics_impl=spherical_harmonic.RealSphericalHarmonics
        )
        vertical = sigma_coordinates.SigmaCoordinates(np.array(SIGMA_INTERFACES))
        coordinates = coordinate_systems.CoordinateSystem(self._grid, vertical)
        longitude, sine = self._grid.nodal_mesh
        latitude = np.arcsin(sine)
        self.axes = np.rad2deg(self._grid.longitudes), np.rad2deg(self._grid.latitudes)
        """Longitudes from Greenwich and latitudes from the south, in degrees."""
        orography = self._orography(np.rad2deg(longitude), np.rad2deg(latitude))
        self.geometry = Geometry(
            longitude=longitude.astype(np.float32),
            latitude=latitude.astype(np.float32),
            land=geography.land_fraction(np.rad2deg(longitude), np.rad2deg(latitude)).astype(np.float32),
            height=np.asarray(self._grid.to_nodal(orography)),
            sigma=vertical.centers[:, None, None].astype(np.float32),
            thickness=vertical.layer_thickness[:, None, None].astype(np.float32),
        )
        weights = np.asarray(self._grid.quadrature_weights, np.float64)
        self.area = (weights / weights.sum()).astype(np.float32)
        """Each point's share of the globe's area, [lon, lat]."""
        self.mean_surface_pressure = float((self._resting_surface_pressure() * self.area).sum())
        """Global mean of the surface pressure [Pa]; the model holds it."""

        self._speed = float(self._units.nondimensionalize(1 * scales.units.m / scales.units.s))
        self._hours, self._step_length = hours, np.timedelta64(hours, "h")
        self._seconds = float(self._step_length / np.timedelta64(1, "s"))
        metre = float(self._units.nondimensionalize(1 * scales.units.m))
        equations = primitive_equations.PrimitiveEquationsSigma(
            np.full(vertical.layers, REFERENCE_TEMPERATURE), np.asarray(orography) * metre, coordinates, self._units
        )
        step = integration.imex_rk_sil3(equations, float(self._units.nondimensionalize(self._seconds * scales.units.s)))
        diffusion = integration.horizontal_diffusion_step_filter(self._grid, self._seconds, DIFFUSION_TIME, order=3)
        self._advance_dynamics = integration.step_with_filters(step, [diffusion])
        self._pattern = (
            TendencyPattern(self._grid, stochastic.amplitude, stochastic.seed, hours) if stochastic.amplitude else None
        )
        compilation_cache.install()
        self._run = jax.jit(self._run_stamps, compiler_options=OPTIMIZED)

    def _orography(self, longitude: NDArray[Any], latitude: NDArray[Any]) -> jax.Array:
        """Return the mountains [m] in spectral space, tapered by exp(-4 (l/L)^4) against ringing over the sea."""
        heights = self._grid.to_modal(geography.mountains(longitude, latitude).astype(np.float32))
        _, total_wavenumber = self._grid.modal_axes
        taper = np.exp(-4.0 * (total_wavenumber / total_wavenumber.max()) ** 4)
        return self._grid.clip_wavenumbers(heights * taper.astype(np.float32))

    def _resting_surface_pressure(self) -> NDArray[np.float64]:
        """Surface pressure [Pa] of an isothermal atmosphere at 275 K with 1000 hPa at sea level, [lon, lat]."""
        scale_height = physics.GAS_CONSTANT * 275.0 / physics.GRAVITY
        return physics.REFERENCE_PRESSURE * np.exp(-self.geometry.height.astype(np.float64) / scale_height)

    def cold_start(self, time: np.datetime64, seed: int) -> WorldState:
        """Return the atmosphere in radiative equilibrium, at rest but for random vorticity of wavenumbers 3 to 12."""
        geometry = self.geometry
        year = jnp.asarray(astronomy.year_angle(np.array(time)))
        pressure = jnp.asarray(self._resting_surface_pressure()[None], jnp.float32)
        temperature = physics.equilibrium_temperature(geometry, year, pressure)
        saturation = physics.saturation_humidity(temperature, geometry.sigma * pressure)
        vorticity = self.random_vorticity(np.random.default_rng(seed), 2e-2)
        dynamics = primitive_equations.State(
            vorticity,
            jnp.zeros_like(vorticity),
            self._grid.to_modal(temperature - REFERENCE_TEMPERATURE),
            self._grid.to_modal(jnp.log(pressure / physics.REFERENCE_PRESSURE)),
            {"humidity": self._grid.to_modal(0.6 * saturation * (geometry.sigma > 0.2))},
        )
        land = jnp.asarray(physics.land_equilibrium_temperature(geometry, year), jnp.float32)[None]
        return WorldState(self._grid.clip_wavenumbers(dynamics), land)

    def begin(self, state: WorldState) -> WorldState:
        """A state of the model without stochastic physics, as this one begins with it."""
        return state if self._pattern is None else replace(state, pattern=self._pattern.start())

    def random_vorticity(self, generator: np.random.Generator, amplitude: float) -> jax.Array:
        """Random spectral vorticity [level, zonal, total], the same on all levels.

        `amplitude` is its standard deviation in units of 2 Omega.
        """
        zonal, total = np.meshgrid(*self._grid.modal_axes, indexing="ij")
        chosen = self._grid.mask & (total >= 3) & (total <= 12) & (np.abs(zonal) <= total)
        noise = amplitude * generator.standard_normal(self._grid.modal_shape) * chosen
        levels = len(SIGMA_INTERFACES) - 1
        return jnp.asarray(np.broadcast_to(noise, (levels, *noise.shape)), jnp.float32)

    def run(self, state: WorldState, start: np.datetime64, stamps: int) -> tuple[WorldState, dict[str, jax.Array]]:
        """Advance `state`, valid at `start`, by `stamps` times six hours.

        Returns the state at the end, and the fields at each of the `stamps` ends of six hours, named as in Replay,
        float32 on [stamp, level, lon, lat] or [stamp, lon, lat], latitudes from the south, levels from the top.
        Compiled anew for each number of stamps.
        """
        of_stamp = int(STAMP // self._step_length)
        steps = start + self._step_length * np.arange(stamps * of_stamp).reshape(stamps, of_stamp)
        ends = start + STAMP * np.arange(1, stamps + 1)
        means = _clock(ends - np.timedelta64(HOURS_OF_MEAN, "h"))
        hours = None if self._pattern is None else steps.astype("datetime64[h]").astype(np.uint32)
        result: tuple[WorldState, dict[str, jax.Array]] = self._run(
            state, (_clock(steps), hours), means, astronomy.year_angle(ends)
        )
        return result

    def _run_stamps(
        self, state: WorldState, steps: Step, means: Clock, years: jax.Array
    ) -> tuple[WorldState, dict[str, jax.Array]]:
        def advance_stamp(
            state: WorldState, times: tuple[Step, Clock, jax.Array]
        ) -> tuple[WorldState, dict[str, jax.Array]]:
            steps, mean, year = times
            state, (sunshine, rain) = jax.lax.scan(self._step, state, steps)
            fields = self._instantaneous_fields(state, year)
            fields["dswrf_avetoa"], fields["prateb_ave"] = self._means(mean, sunshine, rain)
            return state, fields

        return jax.lax.scan(advance_stamp, state, (steps, means, years))

    def _means(self, start: Clock, sunshine: jax.Array, rain: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Insolation [W/m2] and rain [kg/m2/s] on [lon, lat], over the last three hours of a stamp's steps."""
        whole, rest = divmod(HOURS_OF_MEAN, self._hours)
        if not rest:
            return sunshine[-whole:].mean(axis=0), rain[-whole:].mean(axis=0)[0] / self._seconds
        hours = HOURS_OF_MEAN * physics.HOUR
        fallen = rain[-whole:].sum(axis=0) + rain[-whole - 1] * (rest / self._hours)  # a part of that step's rain
        return physics.insolation(self.geometry, start, hours), fallen[0] / hours

    def _step(self, state: WorldState, at: Step) -> tuple[WorldState, tuple[jax.Array, jax.Array]]:
        """One step; also its mean insolation [W/m2] and its rain [kg/m2]."""
        (clock, hour), pattern = at, state.pattern
        geometry, seconds = self.geometry, self._seconds
        dynamics = self._advance_dynamics(state.dynamics)
        columns = self._columns(dynamics)
        sunshine = physics.insolation(geometry, clock, seconds)
        land = physics.warm_land(geometry, clock, seconds, state.land_temperature, columns.temperature[-1:], sunshine)
        surface = physics.surface_temperature(geometry, clock.year, land)
        temperature = physics.heat(geometry, clock.year, seconds, columns, surface)
        humidity, rain = physics.moisten(geometry, seconds, columns, temperature, surface)
        slowing = jnp.asarray(physics.drag(geometry, seconds) - 1)
        wind = slowing * columns.u, slowing * columns.v
        changes = [*wind, temperature - columns.temperature, humidity - columns.humidity]
        if self._pattern is not None:
            assert pattern is not None  # it was begun by `begin`
            pattern = self._pattern.advance(pattern, hour)
            factor = self._pattern.factor(pattern)
            changes = [factor * change for change in changes]
        increments = self._increments(*changes)
        dynamics = jax.tree.map(jnp.add, dynamics, increments)
        mean = (columns.surface_pressure * self.area).sum()
        pressure = spherical_harmonic.add_constant(
            dynamics.log_surface_pressure, jnp.log(self.mean_surface_pressure / mean)
        )
        dynamics = self._grid.clip_wavenumbers(dynamics.replace(log_surface_pressure=pressure))
        return WorldState(dynamics, land, pattern), (sunshine, rain)

    def _columns(self, dynamics: primitive_equations.State) -> Columns:
        """Return the state on the grid, in SI units."""
        u, v = spherical_harmonic.vor_div_to_uv_nodal(self._grid, dynamics.vorticity, dynamics.divergence)
        return Columns(
            u=u / self._speed,
            v=v / self._speed,
            temperature=self._grid.to_nodal(dynamics.temperature_variation) + REFERENCE_TEMPERATURE,
            humidity=self._grid.to_nodal(dynamics.tracers["humidity"]),
            surface_pressure=physics.REFERENCE_PRESSURE * jnp.exp(self._grid.to_nodal(dynamics.log_surface_pressure)),
        )

    def _increments(
        self, u: jax.Array, v: jax.Array, temperature: jax.Array, humidity: jax.Array
    ) -> primitive_equations.State:
        """Return the spectral increments of winds [m/s], temperature [K] and humidity given on the grid."""
        cos_latitude = np.cos(self.geometry.latitude)
        wind = tuple(self._grid.to_modal(x * self._speed / cos_latitude) for x in (u, v))
        increment = self._grid.to_modal(temperature)
        return primitive_equations.State(
            self._grid.curl_cos_lat(wind),
            self._grid.div_cos_lat(wind),
            increment,
            jnp.zeros_like(increment[:1]),
            {"humidity": self._grid.to_modal(humidity)},
        )

    def _instantaneous_fields(self, state: WorldState, year: jax.Array) -> dict[str, jax.Array]:
        """Return the fields at one instant, named as in Replay."""
        geometry = self.geometry
        columns = self._columns(state.dynamics)
        pressure = columns.surface_pressure[0]
        humidity = jnp.maximum(columns.humidity, 0.0)
        surface = physics.surface_temperature(geometry, year, state.land_temperature)[0]
        lowest_sigma = float(geometry.sigma[-1, 0, 0])
        near_surface = 0.5 * (surface + columns.temperature[-1] * lowest_sigma**-physics.KAPPA)
        slowing = np.where(geometry.land > 0.5, 0.62, 0.78)
        ice = physics.sea_ice(geometry, year)
        return {
            "tmp": columns.temperature,
            "ugrd": columns.u,
            "vgrd": columns.v,
            "spfh": humidity,
            "delz": _height_thickness(columns.temperature),
            "dpres": geometry.thickness * columns.surface_pressure,
            "pressfc": pressure,
            "tmpsfc": surface,
            "tmp2m": near_surface,
            # up to 2 m along the profile that evaporation aims at
            "spfh2m": jnp.minimum(humidity[-1] * lowest_sigma**-3, physics.saturation_humidity(near_surface, pressure)),
            "ugrd10m": columns.u[-1] * slowing,
            "vgrd10m": columns.v[-1] * slowing,
            "land": jnp.where(geometry.land > 0.5, 1.0, jnp.where(ice > 0.5, 2.0, 0.0)),
        }


def _height_thickness(temperature: jax.Array) -> jax.Array:
    """Layer thickness [m], negative as in Replay: -(R T / g) ln(p_below / p_above), of dry air.

    The top layer reaches up to zero pressure. Its thickness is taken as -(R T / g) dp / p, which equals that of a layer
    with its top at exp(-2) of its lower interface.
    """
    interfaces = np.array(SIGMA_INTERFACES)
    logarithms = np.concatenate([[2.0], np.log(interfaces[2:] / interfaces[1:-1])])
    factor = -physics.GAS_CONSTANT / physics.GRAVITY * logarithms
    return temperature * factor[:, None, None].astype(np.float32)


def _clock(times: NDArray[np.datetime64]) -> Clock:
    return Clock(jnp.asarray(astronomy.year_angle(times)), jnp.asarray(astronomy.day_angle(times)))


def shared_model(hours: int = 1, stochastic: StochasticPhysics = UNPERTURBED) -> IdealisedWorld:
    """The process's model, so that extending a world repeatedly compiles once. It holds no state."""
    return _model(hours, stochastic)


_model = functools.lru_cache(maxsize=2)(IdealisedWorld)
