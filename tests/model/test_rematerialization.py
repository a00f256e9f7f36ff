"""What is computed again for the gradient changes its memory, not its values."""

from __future__ import annotations

from typing import Any

import jax
import pytest

from graphufs.model.compile import jit
from graphufs.train.loss import LossWeights, batch_loss_and_grads
from tests.support.rounding import assert_equal_to_rounding, of_network, rounding
from tests.support.small_model import CHANNELS, LATITUDE, LONGITUDE, network, samples, stepper

WEIGHTS = LossWeights.build(CHANNELS, LATITUDE, LONGITUDE)


@pytest.fixture(scope="module")
def results() -> dict[tuple[bool | None, bool | None], tuple[int, Any]]:
    """Temporary bytes, loss and gradients of four steps by what is computed again (steps, blocks); None is True."""

    def run(steps: bool | None, blocks: bool | None) -> tuple[int, Any]:
        def gradients(net: Any, step: Any, inputs: Any, targets: Any, forcings: Any) -> Any:
            return batch_loss_and_grads(net, step, WEIGHTS, inputs, targets, forcings, remat=steps)

        arguments = (network(), stepper(blocks=3, remat_blocks=blocks), *samples(1, 4))
        compiled = jit(gradients).lower(*arguments).compile({"xla_backend_optimization_level": 0})
        return compiled.memory_analysis().temp_size_in_bytes, compiled(*arguments)

    choices = [(False, False), (True, False), (False, True), (None, None)]
    return {choice: run(*choice) for choice in choices}


def test_loss_and_gradients_are_the_same(results: dict) -> None:
    _, expected = results[False, False]
    for choice, (_, found) in results.items():
        for value, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            # a gradient is a sum over the points, and an error of the loss's gradient goes back through four steps
            bound = 4 * (rounding(LATITUDE.size * LONGITUDE.size) + of_network(8, 1))
            assert_equal_to_rounding(value, other, bound, str(choice))


def test_each_choice_takes_less_memory_than_the_one_before(results: dict) -> None:
    nothing, blocks, steps, everything = (
        results[choice][0] for choice in ((False, False), (False, True), (True, False), (None, None))
    )
    assert nothing > 1.5 * blocks > 1.5 * everything
    assert nothing > 2 * steps > 2 * everything
