"""The loss: weights of points, levels and variables, masks, rollouts, and gradients of batches."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from graphufs.emulator.diagnosed import Diagnosed
from graphufs.emulator.rollout import rollout
from graphufs.errors import UserError
from graphufs.grid.areas import quadrature_weights
from graphufs.model.compile import jit
from graphufs.train.loss import LossWeights, batch_loss_and_grads, sample_losses
from tests.support.rounding import assert_equal_to_rounding, of_network, rounding
from tests.support.small_model import CHANNELS, LATITUDE, LONGITUDE, network, samples, stepper

POINTS = rounding(LATITUDE.size * LONGITUDE.size)
"""A loss is a sum over the points."""
ONE_BY_ONE = jit(lambda *args: batch_loss_and_grads(*args, device_batch_size=1))


@cache
def weights(**options: Any) -> LossWeights:
    return LossWeights.build(CHANNELS, LATITUDE, LONGITUDE, **{"levels": {"tmp": [500.0, 1000.0]}, **options})


def one(arrays: dict[str, Any], sample: int) -> dict[str, Any]:
    return {name: array[sample : sample + 1] if array.shape[0] > 1 else array for name, array in arrays.items()}


def test_errors_are_area_means_by_level_and_constant_errors_their_square() -> None:
    targets = {name: jnp.zeros((2, 1, CHANNELS.levels(name), 6, 12)) for name in CHANNELS.target_variables}
    outputs = {**targets, "tmp": targets["tmp"] + 3, "pressfc": targets["pressfc"].at[1, 0, 0, 0, 0].set(1.0)}
    errors = weights().errors(outputs, targets)
    np.testing.assert_allclose(errors["tmp"], np.full((2, 2), 9), rtol=POINTS)
    area = quadrature_weights(LATITUDE)[0] / 72
    np.testing.assert_allclose(errors["pressfc"], [[0], [area]], rtol=POINTS)
    loss, diagnostics = weights().combine(errors)
    np.testing.assert_allclose(diagnostics.by_variable["tmp"], 9, rtol=POINTS)
    np.testing.assert_allclose(loss, [9, 9 + area], rtol=POINTS)


def test_levels_count_by_pressure_and_their_parts_add_up_to_the_variables_loss() -> None:
    targets = {name: jnp.zeros((1, 1, CHANNELS.levels(name), 6, 12)) for name in CHANNELS.target_variables}
    outputs = {**targets, "tmp": targets["tmp"].at[:, :, 1].set(1.0).at[:, :, 0].set(2.0)}
    errors = weights().errors(outputs, targets)
    np.testing.assert_allclose(errors["tmp"], [[4, 1]], rtol=POINTS)  # whatever the weights
    parts = weights().parts(errors)["tmp"]
    np.testing.assert_allclose(parts, [[4 * 500 / 1500, 1000 / 1500]], rtol=POINTS)
    np.testing.assert_array_equal(weights().combine(errors)[1].by_variable["tmp"], parts.sum(axis=-1))


def test_a_channels_factor_multiplies_its_part_of_the_loss_and_no_other() -> None:
    random = np.random.default_rng(1)
    targets = {
        name: jnp.asarray(random.normal(size=(2, 1, CHANNELS.levels(name), 6, 12)), jnp.float32)
        for name in CHANNELS.target_variables
    }
    outputs = {name: 2 * values for name, values in targets.items()}
    plain = weights()
    weighted = LossWeights.build(
        CHANNELS, LATITUDE, LONGITUDE, levels={"tmp": [500.0, 1000.0]}, channel_weights={"tmp": [3.0, 0.0]}
    )
    errors = weighted.errors(outputs, targets)
    for name, values in plain.errors(outputs, targets).items():
        np.testing.assert_array_equal(errors[name], values)  # an error is seen even where it counts nothing
    before, after = plain.parts(errors), weighted.parts(errors)
    np.testing.assert_allclose(after["tmp"], before["tmp"] * np.array([3.0, 0.0]), rtol=1e-6)
    np.testing.assert_array_equal(after["rain"], before["rain"])
    change = weighted.combine(errors)[0] - plain.combine(errors)[0]
    np.testing.assert_allclose(change, 2 * before["tmp"][:, 0] - before["tmp"][:, 1], rtol=1e-4)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"tmp": [1.0]}, "tmp has 2 levels, but 1 channel weights"),
        ({"tmp": [1.0, -1.0]}, "not negative"),
        ({"moon": [1.0]}, "given for moon"),
    ],
)
def test_factors_that_fit_no_channel_are_refused(factors: dict[str, list[float]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        LossWeights.build(CHANNELS, LATITUDE, LONGITUDE, channel_weights=factors)


def test_weights_may_be_switched_off_and_must_name_targets() -> None:
    flat = weights(weigh_latitudes=False, levels=None)
    np.testing.assert_allclose(flat.areas["tmp"], 1 / 72, rtol=1e-6)
    np.testing.assert_allclose(flat.levels["tmp"], 1 / 2, rtol=1e-6)
    with pytest.raises(UserError, match="moon"):
        LossWeights.build(CHANNELS, LATITUDE, LONGITUDE, variable_weights={"moon": 1.0})


def test_the_batchs_gradient_is_the_mean_of_its_samples_gradients() -> None:
    inputs, targets, forcings = samples(batch=2, steps=1)
    net = network()
    (loss, diagnostics), gradients = ONE_BY_ONE(net, stepper(), weights(), inputs, targets, forcings)
    single = [  # in blocks, as on a large grid: that changes nothing either
        ONE_BY_ONE(net, stepper(blocks=4), weights(), *(one(arrays, sample) for arrays in (inputs, targets, forcings)))
        for sample in range(2)
    ]
    np.testing.assert_allclose(loss, np.mean([result[0][0] for result in single]), rtol=POINTS)
    mean_diagnostics = jax.tree.map(lambda *values: np.mean(values, axis=0), *[result[0][1] for result in single])
    jax.tree.map(lambda ours, mean: np.testing.assert_allclose(ours, mean, rtol=POINTS), diagnostics, mean_diagnostics)
    assert diagnostics.by_level["tmp"].shape == (2,) and diagnostics.by_variable["tmp"].shape == ()
    mean = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *[result[1] for result in single])
    for leaf, expected in zip(jax.tree.leaves(gradients), jax.tree.leaves(mean), strict=True):
        assert_equal_to_rounding(leaf, expected, 2 * (POINTS + of_network(8, 1)))


@pytest.mark.long  # the golden cases have the gradients of the reference
def test_gradients_are_those_of_finite_differences() -> None:
    inputs, targets, forcings = samples(batch=1, steps=1)
    net, step = network(), stepper(blocks=4)
    (_, _), gradients = ONE_BY_ONE(net, step, weights(), inputs, targets, forcings)
    loss = jit(lambda *args: sample_losses(*args)[0].mean())
    steepness = float(np.sqrt(sum((np.asarray(leaf, np.float64) ** 2).sum() for leaf in jax.tree.leaves(gradients))))
    size = 0.2 / steepness  # small enough for curvature, large enough for float32 not to matter
    ahead, behind = (
        loss(jax.tree.map(lambda leaf, slope, to=to: leaf + to * slope / steepness, net, gradients), step, weights(),
             inputs, targets, forcings)
        for to in (size, -size)
    )  # fmt: skip
    assert float(ahead - behind) / (2 * size) == pytest.approx(steepness, rel=0.01)


def test_a_rollouts_loss_is_the_mean_over_its_steps_of_errors_against_the_running_state() -> None:
    inputs, targets, forcings = samples(batch=1, steps=3)
    net, step = network(), stepper()
    loss, diagnostics = jit(sample_losses)(net, step, weights(), inputs, targets, forcings)
    predictions = jit(rollout)(net, step, inputs, forcings)
    error = (np.asarray(predictions["pressfc"], np.float64) - targets["pressfc"]) / 150
    area = quadrature_weights(LATITUDE)[:, None]
    np.testing.assert_allclose(diagnostics.by_variable["pressfc"][0], (error**2 * area).mean(), rtol=1e-4)
    np.testing.assert_allclose(loss[0], sum(float(value[0]) for value in diagnostics.by_variable.values()), rtol=POINTS)
    error = (np.asarray(predictions["tmp"], np.float64) - targets["tmp"]) / np.array([2.0, 3.0])[:, None, None]
    np.testing.assert_allclose(diagnostics.by_level["tmp"][0], (error**2 * area).mean(axis=(0, 1, 3, 4)), rtol=1e-4)
    parts = weights().parts(diagnostics.by_level)
    np.testing.assert_allclose(sum(part.sum() for part in parts.values()), loss[0], rtol=POINTS)


def test_masked_points_weigh_nothing_and_poison_no_gradient() -> None:
    sea = np.ones((2, 6, 12), bool)
    sea[:, :2] = False
    masked = LossWeights.build(CHANNELS, LATITUDE, LONGITUDE, masks={"tmp": sea})
    np.testing.assert_allclose(masked.areas["tmp"].sum(axis=(1, 2)), 1, rtol=POINTS)
    inputs, targets, forcings = samples(batch=1, steps=2)  # two: the first prediction is masked too
    inputs["tmp"], targets["tmp"] = (jnp.where(sea, arrays["tmp"], jnp.nan) for arrays in (inputs, targets))
    (loss, diagnostics), gradients = ONE_BY_ONE(
        network(), stepper(masks={"tmp": sea}), masked, inputs, targets, forcings
    )
    assert np.isfinite(loss) and np.isfinite(diagnostics.by_level["tmp"]).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_what_does_not_fit_is_named() -> None:
    inputs, targets, forcings = samples(batch=3)
    with pytest.raises(UserError, match="does not divide the batch of 3"):
        batch_loss_and_grads(network(), stepper(), weights(), inputs, targets, forcings, device_batch_size=2)
    del targets["rain"]
    with pytest.raises(UserError, match="rain missing"):
        sample_losses(network(), stepper(), weights(), inputs, targets, forcings)


def speed_of_two(**options: Any) -> LossWeights:
    """As if surface pressure and rain were a wind's components."""
    wind = Diagnosed(
        names=("10m_wind_speed",),
        levels=((),),
        targets=(("10m_u_component_of_wind", "pressfc"), ("10m_v_component_of_wind", "rain")),
        transforms=(),
        scales={"10m_wind_speed": jnp.array([50.0])},
        a=jnp.zeros((2, 0)),
        b=jnp.zeros((2, 0)),
    )
    return LossWeights.build(CHANNELS, LATITUDE, LONGITUDE, levels={"tmp": [500.0, 1000.0]}, diagnosed=wind, **options)


