"""Reading the training's log, whole or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from graphufs.report.training_log import read


def write(path: Path, *events: Any) -> Path:
    path.write_text("".join((event if isinstance(event, str) else json.dumps(event)) + "\n" for event in events))
    return path


def update(number: int, loss: float, **values: Any) -> dict[str, Any]:
    return {"event": "update", "update": number, "loss": loss, **values}


def test_losses_stages_and_speed_are_read(tmp_path: Path) -> None:
    log = read(
        write(
            tmp_path / "metrics.jsonl",
            update(10, 3.0, stage="one-step", samples_per_second=20.0, waiting=0.0),
            update(20, 2.0, stage="one-step", samples_per_second=10.0, waiting=0.1),
            {"event": "validation", "update": 20, "loss": 2.5, "loss_by_variable": {"tmp": 1.0}},
            {"event": "forecasts", "update": 20, "score": 0.7, "best": True},
            update(30, 1.0, stage="rollout", samples_per_second=30.0, waiting=0.2),
        )
    )
    assert log is not None
    np.testing.assert_array_equal([log.forecast_updates, log.forecast_scores], [[20], [0.7]])
    np.testing.assert_array_equal(log.updates, [10, 20, 30])
    np.testing.assert_array_equal(log.losses, [3, 2, 1])
    np.testing.assert_array_equal([log.validation_updates, log.validation_losses], [[20], [2.5]])
    assert log.stages == ((10, "one-step"), (30, "rollout"))
    assert log.speed == 20 and log.waiting is not None and abs(log.waiting - 0.1) < 1e-12


def test_no_log_an_empty_one_and_one_without_updates_are_none(tmp_path: Path) -> None:
    assert read(tmp_path / "nothing.jsonl") is None
    assert read(write(tmp_path / "empty.jsonl")) is None
    assert read(write(tmp_path / "other.jsonl", {"event": "validation", "update": 1, "loss": 1.0})) is None


def test_a_torn_line_and_strange_ones_are_passed_over(tmp_path: Path) -> None:
    log = read(write(tmp_path / "m.jsonl", update(1, 2.0), [1, 2], "nonsense", {"event": "update"}, '{"event": "upd'))
    assert log is not None and log.updates.tolist() == [1] and log.speed is None and log.stages == ()


def test_of_an_update_done_twice_the_last_counts(tmp_path: Path) -> None:
    log = read(write(tmp_path / "m.jsonl", update(1, 5.0), update(2, 4.0), update(1, 3.0)))
    assert log is not None and log.losses.tolist() == [3.0, 4.0]


def test_the_running_mean_does_not_reach_over_stages(tmp_path: Path) -> None:
    events = [update(n, 1.0, stage="a") for n in range(1, 201)] + [update(n, 9.0, stage="b") for n in range(201, 301)]
    log = read(write(tmp_path / "m.jsonl", *events))
    assert log is not None
    np.testing.assert_allclose(log.smoothed, log.losses)
