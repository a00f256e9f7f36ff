"""The embedded world's stochastic physics: a world of its own, the same each time, and a sound one."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from dinosaur import spherical_harmonic
from pydantic import ValidationError

from graphufs.config.data import StochasticPhysics, World
from graphufs.replay.synthetic.replay_layout import WORLD_START
from graphufs.replay.synthetic.start import spun_up_state
from graphufs.replay.synthetic.stochastic import CORRELATION_LENGTH, CORRELATION_TIME, EARTH_RADIUS, TendencyPattern
from graphufs.replay.synthetic.store import ensure_world
from graphufs.replay.synthetic.world import WorldState

DAYS_10, DAYS_20 = (WORLD_START + np.timedelta64(24 * days - 6, "h") for days in (10, 20))
GRID = spherical_harmonic.Grid.T21(spherical_harmonics_impl=spherical_harmonic.RealSphericalHarmonics)
HOURS = 3000


def fields(seed: int, hours: int = HOURS) -> np.ndarray:
    """1 + r [hour, lon, lat] of so many steps of an hour, with a standard deviation of 0.2."""
    pattern = TendencyPattern(GRID, 0.2, seed, 1)

    def step(state: jax.Array, hour: jax.Array) -> tuple[jax.Array, jax.Array]:
        state = pattern.advance(state, hour)
        return state, pattern.factor(state)[0]

    return np.asarray(jax.lax.scan(step, pattern.start(), jnp.arange(1, hours + 1, dtype=jnp.uint32))[1])


def test_the_pattern_has_the_size_and_the_correlations_it_says() -> None:
    found = fields(0) - 1
    of_point = found.std(axis=0)  # of some 250 independent times
    np.testing.assert_allclose(of_point.mean(), 0.2, rtol=0.02)
    assert 0.15 < of_point.min() and of_point.max() < 0.25  # the same at the poles
    assert abs(found.mean()) < 0.01
    together = (found[:-6] * found[6:]).mean() / (found**2).mean()
    assert together == pytest.approx(np.exp(-6 / CORRELATION_TIME), abs=0.03)
    # along the equator: exp(-(d / L)^2 / 2) on a plane
    middle, spacing = found[:, :, 15:17].mean(axis=2), np.deg2rad(360 / 64) * EARTH_RADIUS
    for points in (1, 2, 3):
        along = (middle * np.roll(middle, points, axis=1)).mean() / (middle**2).mean()
        assert along == pytest.approx(np.exp(-((points * spacing / CORRELATION_LENGTH) ** 2) / 2), abs=0.06)


def test_a_pattern_is_its_seeds_alone_and_depends_on_the_hour() -> None:
    first, again, other = fields(0, 10), fields(0, 10), fields(1, 10)
    assert np.array_equal(first, again)
    assert np.abs(np.corrcoef(first[0].ravel(), other[0].ravel())[0, 1]) < 0.5
    pattern = TendencyPattern(GRID, 0.2, 0, 1)
    at_once = [pattern.advance(pattern.start(), jnp.uint32(hour)) for hour in (5, 5, 6)]
    assert jnp.array_equal(at_once[0], at_once[1]) and not jnp.array_equal(at_once[0], at_once[2])


def test_a_large_pattern_turns_no_sign_of_what_physics_does() -> None:
    pattern = TendencyPattern(GRID, 1.0, 0, 1)
    factor = pattern.factor(3 * pattern.start())
    assert float(factor.min()) == 0 and float(factor.max()) == 2


def test_a_seed_that_perturbs_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"stochastic.seed is 3, but stochastic.amplitude is 0"):
        StochasticPhysics(seed=3)


def test_states_without_a_pattern_have_the_files_of_before(tmp_path: Path) -> None:
    state = spun_up_state()
    for one, more in ((state, []), (WorldState(state.dynamics, state.land_temperature, jnp.ones((1, 3))), ["pattern"])):
        with (tmp_path / "state.npz").open("wb") as file:
            one.save(file)
        with np.load(tmp_path / "state.npz") as arrays:
            assert [name for name in arrays if name == "pattern"] == more
        with (tmp_path / "state.npz").open("rb") as file:
            loaded = WorldState.load(file)
        assert jax.tree.all(jax.tree.map(jnp.array_equal, loaded, one))


@pytest.mark.long  # another model to compile
def test_worlds_of_two_seeds_begin_alike_and_part_and_a_stopped_one_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    worlds = [World(stochastic=StochasticPhysics(amplitude=0.5, seed=seed)) for seed in (0, 1)]
    made = [ensure_world(tmp_path / f"{world.stochastic.seed}", world, DAYS_10) for world in worlds]
    one, other = (xr.open_zarr(path).tmp.isel(pfull=5).load() for path in made)
    apart = np.sqrt(((one - other) ** 2).mean(("grid_yt", "grid_xt"))).values
    assert 0 < apart[0] < 0.2 < 0.5 < apart[20] < apart[39]  # K; the climate's own spread is some 3 K
    assert json.loads((tmp_path / "1/world.json").read_text())["world"] == {
        "seed": 0, "stochastic": {"amplitude": 0.5, "seed": 1},
    }  # fmt: skip

    at_once = ensure_world(tmp_path / "whole", worlds[0], DAYS_20)
    ensure_world(tmp_path / "0", worlds[0], DAYS_20)  # goes on from the state after ten days
    with xr.open_zarr(at_once) as whole, xr.open_zarr(made[0]) as continued:
        xr.testing.assert_identical(whole.load(), continued.load())


@pytest.mark.long  # two months of a world of its own
def test_the_most_perturbed_world_is_sound_for_two_months(tmp_path: Path) -> None:
    world = World(step=2, stochastic=StochasticPhysics(amplitude=1.0))
    with xr.open_zarr(ensure_world(tmp_path, world, WORLD_START + np.timedelta64(60, "D"))) as data:
        # `ensure_world` refuses what is not finite, loses mass or has storms that no sound world has
        assert 2 < float(data.tmp.isel(pfull=5).std(("time", "grid_xt")).mean()) < 10
        assert float(np.abs(data.ugrd).max()) < 120
