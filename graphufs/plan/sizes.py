"""How much there is to do and to keep: updates, samples, and the bytes of data, forecasts and checkpoints on disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphufs.config.base import Period
from graphufs.config.experiment import Experiment
from graphufs.data.dataset import PreparedData
from graphufs.emulator.domain import Domain
from graphufs.replay.times import wanted_stamps

FLOAT = 4
"""Bytes of a number on disk."""
CHECKSUM = 4
"""Of each frame of prepared data."""
ENTRY = 350
"""Bytes that a zip file and a numpy header take for each array, about."""


@dataclass(frozen=True)
class Work:
    """What a training does: the updates of each stage, and how often it stops to look how good it is."""

    updates: dict[str, int]
    validations: int
    """Passes over the validation period."""
    validation_samples: int
    forecasts: int
    """Sets of validation forecasts."""
    checkpoints: int
    """How many are kept at the end."""

    @property
    def total(self) -> int:
        """All updates."""
        return sum(self.updates.values())


def work_of(experiment: Experiment, data: PreparedData | None) -> Work:
    """What the training of an experiment does; without prepared data, as if no stamp were missing or flawed."""
    settings = experiment.training

    def samples(period: Period, rollout: int) -> int:
        frames = experiment.data.input_frames
        if data is not None:
            return len(data.samples(period, frames, rollout).initial)
        return max(period.count(experiment.data.time_step) - (frames - 1) - rollout, 0)

    updates, ends, done = {}, [], 0
    for stage in settings.stages:
        batches = samples(experiment.data.training, stage.rollout) // settings.batch_size
        updates[stage.name] = stage.updates or (stage.epochs or 0) * batches
        done += updates[stage.name]
        ends.append(done)

    def times(every: int) -> int:
        return len({*range(every, done + 1, every), *ends})

    wanted = settings.validation_forecasts
    last = sorted({*range(settings.checkpoint_every, done + 1, settings.checkpoint_every), *ends})
    kept = {*last[-settings.keep_checkpoints :], *ends}
    return Work(
        updates=updates,
        validations=times(settings.validate_every),
        validation_samples=samples(experiment.data.validation, 1),
        forecasts=times(wanted.every) if wanted else 0,
        checkpoints=len(kept or {0}) + (wanted is not None),  # the best may be another
    )


def frame_bytes(experiment: Experiment, domain: Domain) -> int:
    """The bytes on disk of all fields at one stamp."""
    size = np.dtype(experiment.data.storage).itemsize
    return size * len(domain.channels) * domain.latitude.size * domain.longitude.size


def disk_bytes(experiment: Experiment, domain: Domain, work: Work, numbers: int, tensors: int) -> dict[str, Any]:
    """Bytes on disk: prepared data, one checkpoint and all that are kept, and forecasts before they are compressed.

    The state of a training is so many numbers in so many tensors.
    """
    data, points = experiment.data, domain.latitude.size * domain.longitude.size
    stamps = int(wanted_stamps(experiment).size)
    maps = {name: part.stop - part.start for name, part in domain.slices.items()}
    arrays = domain.arrays()
    entries = tensors + len(arrays) + 3 * len({*data.inputs, *data.targets, *data.forcings})
    checkpoint = FLOAT * numbers + sum(array.nbytes for array in arrays.values()) + ENTRY * entries
    steps = experiment.forecast.lead_time // data.time_step
    times = len(experiment.initial_times) * (experiment.forecast.members if experiment.forecast.keep_members else 1)
    fields = times * steps * sum(maps.get(name, 1) for name in data.targets)
    frames = stamps * (frame_bytes(experiment, domain) + CHECKSUM)
    return {
        "data": frames + sum(array.nbytes for array in domain.static.values()),
        "stamps": stamps,
        "checkpoint": checkpoint,
        "checkpoints": checkpoint * work.checkpoints,
        "forecasts": FLOAT * fields * points,
    }


def batch_bytes(experiment: Experiment, domain: Domain, rollout: int, nodes: int) -> int:
    """What a node reads for one update."""
    frames = experiment.data.input_frames + rollout
    return experiment.training.batch_size * frames * frame_bytes(experiment, domain) // nodes
