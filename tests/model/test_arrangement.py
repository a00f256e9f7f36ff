"""The arrangements for CPUs and GPUs compute the same, and each is what was asked for, whatever the backend at hand."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from graphufs.model.arrangement import CPU, GPU, arrangement_for
from graphufs.model.compile import jit
from graphufs.train.loss import LossWeights, batch_loss_and_grads
from tests.support.rounding import assert_equal_to_rounding, of_network, rounding
from tests.support.small_model import CHANNELS, LATITUDE, LONGITUDE, network, samples, stepper

WEIGHTS = LossWeights.build(CHANNELS, LATITUDE, LONGITUDE)


@jit
def gradients(net: Any, step: Any, inputs: Any, targets: Any, forcings: Any) -> Any:
    return batch_loss_and_grads(net, step, WEIGHTS, inputs, targets, forcings, device_batch_size=2)


def found(**options: Any) -> Any:
    return gradients(network(), stepper(**options), *samples(2, 2))


def vector(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def test_both_compute_the_same_to_rounding() -> None:
    bound = 4 * (rounding(LATITUDE.size * LONGITUDE.size) + of_network(8, 1))
    here, there = found(arrangement=CPU), found(arrangement=GPU)
    for value, other in zip(jax.tree.leaves(there), jax.tree.leaves(here), strict=True):
        assert_equal_to_rounding(value, other, bound)


def test_in_bfloat16_a_gpus_gradients_are_as_near_to_those_in_float32_as_a_cpus() -> None:
    exact = vector(found(arrangement=CPU))
    here, there = (
        np.linalg.norm(vector(found(arrangement=one, precision="bfloat16", blocks=3)) - exact) for one in (CPU, GPU)
    )
    assert 0 < there < 1.2 * here < 0.1 * np.linalg.norm(exact)


def test_the_arrangement_is_that_of_the_backend_at_hand_where_none_is_given() -> None:
    assert stepper().graph.arrangement is arrangement_for() is arrangement_for(jax.default_backend())
    assert arrangement_for("cuda") is arrangement_for("gpu") is GPU and arrangement_for("cpu") is CPU
    assert stepper(arrangement=GPU).graph.arrangement is GPU and not stepper(arrangement=GPU).graph.fills_cache
