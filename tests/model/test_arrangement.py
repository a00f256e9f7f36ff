"""The arrangements for CPUs and GPUs compute the same, and each is what was asked for, whatever the backend at hand."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from graphufs.model.arrangement import CPU, GPU, arrangement_for
from graphufs.model.compile import jit
from graphufs.train.loss import LossWeights, batch_loss_and_grads
from tests.model.test_precision import equations
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


LONG = pytest.mark.long  # each is programs of its own to compile


@pytest.mark.parametrize(
    "options", [{}, pytest.param({"blocks": 3}, marks=LONG), pytest.param({"remat_blocks": True}, marks=LONG)], ids=str
)
def test_both_compute_the_same_to_rounding(options: dict[str, Any]) -> None:
    """Loss, diagnostics and all gradients, of a rollout."""
    bound = 4 * (rounding(LATITUDE.size * LONGITUDE.size) + of_network(8, 1))
    here, there = found(arrangement=CPU), found(arrangement=GPU, **options)
    for value, other in zip(jax.tree.leaves(there), jax.tree.leaves(here), strict=True):
        assert_equal_to_rounding(value, other, bound)


@pytest.mark.long  # in float32 they are compared in each run
@pytest.mark.parametrize("blocks", [1, 3])
def test_in_bfloat16_a_gpus_gradients_are_as_near_to_those_in_float32_as_a_cpus(blocks: int) -> None:
    exact = vector(found(arrangement=CPU))
    here, there = (
        np.linalg.norm(vector(found(arrangement=one, precision="bfloat16", blocks=blocks)) - exact)
        for one in (CPU, GPU)
    )
    assert 0 < there < 1.1 * here < 0.1 * np.linalg.norm(exact)


def test_a_gpu_gathers_rounded_rows_and_adds_up_in_float32() -> None:
    data, step = samples(2, 1), stepper(arrangement=GPU, precision="bfloat16")
    traced = jax.make_jaxpr(lambda *a: batch_loss_and_grads(a[0], a[1], WEIGHTS, *a[2:]))(network(), step, *data)
    every = list(equations(traced.jaxpr))

    def kinds(name: str) -> set[Any]:
        # a sum over an axis of length 1, a block's, is none
        outcomes = ((one.outvars[0].aval, one.invars[0].aval) for one in every if one.primitive.name == name)
        return {out.dtype for out, summed in outcomes if name != "reduce_sum" or out.size < summed.size}

    assert kinds("scatter-add") == {jnp.dtype("float32")}
    assert kinds("reduce_sum") == {jnp.dtype("float32")}
    # no row of ones that columns are added up by
    assert not [e for e in every if e.primitive.name == "dot_general" and e.invars[0].aval.shape[:-1] == (1,)]
    traced = jax.make_jaxpr(lambda *a: a[1](a[0], a[2], a[3]))(network(), step, data[0], data[2])
    gathers = [e.outvars[0].aval for e in equations(traced.jaxpr) if e.primitive.name == "gather"]
    # the one of float32 rows is of the embeddings, which all samples share
    assert [aval.shape[-1] for aval in gathers if aval.dtype == jnp.float32] == [8]
    assert sum(aval.dtype == jnp.bfloat16 for aval in gathers) >= 4


def test_the_arrangement_is_that_of_the_backend_at_hand_where_none_is_given() -> None:
    assert stepper().graph.arrangement is arrangement_for() is arrangement_for(jax.default_backend())
    assert arrangement_for("cuda") is arrangement_for("gpu") is GPU and arrangement_for("cpu") is CPU
    assert stepper(arrangement=GPU).graph.arrangement is GPU and not stepper(arrangement=GPU).graph.fills_cache
