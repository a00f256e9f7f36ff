"""The training's log, read with tolerance: a log may be cut short, repeat updates after a resume, or not exist."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from graphufs.train import metrics_file


@dataclass(frozen=True)
class TrainingLog:
    """Losses by update, and scores of validation forecasts (RMSE over persistence's, mean over targets and leads).

    `stages` holds the first update and name of each stage, `speed` the median samples per second, `waiting` the mean
    share of time spent waiting for data (both None where the log does not say).
    """

    updates: np.ndarray
    losses: np.ndarray
    validation_updates: np.ndarray
    validation_losses: np.ndarray
    forecast_updates: np.ndarray
    forecast_scores: np.ndarray
    stages: tuple[tuple[int, str], ...]
    speed: float | None
    waiting: float | None

    @property
    def smoothed(self) -> np.ndarray:
        """The running mean of the losses [update] over a fiftieth of the updates, within each stage's own updates."""
        width = max(1, len(self.losses) // 50)
        out = np.empty_like(self.losses)
        edges = [0, *(int(np.searchsorted(self.updates, start)) for start, _ in self.stages[1:]), len(self.losses)]
        for first, last in pairwise(edges):
            sums = np.concatenate([[0.0], np.cumsum(self.losses[first:last])])
            ends = np.arange(1, last - first + 1)
            starts = np.maximum(0, ends - width)
            out[first:last] = (sums[ends] - sums[starts]) / (ends - starts)
        return out


def read(path: Path) -> TrainingLog | None:
    """The log at `path`; None where there is none or it holds no update. Of repeated updates the last counts."""
    updates: dict[int, dict[str, Any]] = {}
    validations: dict[int, float] = {}
    forecasts: dict[int, float] = {}
    for event in metrics_file.read(path):
        if not isinstance(event, dict):
            continue
        forecast = event.get("event") == "forecasts"
        update, loss = event.get("update"), event.get("score" if forecast else "loss")
        if not isinstance(update, int) or not isinstance(loss, int | float):
            continue
        if forecast:
            forecasts[update] = float(loss)
        elif event.get("event") == "update":
            updates[update] = event
        elif event.get("event") == "validation":
            validations[update] = float(loss)
    if not updates:
        return None
    numbers = sorted(updates)
    stages: list[tuple[int, str]] = []
    for number in numbers:
        name = str(updates[number].get("stage", ""))
        if name and (not stages or stages[-1][1] != name):
            stages.append((number, name))
    validated, forecasted = sorted(validations), sorted(forecasts)
    return TrainingLog(
        np.array(numbers),
        np.array([float(updates[number]["loss"]) for number in numbers]),
        np.array(validated, int),
        np.array([validations[number] for number in validated]),
        np.array(forecasted, int),
        np.array([forecasts[number] for number in forecasted]),
        tuple(stages),
        _numbers(updates, "samples_per_second", np.median),
        _numbers(updates, "waiting", np.mean),
    )


def _numbers(updates: dict[int, dict[str, Any]], key: str, of: Any) -> float | None:
    values = [event[key] for event in updates.values() if isinstance(event.get(key), int | float)]
    return float(of(values)) if values else None
