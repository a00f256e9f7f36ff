"""The loss: weights of points, levels and variables, masks, rollouts, and gradients of batches."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from graphufs.errors import UserError
from graphufs.forecast.rollout import rollout
from graphufs.model.compile import jit
from graphufs.train.loss import LossWeights, batch_loss_and_grads, latitude_weights, level_weights, sample_losses
from tests.model.small import CHANNELS, LATITUDE, LONGITUDE, network, samples, stepper

ONE_BY_ONE = jit(lambda *args: batch_loss_and_grads(*args, samples_at_once=1))


def gaussian_latitudes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Latitudes, descending, and quadrature weights with mean 1."""
    sines, weights = np.polynomial.legendre.leggauss(count)
    return np.rad2deg(np.arcsin(sines))[::-1], weights[::-1] * count / 2


@cache
def weights(**options: Any) -> LossWeights:
    return LossWeights.build(CHANNELS, LATITUDE, LONGITUDE, levels={"tmp": [500.0, 1000.0]}, **options)


def one(arrays: dict[str, Any], sample: int) -> dict[str, Any]:
    return {name: array[sample : sample + 1] if array.shape[0] > 1 else array for name, array in arrays.items()}


@pytest.mark.parametrize("order", [1, -1])
def test_uniform_latitudes_weigh_as_graphcast_has_it(order: int) -> None:
    without = np.arange(-87.5, 90, 5)[::order]
    expected = np.cos(np.deg2rad(without))
    np.testing.assert_allclose(latitude_weights(without), expected / expected.mean())
    with_poles = np.linspace(-90, 90, 37)[::order]
    expected = np.cos(np.deg2rad(with_poles)) * np.sin(np.deg2rad(2.5))
    expected[[0, -1]] = np.sin(np.deg2rad(1.25)) ** 2
    np.testing.assert_allclose(latitude_weights(with_poles), expected / expected.mean())


@pytest.mark.parametrize("count", [32, 192])
def test_gaussian_latitudes_weigh_nearly_as_their_quadrature(count: int) -> None:
    latitude, quadrature = gaussian_latitudes(count)
    ours = latitude_weights(latitude)
    assert ours.mean() == pytest.approx(1)
    np.testing.assert_allclose(ours[2:-2], quadrature[2:-2], rtol=5e-3)
    np.testing.assert_allclose(ours, ours[::-1], rtol=1e-9)


def test_decimated_latitudes_weigh_by_their_cells_in_the_parent_grid() -> None:
    parent, _ = gaussian_latitudes(768)
    latitude = parent[::4]
    ours = latitude_weights(latitude, parent)
    cells = latitude_weights(parent)[::4]
    np.testing.assert_allclose(ours, cells / cells.mean())
    # the picked rows reach closer to the north pole than to the south pole, and alone would weigh otherwise
    assert latitude_weights(latitude)[-1] > 1.05 * ours[-1]
    with pytest.raises(UserError, match="not among the parent"):
        latitude_weights(latitude + 0.1, parent)


def test_latitudes_that_turn_back_are_refused() -> None:
    with pytest.raises(UserError, match="ascend or descend"):
        latitude_weights(np.array([0.0, 10.0, 5.0]))


def test_level_weights_are_proportional_to_pressure_with_mean_one() -> None:
    np.testing.assert_allclose(level_weights(np.array([100, 500, 1000])), [0.1875, 0.9375, 1.875])


def test_errors_are_weighted_means_and_constant_errors_their_square() -> None:
    targets = {name: jnp.zeros((2, 1, CHANNELS.levels(name), 6, 12)) for name in CHANNELS.target_variables}
    outputs = {**targets, "tmp": targets["tmp"] + 3, "pressfc": targets["pressfc"].at[1, 0, 0, 0, 0].set(1.0)}
    errors = weights().errors(outputs, targets)
    np.testing.assert_allclose(errors["tmp"], 9, rtol=1e-6)
    area = latitude_weights(LATITUDE)[0] / 72
    np.testing.assert_allclose(errors["pressfc"], [0, area], rtol=1e-6)
    lower = {**targets, "tmp": targets["tmp"].at[:, :, 1].set(1.0)}
    np.testing.assert_allclose(weights().errors(lower, targets)["tmp"], 1000 / 1500, rtol=1e-6)


def test_weights_may_be_switched_off_and_must_name_targets() -> None:
    flat = weights(weigh_latitudes=False, weigh_levels=False).points["tmp"]
    np.testing.assert_allclose(flat, 1 / (2 * 72), rtol=1e-6)
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
    np.testing.assert_allclose(loss, np.mean([result[0][0] for result in single]), rtol=1e-6)
    for name, value in diagnostics.items():
        np.testing.assert_allclose(value, np.mean([result[0][1][name] for result in single]), rtol=1e-6)
    mean = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *[result[1] for result in single])
    for leaf, expected in zip(jax.tree.leaves(gradients), jax.tree.leaves(mean), strict=True):
        np.testing.assert_allclose(leaf, expected, atol=2e-5 * max(np.abs(expected).max(), 1e-6))


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
    area = latitude_weights(LATITUDE)[:, None]
    np.testing.assert_allclose(diagnostics["pressfc"][0], (error**2 * area).mean(), rtol=1e-4)
    np.testing.assert_allclose(loss[0], sum(float(value[0]) for value in diagnostics.values()), rtol=1e-6)


def test_masked_points_weigh_nothing_and_poison_no_gradient() -> None:
    sea = np.ones((2, 6, 12), bool)
    sea[:, :2] = False
    masked = LossWeights.build(CHANNELS, LATITUDE, LONGITUDE, masks={"tmp": sea})
    assert float(masked.points["tmp"].sum()) == pytest.approx(1)
    inputs, targets, forcings = samples(batch=1, steps=2)  # two: the first prediction is masked too
    inputs["tmp"], targets["tmp"] = (jnp.where(sea, arrays["tmp"], jnp.nan) for arrays in (inputs, targets))
    (loss, diagnostics), gradients = ONE_BY_ONE(
        network(), stepper(masks={"tmp": sea}), masked, inputs, targets, forcings
    )
    assert np.isfinite(loss) and np.isfinite(diagnostics["tmp"])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_what_does_not_fit_is_named() -> None:
    inputs, targets, forcings = samples(batch=3)
    with pytest.raises(UserError, match="does not divide the batch of 3"):
        batch_loss_and_grads(network(), stepper(), weights(), inputs, targets, forcings, samples_at_once=2)
    del targets["rain"]
    with pytest.raises(UserError, match="rain missing"):
        sample_losses(network(), stepper(), weights(), inputs, targets, forcings)