def test_what_is_diagnosed_counts_as_targets_do_at_each_step_of_a_rollout() -> None:
    inputs, targets, forcings = samples(batch=1, steps=2)
    net, step = network(), stepper()
    made = speed_of_two(variable_weights={"10m_wind_speed": 0.5})
    loss, diagnostics = jit(sample_losses)(net, step, made, inputs, targets, forcings)
    predictions = jit(rollout)(net, step, inputs, forcings)
    seen, truth = (
        np.hypot(*(np.asarray(one[name], np.float64) for name in ("pressfc", "rain"))) for one in (predictions, targets)
    )
    error = ((seen - truth) / 50) ** 2 * quadrature_weights(LATITUDE)[:, None]
    np.testing.assert_allclose(diagnostics.by_variable["10m_wind_speed"][0], error.mean(), rtol=1e-4)
    assert diagnostics.by_level["10m_wind_speed"].shape == (1, 1)
    plain = jit(sample_losses)(net, step, weights(), inputs, targets, forcings)[0]
    np.testing.assert_allclose(loss - plain, 0.5 * error.mean(), rtol=1e-3)


def test_gradients_see_what_is_diagnosed() -> None:
    inputs, targets, forcings = samples(batch=2, steps=1)
    net, step = network(), stepper()
    (loss, _), gradients = ONE_BY_ONE(net, step, speed_of_two(), inputs, targets, forcings)
    plain = ONE_BY_ONE(net, step, weights(), inputs, targets, forcings)
    without = ONE_BY_ONE(net, step, speed_of_two(variable_weights={"10m_wind_speed": 0.0}), inputs, targets, forcings)
    assert loss > plain[0][0]
    for leaf, other, same in zip(*map(jax.tree.leaves, (plain[1], gradients, without[1])), strict=True):
        assert np.isfinite(other).all()
        np.testing.assert_allclose(leaf, same, atol=1e-5 * float(np.abs(leaf).max() + 1e-6))
    assert not np.allclose(jax.tree.leaves(gradients)[-1], jax.tree.leaves(plain[1])[-1], rtol=1e-3)
