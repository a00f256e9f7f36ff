"""Learning-rate schedules of a stage."""

from __future__ import annotations

import numpy as np
import pytest

from graphufs.config.training import LearningRate
from graphufs.train.optimizer import learning_rate


def rates(updates: int, **settings) -> np.ndarray:
    schedule = learning_rate(LearningRate(**settings), updates)
    return np.array([float(schedule(update)) for update in range(updates + 1)])


def test_linear_rises_from_start_to_peak_over_the_whole_stage():
    np.testing.assert_allclose(rates(4, schedule="linear", peak=1e-3), [0, 2.5e-4, 5e-4, 7.5e-4, 1e-3], rtol=1e-6)


def test_cosine_warms_up_then_falls_to_its_end():
    values = rates(110, schedule="cosine", peak=2.0, warmup_updates=10, end=0.5)
    assert values[0] == 0 and values[5] == pytest.approx(1.0) and values[10] == pytest.approx(2.0)
    assert values[60] == pytest.approx(1.25, rel=1e-5) and values[110] == pytest.approx(0.5)
    assert np.all(np.diff(values[10:]) < 0)


def test_constant_stays_at_its_peak_after_the_warm_up():
    np.testing.assert_allclose(rates(4, peak=0.1, warmup_updates=2), [0, 0.05, 0.1, 0.1, 0.1], rtol=1e-6)
