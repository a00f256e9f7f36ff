"""The guard: which losses stop a training."""

from __future__ import annotations

import json
import math

import pytest

from graphufs.config.training import Divergence
from graphufs.train.divergence import Guard, LossDiverged

SETTINGS = Divergence(factor=10, window=5)


def test_a_loss_far_above_the_last_ones_has_diverged():
    guard = Guard(SETTINGS, "one")
    for update, loss in enumerate([3.0, 1.0, 2.0, 1.0, 2.0], 1):
        guard.look(update, loss, 1.0)
    guard.look(6, 19.9, 1.0)  # the median is 2
    with pytest.raises(LossDiverged, match=r"diverged \(loss 21, more than 10 times 2, the median of the 5") as caught:
        guard.look(7, 21.0, 1.0)
    assert caught.value.update == 7


def test_the_first_losses_of_a_stage_may_jump():
    guard = Guard(SETTINGS, "one")
    for update, loss in enumerate([0.1, 50.0, 0.1, 80.0, 0.1], 1):
        guard.look(update, loss, 1.0)


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan), (1.0, math.inf)])
def test_what_is_not_finite_is_noticed_at_once(loss, norm):
    with pytest.raises(LossDiverged, match="not finite"):
        Guard(SETTINGS, "one").look(1, loss, norm)


def test_without_a_factor_only_what_is_not_finite_is_noticed():
    guard = Guard(Divergence(factor=None, window=5), "one")
    for update in range(20):
        guard.look(update, 10.0**update, 1.0)


def test_a_guard_goes_on_from_its_state_as_if_nothing_happened():
    first = Guard(SETTINGS, "one")
    for update, loss in enumerate([0.1, 1 / 3, 0.7, 0.2, 0.3], 1):
        first.look(update, loss, 1.0)
    state = json.loads(json.dumps(first.state()))
    again = Guard.from_state(SETTINGS, "one", state)
    assert again.state() == first.state()
    with pytest.raises(LossDiverged):
        again.look(6, 4.0, 1.0)
    Guard.from_state(SETTINGS, "two", state).look(6, 4.0, 1.0)  # another stage's losses say nothing
