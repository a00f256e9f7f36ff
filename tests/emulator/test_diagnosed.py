"""What a loss diagnoses of its targets: formulas, scales, gradients, and what cannot be diagnosed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from graphufs.config import loading
from graphufs.data.channels import PreparedChannel
from graphufs.emulator.diagnosed import Diagnosed, imbalance, speed, thickness
from graphufs.emulator.domain import Domain
from graphufs.errors import UserError
from graphufs.normalization.statistics import Statistics
from graphufs.replay.pressure_levels import replay_layers
from tests.conftest import TINY

MEAN = {"tmp": 250.0, "spfh": 0.004, "pressfc": 98_500.0, "ugrd": 5.0, "vgrd": 0.0, "geopotential": 50_000.0}
CHANGE = {"tmp": 2.0, "spfh": 0.001, "pressfc": 300.0, "ugrd": 3.0, "vgrd": 4.0, "geopotential": 900.0}


def column(values: Any) -> jax.Array:
    """[1, 1, level, lat, lon] of one point."""
    return jnp.asarray(values, jnp.float32)[None, None, :, None, None]


def diagnosed(
    name: str, levels: tuple[float, ...], *overrides: str, on_pressure_levels: bool = False, everywhere: bool = True
) -> Diagnosed:
    """Of a grid of one point, the statistics the same on all levels."""
    data = loading.load(
        TINY, [f"data.inputs=[{', '.join(MEAN)}]", f"data.targets=[{', '.join(MEAN)}]", *overrides]
    ).data
    channels = [PreparedChannel("pressfc")]
    channels += [PreparedChannel(one, level, level) for one in MEAN if one != "pressfc" for level in levels]
    domain = Domain(
        latitude=np.zeros(1),
        longitude=np.zeros(1),
        parent_latitude=np.zeros(1),
        channels=tuple(channels),
        mask=np.full((len(channels), 1, 1), everywhere),
        static={},
        on_pressure_levels=on_pressure_levels,
    )

    def by_level(values: dict[str, float]) -> dict[str, np.ndarray]:
        return {one: np.full(1 if one == "pressfc" else len(levels), value) for one, value in values.items()}

    mean = {one: np.log(values) if one in data.transforms else values for one, values in by_level(MEAN).items()}
    change = by_level(CHANGE)
    found = Diagnosed.build([name], data, domain, Statistics(mean, change, change))
    assert found is not None
    return found


def test_speed_is_the_length_of_the_wind_and_has_a_derivative_in_calm_air() -> None:
    np.testing.assert_allclose(speed(column([3.0, -5.0]), column([4.0, 12.0]))[0, 0, :, 0, 0], [5, 13], rtol=1e-6)
    by_u, by_v = jax.grad(lambda u, v: speed(u, v).sum(), argnums=(0, 1))(column([3.0, 0.0]), column([4.0, 0.0]))
    np.testing.assert_allclose(by_u[0, 0, :, 0, 0], [0.6, 0], rtol=1e-6)
    np.testing.assert_allclose(by_v[0, 0, :, 0, 0], [0.8, 0], rtol=1e-6)


def test_a_winds_scale_is_what_a_usual_change_changes_along_it() -> None:
    made = diagnosed("wind_speed", (500.0, 850.0))
    assert made.levels == ((500.0, 850.0),)
    random = np.random.default_rng(0)
    before = 50 * np.exp(1j * random.uniform(0, 2 * np.pi, 100_000))
    change = abs(before + random.normal(scale=3, size=before.shape) + 1j * random.normal(scale=4, size=before.shape))
    np.testing.assert_allclose(made.scales["wind_speed"], np.std(change - 50), rtol=0.02)


def test_the_thickness_of_dry_isothermal_air_is_the_text_books() -> None:
    a, b = jnp.zeros((2, 1)), jnp.array([[0.5], [1.0]])
    found = thickness(column([1e5]), column([288.15]), column([0.0]), a, b)
    np.testing.assert_allclose(found.item(), 287.05 / 9.80665 * 288.15 * np.log(2), rtol=1e-6)  # 5846 m


@pytest.mark.parametrize("surface", [100_000.0, 60_000.0])
def test_native_layers_lie_between_replays_interfaces(surface: float) -> None:
    layers = replay_layers()
    native = tuple(layers.reference[[60, 90, 126]].tolist())
    made = diagnosed("hydrostatic_thickness", native)
    warm, moist = np.array([230.0, 270.0, 285.0]), np.array([1e-4, 3e-3, 1e-2])
    found = made({"tmp": column(warm), "spfh": column(moist), "pressfc": column([surface])})["hydrostatic_thickness"]
    edges = layers.a * 100 + layers.b * surface
    expected = [
        287.05 / 9.80665 * t * (1 + (461.5 / 287.05 - 1) * q) * np.log(edges[k + 1] / edges[k])
        for t, q, k in zip(warm, moist, (60, 90, 126), strict=True)
    ]
    scale = np.asarray(made.scales["hydrostatic_thickness"])
    np.testing.assert_allclose(found[0, 0, :, 0, 0] * scale, expected, rtol=2e-5)  # thin layers in float32


def test_thick_layers_and_those_of_the_embedded_world_have_interfaces_too() -> None:
    replay = replay_layers()
    edges = np.array([int(np.argmin(np.abs(replay.a + replay.b * 1000 - value))) for value in (300, 500, 700)])
    own = replay.a[edges] + replay.b[edges] * 1000
    thick = diagnosed(
        "hydrostatic_thickness", tuple((own[1:] + own[:-1]) / 2), "data.levels=[]", "data.interfaces=[300, 500, 700]"
    )
    np.testing.assert_allclose(thick.a[1], replay.a[edges[1:]] * 100, rtol=1e-6)
    world = diagnosed("hydrostatic_thickness", (525.0, 955.0))
    np.testing.assert_allclose(world.b, [[0.44, 0.91], [0.61, 1.0]], rtol=1e-6)
    np.testing.assert_array_equal(world.a, 0)


def test_a_thickness_has_the_scale_that_changes_of_its_parts_make() -> None:
    made = diagnosed("hydrostatic_thickness", (525.0,), "data.transforms={spfh: {function: log}}")
    random = np.random.default_rng(0)

    def drawn(name: str) -> jax.Array:
        change = CHANGE[name] * MEAN[name] if name == "spfh" else CHANGE[name]
        return jnp.asarray(random.normal(MEAN[name], change, (100_000, 1, 1, 1, 1)), jnp.float32)

    fields = {"tmp": drawn("tmp"), "spfh": jnp.log(drawn("spfh")), "pressfc": drawn("pressfc")}
    assert np.std(made(fields)["hydrostatic_thickness"]) == pytest.approx(1, rel=0.01)


def balanced() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    pressure, warm, moist = (
        np.array([500.0, 700.0, 850.0]),
        np.array([250.0, 270.0, 280.0]),
        np.array([0.001, 0.004, 0.008]),
    )
    virtual = warm * (1 + (461.5 / 287.05 - 1) * moist)
    steps = 287.05 * (virtual[1:] + virtual[:-1]) / 2 * np.log(pressure[1:] / pressure[:-1])
    height = 14_000.0 + np.append(np.cumsum(steps[::-1])[::-1], 0.0)
    return pressure, {"geopotential": height, "tmp": warm, "spfh": moist}


def test_a_balanced_column_has_nothing_left_and_a_usual_change_of_temperature_alone_leaves_1() -> None:
    pressure, fields = balanced()
    made = diagnosed("hydrostatic_balance", tuple(pressure), on_pressure_levels=True)
    assert made.levels == ((600.0, 775.0),)
    columns = {name: column(values) for name, values in fields.items()}
    np.testing.assert_allclose(made(columns)["hydrostatic_balance"], 0, atol=1e-3)
    warmer = {**columns, "tmp": columns["tmp"] + CHANGE["tmp"]}
    found = made(warmer)["hydrostatic_balance"][0, 0, :, 0, 0]
    # humidity changes the virtual temperature as well, and its part of the scale is small
    np.testing.assert_allclose(found, -1, rtol=0.01)
    gradient = jax.grad(lambda height: made({**columns, "geopotential": height})["hydrostatic_balance"].sum())
    by_height = np.asarray(gradient(columns["geopotential"]))[0, 0, :, 0, 0] * np.array([1, 1, 1])
    scale = np.asarray(made.scales["hydrostatic_balance"])
    np.testing.assert_allclose(by_height, [1 / scale[0], 1 / scale[1] - 1 / scale[0], -1 / scale[1]], rtol=1e-5)


def test_imbalance_is_exact_to_float32() -> None:
    pressure, fields = balanced()
    pairs = jnp.asarray([pressure[:-1], pressure[1:]], jnp.float32)
    left = imbalance(column(fields["geopotential"]), column(fields["tmp"]), column(fields["spfh"]), pairs)
    np.testing.assert_allclose(left, 0, atol=0.05)  # m2 s-2, of 60,000


@pytest.mark.parametrize(
    ("name", "levels", "on_pressure_levels", "everywhere", "words"),
    [
        ("hydrostatic_balance", (500.0, 850.0), False, True, "native layers; take hydrostatic_thickness"),
        ("hydrostatic_balance", (500.0,), True, True, "one level only"),
        ("hydrostatic_thickness", (500.0,), True, True, "pressure levels; take hydrostatic_balance"),
        ("hydrostatic_thickness", (30.0,), False, True, "the layers at 30 hPa do not all lie between"),
        ("hydrostatic_thickness", (123.0,), False, True, "the layers at 123 hPa do not all lie between"),
        ("wind_speed", (500.0,), False, False, "ugrd does not exist everywhere"),
    ],
)
def test_what_the_data_do_not_allow_is_refused(
    name: str, levels: tuple[float, ...], on_pressure_levels: bool, everywhere: bool, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        diagnosed(name, levels, on_pressure_levels=on_pressure_levels, everywhere=everywhere)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("[wind_speed]", "made of ugrd, vgrd; ugrd, vgrd is not a target"),
        ("[hydrostatic_thickness]", "spfh is not a target"),
        ("[hydrostatic_balance]", "geopotential, spfh is not a target"),
        ("[lapse_rate]", "lapse_rate"),
    ],
)
def test_an_experiment_without_the_targets_is_refused(override: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        loading.load(TINY, [f"training.loss.diagnostics={override}"])
    with pytest.raises(UserError, match="names wind_speed, no target"):
        loading.load(TINY, ["training.loss.variable_weights={wind_speed: 2.0}"])
