"""The stepper: normalisation, residuals, masks, and statistics that make no sense."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from graphufs.errors import UserError
from graphufs.model.compile import jit
from tests.support.small_model import STATISTICS, network, samples, stepper

PREDICT = jit(lambda network, stepper, inputs, forcings: stepper(network, inputs, forcings))


def first(arrays: dict) -> dict:
    return {name: array[:, :1] for name, array in arrays.items()}


def test_a_network_that_says_nothing_predicts_persistence_and_the_mean() -> None:
    inputs, _, forcings = samples()
    silent = jax.tree.map(jnp.zeros_like, network())
    prediction = PREDICT(silent, stepper(), inputs, first(forcings))
    for name in ("tmp", "pressfc"):
        np.testing.assert_allclose(prediction[name], inputs[name][:, -1:])
    np.testing.assert_allclose(prediction["rain"], 3.0)  # a target that is no input


def test_targets_and_outputs_are_inverse_to_each_other() -> None:
    inputs, targets, _ = samples()
    normal = stepper().normalize_targets(first(targets), inputs)
    np.testing.assert_allclose(
        normal["tmp"], (targets["tmp"][:, :1] - inputs["tmp"][:, 1:]) / np.array([2.0, 3.0])[:, None, None], rtol=1e-5
    )
    np.testing.assert_allclose(normal["rain"], (targets["rain"][:, :1] - 3) / 2, atol=1e-6)
    for name, physical in stepper().to_physical(normal, inputs).items():
        np.testing.assert_allclose(physical, targets[name][:, :1], rtol=1e-5, atol=1e-5)


def test_variables_without_statistics_are_taken_as_they_are() -> None:
    inputs, targets, forcings = samples()
    bare = stepper(mean={}, std={}, diffs_std={})
    x = bare.stack(inputs, first(forcings))
    np.testing.assert_array_equal(x[0, :, 2], inputs["land_static"][0, 0, 0].ravel())
    normal = bare.normalize_targets(first(targets), inputs)
    np.testing.assert_array_equal(normal["pressfc"], targets["pressfc"][:, :1] - inputs["pressfc"][:, 1:])


def test_masked_points_are_zero_to_the_network_and_stay_missing_in_the_prediction() -> None:
    inputs, _, forcings = samples()
    sea = np.ones((2, 6, 12), bool)
    sea[0, 2, 3:7] = False
    ocean = stepper(masks={"tmp": sea, "rain": sea[:1]})
    assert set(ocean.masks) == {"tmp", "rain"}
    holes = {**inputs, "tmp": jnp.where(sea, inputs["tmp"], jnp.nan)}
    x = ocean.stack(holes, first(forcings))
    assert np.isfinite(x).all()
    assert (x[:, ~sea[0].ravel(), 5] == 0).all()  # tmp at the first level, frame 0
    prediction = PREDICT(network(), ocean, holes, first(forcings))
    for name in ("tmp", "rain"):
        np.testing.assert_array_equal(np.isfinite(prediction[name][1, 0, 0]), sea[0])
    assert np.isfinite(prediction["tmp"][:, :, 1]).all()


def test_a_nan_that_no_mask_explains_spreads() -> None:
    inputs, _, forcings = samples()
    broken = {**inputs, "tmp": inputs["tmp"].at[0, 0, 0, 2, 3].set(jnp.nan)}
    prediction = PREDICT(network(), stepper(), broken, first(forcings))
    assert np.isnan(prediction["tmp"][0]).any() and np.isfinite(prediction["tmp"][1]).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"std": {"tmp": np.array([20.0, 0.0])}}, "std of tmp"),
        ({"mean": {"tmp": np.array([1.0, 2.0, 3.0])}}, "mean of tmp"),
        ({"diffs_std": {"pressfc": np.array([np.nan])}}, "diffs_std of pressfc"),
        ({"masks": {"tmp": np.ones((1, 6, 12), bool)}}, "mask of tmp"),
    ],
)
def test_statistics_that_make_no_sense_are_refused(change: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        stepper(**change)


def test_an_input_that_never_changes_needs_no_standard_deviation_of_differences() -> None:
    stepper(diffs_std={**STATISTICS["diffs_std"], "land_static": np.array([0.0])})
