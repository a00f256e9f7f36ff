"""The score of members: its formulas, its derivatives, and that what it makes best is the spread that theory says."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from graphufs.config.training import Optimizer, StageLoss
from graphufs.emulator.draws import TRAINING, VALIDATION, batch_noise, member_noise
from graphufs.errors import UserError
from graphufs.model.compile import jit
from graphufs.train.ensemble.collapse import FIRST_UPDATES, described, require_spread
from graphufs.train.ensemble.members import Spread, crps, member_errors, neighbourhood_means, spread
from graphufs.train.loss import SQUARED, LossWeights, batch_loss_and_grads, sample_losses
from graphufs.train.stages import PlannedStage
from tests.support.small_model import CHANNELS, LATITUDE, LONGITUDE, network, random_maps, samples, stepper

WEIGHTS = LossWeights.build(CHANNELS, LATITUDE, LONGITUDE)
CRPS = StageLoss(kind="crps")


def errors(*members: float) -> jax.Array:
    return jnp.asarray(members, jnp.float32)


@pytest.mark.parametrize(
    ("members", "alpha", "expected"),
    [
        ((1, -1), 1.0, 0.0),
        ((1, 2, 3), 1.0, 4 / 3),
        ((1, 2, 3), 0.0, 14 / 9),
        ((2, 2, 2), 0.5, 2.0),
        ((-3,), 1.0, 3.0),
        ((2, 5), 1.0, 2.0),  # of two members the distance from the interval between them
        ((-2, 5), 1.0, 0.0),
    ],
)
def test_the_score_of_a_hand_case(members: tuple[float, ...], alpha: float, expected: float) -> None:
    assert crps(errors(*members), alpha) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.95, 1.0])
def test_the_score_is_skill_less_half_the_distance_whatever_the_order_of_members(alpha: float) -> None:
    drawn = np.random.default_rng(0).normal(size=(4, 50)) + 0.3
    skill, distance, variance, mean_error = spread(jnp.asarray(drawn, jnp.float32))
    expected = skill - (1 - (1 - alpha) / 4) * distance / 2
    for order in ([0, 1, 2, 3], [2, 0, 3, 1]):
        np.testing.assert_allclose(crps(jnp.asarray(drawn[order], jnp.float32), alpha), expected, atol=1e-6)
    np.testing.assert_allclose(variance, drawn.var(axis=0, ddof=1), rtol=1e-5)
    np.testing.assert_allclose(mean_error, drawn.mean(axis=0) ** 2 - variance / 4, atol=1e-5)


def test_ties_and_large_numbers_leave_score_and_gradient_finite() -> None:
    score, gradient = jax.value_and_grad(lambda e: crps(e).sum())(jnp.zeros((2, 3)) + 1e5)
    assert score == pytest.approx(3e5) and np.isfinite(gradient).all()
    near = jnp.asarray([[1e5 + 0.25], [1e5 - 0.25]])
    assert crps(near)[0] == pytest.approx(1e5 - 0.25)


@pytest.mark.parametrize("members", [2, 4, 16])
def test_of_draws_around_a_gaussian_truth_the_fair_score_is_the_formulas(members: int) -> None:
    drawn = jnp.asarray(np.random.default_rng(members).normal(size=(members, 200_000)) - 0.7, jnp.float32)
    fair, biased = (float(crps(drawn, alpha).mean()) for alpha in (1.0, 0.0))
    assert fair == pytest.approx(0.42157, abs=0.004)
    assert biased - fair == pytest.approx(1 / (members * np.sqrt(np.pi)), abs=0.002)


@pytest.mark.parametrize(("alpha", "ratio"), [(1.0, 1.0), (0.95, 0.952), (0.0, 0.378)])
def test_the_spread_that_is_best_for_two_members_is_that_of_theory(alpha: float, ratio: float) -> None:
    # The toy system x' = a x + s0 w, w the same everywhere, by a model whose only unknown is its own s
    steps, decay, truth = 3, 0.8, 0.5
    key = jax.random.key(0)

    def loss(s: jax.Array, key: jax.Array) -> jax.Array:
        of_members, of_truth = (
            jax.random.normal(one, shape)
            for one, shape in zip(jax.random.split(key), ((2, steps, 512), (steps, 512)), strict=True)
        )

        def forward(noise: jax.Array, scale: jax.Array | float) -> jax.Array:
            x, found = jnp.zeros(512), []
            for w in noise:
                x = decay * x + scale * w
                found.append(x)
            return jnp.stack(found)

        members = jax.vmap(lambda noise: forward(noise, s))(of_members)
        return crps(members - forward(of_truth, truth), alpha).mean()

    def update(s: jax.Array, number: jax.Array) -> tuple[jax.Array, jax.Array]:
        s = s - 0.3 / (1 + number / 30) * jax.grad(loss)(s, jax.random.fold_in(key, number))
        return s, s

    _, found = jax.lax.scan(update, jnp.float32(0.2), jnp.arange(600))
    s = abs(float(found[-200:].mean()))
    assert s / truth == pytest.approx(ratio, rel=0.05)
    of_steps = s**2 * (1 - decay ** (2 * np.arange(1, steps + 1))) / (1 - decay**2)
    assert np.sqrt(of_steps[-1]) == pytest.approx(
        ratio * np.sqrt(truth**2 * (1 - decay ** (2 * steps)) / (1 - decay**2)), rel=0.05
    )


def conditioned_case(members: int = 2, batch: int = 2, steps: int = 2) -> tuple[Any, ...]:
    noise = batch_noise(np.uint32(3), TRAINING, np.int32(0), (batch, members, steps, 32))
    return random_maps(), stepper(), samples(batch, steps), noise


@pytest.mark.long
def test_members_side_by_side_and_in_turn_have_the_same_scores_and_gradients() -> None:
    net, step, arrays, noise = conditioned_case(members=3)
    ways: list[dict[str, Any]] = [
        {"device_batch_size": 2},
        {"device_batch_size": 2, "in_turn": True},
    ]
    loss = StageLoss(kind="crps", members=3)
    found = [
        jit(partial(batch_loss_and_grads, loss=loss, **how))(net, step, WEIGHTS, *arrays, noise=noise) for how in ways
    ]
    for other in found[1:]:
        for one, two in zip(jax.tree.leaves(found[0]), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(one, two, rtol=2e-4, atol=2e-5 * max(np.abs(one).max(), 1e-3))


@pytest.mark.long
def test_in_turn_more_members_take_hardly_more_memory() -> None:
    def memory(members: int) -> int:
        net, step, arrays, noise = conditioned_case(members, batch=4, steps=1)
        loss = StageLoss(kind="crps", members=members)

        def gradients(net: Any, step: Any, arrays: Any, noise: Any) -> Any:
            how: dict[str, Any] = {"loss": loss, "noise": noise, "in_turn": True, "device_batch_size": 4}
            return batch_loss_and_grads(net, step, WEIGHTS, *arrays, **how)

        return int(jit(gradients).lower(net, step, arrays, noise).compile().memory_analysis().temp_size_in_bytes)

    assert memory(8) < 2 * memory(2)


def test_without_spread_the_loss_is_the_mean_absolute_error() -> None:
    net, step, arrays, noise = conditioned_case()
    expected, _ = sample_losses(net, step, WEIGHTS, *arrays, loss=StageLoss(kind="mae"))
    squared, _ = sample_losses(net, step, WEIGHTS, *arrays)
    assert not np.allclose(expected, squared)
    for loss in (CRPS, StageLoss(kind="crps", alpha=0.0)):
        found, diagnostics = sample_losses(net, step, WEIGHTS, *arrays, loss=loss, noise=0 * noise)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        assert diagnostics.spread is not None
        assert max(float(v.max()) for v in diagnostics.spread.variance.values()) < 1e-10


@pytest.mark.parametrize(("shape", "points", "uniform"), [((6, 8), 2, True), ((7, 10), 4, False), ((5, 3), 9, True)])
def test_means_over_neighbourhoods_are_weighted_by_area(shape: tuple[int, int], points: int, uniform: bool) -> None:
    drawn = np.random.default_rng(4)
    values = drawn.normal(size=(2, 1, 3, *shape)).astype(np.float32)
    areas = drawn.random((1, shape[0], 1) if uniform else (3, *shape)).astype(np.float32)
    if not uniform:
        areas[1, :points, :points] = 0  # nothing to score in the first block
    means, shares = neighbourhood_means(jnp.asarray(values), jnp.asarray(areas), points)
    whole = np.broadcast_to(areas, (areas.shape[0], *shape))
    rows, columns = (range(0, size, points) for size in shape)
    assert means.shape == (2, 1, 3, len(rows), len(columns)) and shares.shape == (len(whole), len(rows), len(columns))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            block = np.s_[..., row : row + points, column : column + points]
            share = whole[block].sum(axis=(-2, -1), dtype=np.float64)
            expected = (values * whole)[block].sum(axis=(-2, -1), dtype=np.float64) / np.where(share > 0, share, 1)
            np.testing.assert_allclose(means[..., i, j], expected, atol=1e-6)
            np.testing.assert_allclose(shares[..., i, j], share, rtol=1e-6)


@pytest.mark.long  # the means themselves are tested above
def test_the_score_of_neighbourhoods_is_a_second_term() -> None:
    net, step, arrays, noise = conditioned_case(steps=1)
    # a neighbourhood as large as the grid leaves the score of the area's mean
    wide = CRPS.model_copy(update={"smoothed_weight": 0.5, "smoothed_points": 1000})
    plain, found = (sample_losses(net, step, WEIGHTS, *arrays, loss=loss, noise=noise)[0] for loss in (CRPS, wide))
    inputs, targets, forcings = arrays

    def differ(*one: Any) -> dict[str, jax.Array]:
        return WEIGHTS.differences(*WEIGHTS.observed(step, *one))

    how: dict[str, Any] = {"in_turn": False, "steps": 1, "edges": None, "remat": None}
    errors = member_errors(net, step, differ, (inputs, forcings, targets), noise, **how)
    terms = WEIGHTS.combine({name: crps(mean)[0] for name, mean in WEIGHTS.means(errors).items()})[0]
    assert (terms > 0).all()
    np.testing.assert_allclose(found, plain + 0.5 * terms, rtol=1e-5)


def test_members_with_other_last_inputs_are_scored_by_their_states() -> None:
    # the errors of two members that predict the same state are the same, whatever state each came from
    step, targets = stepper(), samples(1, 1)[1]
    inputs, _, _ = samples(2, 1, seed=3)
    outputs = step.normalize_targets({name: targets[name] + 1 for name in targets}, inputs)
    of_members = WEIGHTS.differences(outputs, step.normalize_targets(targets, inputs))
    for name in of_members:
        distance = np.abs(of_members[name][0] - of_members[name][1])
        assert distance.max() < 1e-3 * np.abs(of_members[name]).max()


def test_noise_of_a_sample_depends_on_its_place_alone() -> None:
    few, many = (batch_noise(np.uint32(7), TRAINING, np.int32(5), (b, m, s, 32)) for b, m, s in ((2, 2, 1), (5, 4, 3)))
    np.testing.assert_array_equal(few, many[:2, :2, :1])
    seen = {many[b, m, s].tobytes() for b in range(5) for m in range(4) for s in range(3)}
    assert len(seen) == 60
    for seed, purpose, number in ((8, TRAINING, 5), (7, VALIDATION, 5), (7, TRAINING, 6)):
        assert (batch_noise(np.uint32(seed), purpose, np.int32(number), (2, 2, 1, 32)) != few).all()
    assert abs(float(many.mean())) < 0.1 and float(many.std()) == pytest.approx(1, abs=0.05)


def test_noise_of_a_forecasts_member_is_the_same_whatever_else_is_forecast() -> None:
    times = np.array(["1969-12-31T18", "1994-01-01T00", "1994-01-01T06"], "datetime64[ns]")
    together = member_noise(2**32 - 1, times, 3, 4, 32)
    assert together.shape == (3, 4, 32) and together.dtype == np.float32
    np.testing.assert_array_equal(member_noise(2**32 - 1, times[1:2], 3, 2, 32)[0], together[1, :2])
    assert len({one.tobytes() for one in together.reshape(-1, 32)}) == 12
    assert (member_noise(0, times, 4, 4, 32) != member_noise(0, times, 3, 4, 32)).all()


def seen_spread(variance: float) -> Spread:
    level: Any = {"tmp": np.array([1.0, 2.0])}
    variances: Any = {"tmp": np.array([0.0, variance])}
    errors_of_means: Any = {"tmp": np.array([4.0, -1.0])}
    return Spread(level, level, variances, errors_of_means)


def test_members_that_stay_the_same_stop_the_training() -> None:
    loader: Any = None
    stage = PlannedStage("one", loader, first=0, updates=100, rollout=1, optimizer=Optimizer(), loss=CRPS)
    require_spread(seen_spread(0.0), FIRST_UPDATES - 1, stage)  # the maps may still be nearly 0
    require_spread(seen_spread(1e-6), 50, stage)
    with pytest.raises(UserError, match="2 members of stage 'one' are all the same after 20 of its updates"):
        require_spread(seen_spread(0.0), FIRST_UPDATES, stage)
    assert described(seen_spread(1.0))["spread_skill"] == {"tmp": [0.0, None]}


def test_the_loss_of_other_kinds_knows_no_noise() -> None:
    net, step, arrays, _ = conditioned_case()
    plain = sample_losses(network(message_steps=2), step, WEIGHTS, *arrays, loss=SQUARED)[0]
    np.testing.assert_array_equal(sample_losses(net, step, WEIGHTS, *arrays, loss=SQUARED)[0], plain)
