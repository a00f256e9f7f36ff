"""bfloat16: what is rounded and what is not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend.core import jaxprs_in_params

from graphufs.model.compile import jit
from graphufs.train.loss import LossWeights, batch_loss_and_grads
from tests.support.small_model import CHANNELS, LATITUDE, LONGITUDE, network, samples, stepper

WEIGHTS = LossWeights.build(CHANNELS, LATITUDE, LONGITUDE)
PRECISIONS = ("float32", "bfloat16")
PREDICT = jit(lambda network, stepper, inputs, forcings: stepper(network, inputs, forcings))
OPTIMIZER = optax.adam(1e-2)


def gradients(net: Any, step: Any, inputs: Any, targets: Any, forcings: Any) -> Any:
    return batch_loss_and_grads(net, step, WEIGHTS, inputs, targets, forcings)


@jit
def update(net: Any, state: Any, step: Any, data: Any) -> Any:
    (loss, _), found = gradients(net, step, *data)
    updates, state = OPTIMIZER.update(found, state, net)
    return optax.apply_updates(net, updates), state, loss, found


def equations(jaxpr: Any) -> Iterator[Any]:
    """Every equation of a traced function, those of inner functions too."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner)


def test_edge_embeddings_are_in_the_precision_asked_for() -> None:
    for precision in PRECISIONS:
        edges = jax.eval_shape(stepper(precision=precision).embed_edges, network())
        assert {leaf.dtype for leaf in jax.tree.leaves(edges)} == {jnp.dtype(precision)}


def test_products_are_rounded_and_sums_are_not() -> None:
    inputs, targets, forcings = samples(1, 2)
    traced = jax.make_jaxpr(gradients)(network(), stepper(precision="bfloat16"), inputs, targets, forcings)
    found = list(equations(traced.jaxpr))
    products = [equation for equation in found if equation.primitive.name == "dot_general"]
    # Two kinds are in float32: the derivatives of scales, offsets and biases add up columns by a product with a row of
    # ones, and an offset, a vector, meets the next layer's weight.
    products = [equation for equation in products if equation.invars[0].aval.ndim == 2]
    products = [equation for equation in products if equation.invars[0].aval.shape[0] > 1]
    assert len(products) > 30
    assert {variable.aval.dtype for equation in products for variable in equation.invars} == {jnp.dtype("bfloat16")}
    # over the edges of a node, and in derivatives over all that took a row
    sums = [equation for equation in found if equation.primitive.name == "scatter-add"]
    assert len(sums) >= 7
    assert {equation.outvars[0].aval.dtype for equation in sums} == {jnp.dtype("float32")}


def test_training_goes_as_in_float32() -> None:
    data, losses, first = samples(1, 1), {}, {}
    for precision in PRECISIONS:
        net, step = network(), stepper(precision=precision)
        state = OPTIMIZER.init(net)
        losses[precision] = []
        for _ in range(12):
            net, state, loss, found = update(net, state, step, data)
            assert {leaf.dtype for leaf in jax.tree.leaves((net, loss, found))} == {jnp.dtype("float32")}
            first.setdefault(precision, np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(found)]))
            losses[precision].append(float(loss))
    assert losses["float32"][-1] < 0.9 * losses["float32"][0]
    np.testing.assert_allclose(losses["bfloat16"], losses["float32"], rtol=0.01)
    difference = np.linalg.norm(first["bfloat16"] - first["float32"]) / np.linalg.norm(first["float32"])
    assert 0 < difference < 0.08  # rounding to 8 bits, 0.004, at some dozen places in a row


def test_the_last_input_is_added_unrounded() -> None:
    """A surface pressure of 1e5 Pa would lose up to 256 Pa in bfloat16."""
    inputs, _, forcings = samples(1, 1)
    silent = jax.tree.map(jnp.zeros_like, network())
    predictions = PREDICT(silent, stepper(precision="bfloat16"), inputs, forcings)
    np.testing.assert_array_equal(predictions["pressfc"], inputs["pressfc"][:, -1:])
    assert predictions["pressfc"].dtype == jnp.float32


@pytest.mark.parametrize("blocks", [1, 3])
def test_blocks_change_nothing_but_rounding(blocks: int) -> None:
    inputs, _, forcings = samples(1, 1)
    exact = PREDICT(network(), stepper(), inputs, forcings)
    rounded = PREDICT(network(), stepper(precision="bfloat16", blocks=blocks), inputs, forcings)
    for name in CHANNELS.target_variables:
        change = np.std(exact[name] - (inputs[name][:, -1:] if name in inputs else 0))
        assert 0 < np.std(rounded[name] - exact[name]) < 0.04 * change
