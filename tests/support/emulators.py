"""Small untrained emulators of chosen variables, levels and sizes, without any data; and their checkpoints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from graphufs.config import loading
from graphufs.data.channels import PreparedChannel
from graphufs.emulator import checkpoint
from graphufs.emulator.domain import Domain
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.model.network import GraphCast
from graphufs.normalization.statistics import Statistics
from graphufs.vocabulary.variables import BY_REPLAY, replay_name
from tests.support.small_model import network

PROGRESS = ("day_progress_cos", "day_progress_sin", "year_progress_cos", "year_progress_sin")
NOT_STORED = (*PROGRESS, "toa_incident_solar_radiation")


def emulator(
    targets: Sequence[str] = ("tmp", "ugrd10m", "vgrd10m"),
    inputs: Sequence[str] = ("land_static", "hgtsfc_static"),
    forcings: Sequence[str] = ("toa_incident_solar_radiation", *PROGRESS),
    levels: Sequence[float] = (100, 500, 1000),
    grid: tuple[int, int] = (6, 12),
    seed: int = 0,
    data: dict[str, Any] | None = None,
    **model: Any,
) -> ReplayEmulator:
    """An emulator; targets and forcings are inputs too."""
    day = {"start": "1994-01-01T00", "end": "1994-01-02T00"}
    experiment = loading.parse(
        json.dumps(
            {
                "name": "small",
                "data": {
                    "inputs": [*targets, *inputs, *forcings],
                    "targets": list(targets),
                    "forcings": list(forcings),
                    "levels": list(levels),
                    "training": day,
                    "validation": {"start": "1994-01-03T00", "end": "1994-01-04T00"},
                    "evaluation": {"start": "1994-01-05T00", "end": "1994-01-07T00"},
                    **(data or {}),
                },
                "forecast": {"lead_time": 12},
                "model": {"mesh_size": 1, "latent_size": 8, "message_steps": 2, **model},
                "training": {"seed": seed, "batch_size": 1, "stages": [{"name": "one", "updates": 1}]},
            }
        ),
        origin="the test",
    )
    stored = sorted({*targets, *inputs, *forcings} - set(NOT_STORED))
    static = [name for name in stored if _dimensions(name) == "static"]
    channels = tuple(
        PreparedChannel(name, float(level), float(level) + 0.5) if level is not None else PreparedChannel(name)
        for name in stored
        if name not in static
        for level in (sorted(levels) if _dimensions(name) == "levels" or name in ("delz", "clwmr") else [None])
    )
    shape = (len(channels), *grid)
    domain = Domain(
        latitude=(latitude := np.linspace(75, -75, grid[0])),
        longitude=np.arange(grid[1]) * 360 / grid[1],
        parent_latitude=latitude,
        channels=channels,
        mask=np.ones(shape, bool),
        static={name: np.zeros(grid, np.float32) for name in static},
    )
    counts = {name: sum(channel.variable == name for channel in channels) for name in stored}
    ones = {name: np.ones(max(count, 1)) for name, count in counts.items()}
    statistics = Statistics({name: 0 * values for name, values in ones.items()}, ones, ones)
    settings = experiment.model
    blank = ReplayEmulator(experiment, domain, network(), statistics)
    made = GraphCast.init(
        inputs=blank.channels.input_size,
        outputs=blank.channels.output_size,
        latent_size=settings.latent_size,
        message_steps=settings.message_steps,
        hidden_layers=settings.hidden_layers,
        key=jax.random.key(seed),
    )
    return replace(blank, network=made)


def save(emulator: ReplayEmulator, folder: Path, update: int = 1) -> Path:
    """A checkpoint folder that holds the emulator."""
    meta = {"experiment": emulator.experiment.model_dump(mode="json")}
    return checkpoint.save(folder, update, emulator.arrays(), {"nothing": np.zeros(1)}, meta)


def _dimensions(name: str) -> str | None:
    known = BY_REPLAY.get(replay_name(name))
    return None if known is None else known.dimensions
