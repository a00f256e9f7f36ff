"""What is computed again for the gradient changes its memory, not its values."""

from __future__ import annotations

import functools
from typing import Any

import jax
import pytest

from graphufs.model.compile import jit
from graphufs.train.loss import LossWeights, batch_loss_and_grads
from tests.support.rounding import assert_equal_to_rounding, of_network, rounding
from tests.support.small_model import CHANNELS, LATITUDE, LONGITUDE, network, samples, stepper

WEIGHTS = LossWeights.build(CHANNELS, LATITUDE, LONGITUDE)


pytestmark = pytest.mark.long  # each choice is a program of its own to compile
CHOICES = {"everything": (None, None), "steps": (True, False), "blocks": (False, True)}


@functools.cache
def result(steps: bool | None, blocks: bool | None) -> tuple[int, Any]:
    """Temporary bytes, loss and gradients of four steps by what is computed again (steps, blocks); None is True."""

    def gradients(net: Any, step: Any, inputs: Any, targets: Any, forcings: Any) -> Any:
        return batch_loss_and_grads(net, step, WEIGHTS, inputs, targets, forcings, remat=steps)

    arguments = (network(), stepper(blocks=3, remat_blocks=blocks), *samples(1, 4))
    compiled = jit(gradients).lower(*arguments).compile({"xla_backend_optimization_level": 0})
    return compiled.memory_analysis().temp_size_in_bytes, compiled(*arguments)


@pytest.mark.parametrize(("steps", "blocks"), CHOICES.values(), ids=CHOICES)
def test_loss_and_gradients_are_the_same_in_less_memory(steps: bool | None, blocks: bool | None) -> None:
    (most, expected), (memory, found) = result(False, False), result(steps, blocks)
    for value, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        # a gradient is a sum over the points, and an error of the loss's gradient goes back through four steps
        bound = 4 * (rounding(LATITUDE.size * LONGITUDE.size) + of_network(8, 1))
        assert_equal_to_rounding(value, other, bound)
    assert most > (1.5 if blocks else 2) * memory


def test_each_choice_takes_less_memory_than_the_one_before() -> None:
    everything = result(None, None)[0]
    for choice in ((False, True), (True, False)):
        assert result(*choice)[0] > everything
