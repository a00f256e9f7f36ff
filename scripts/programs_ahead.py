#!/usr/bin/env python3
"""Compile what an experiment on the embedded world will run on this machine, into the root's cache of programs.

The demo runs it while the world is being made, which keeps one processor busy. A job that finds a program in the cache
need not compile it; one that does not compiles it as ever.

    programs_ahead.py EXPERIMENT.yaml ROOT [KEY=VALUE ...]
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from graphufs.cli.ending import DONE, FAILED, finish
from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.storage.paths import Paths

if TYPE_CHECKING:
    from jax.stages import Lowered

POLITE = 10
"""Added to the niceness: the world goes first."""
LOOK = 0.5
"""Seconds between two looks for the world's first days: its land and mountains are constants of the programs."""
PATIENCE = 300.0
"""Seconds in which the first days are made on any machine."""


def main(arguments: Sequence[str]) -> int:
    """Compile; what goes wrong, the job that needs the program will say."""
    os.nice(POLITE)
    path, root, *overrides = arguments
    experiment, folder = loading.load(Path(path), overrides), Path(root)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "cache" / "jax"))
    from graphufs.replay.synthetic.store import STORE, present

    world, until = Paths(experiment, folder).world, time.monotonic() + PATIENCE
    while present(world) is None:
        if time.monotonic() > until:
            return FAILED
        time.sleep(LOOK)
    for program in programs(experiment, world / STORE):
        program.compile()
    return DONE


def programs(experiment: Experiment, store: Path) -> Iterator[Lowered]:
    """The updates, the validation and the forecast of an experiment whose world is at `store`, in the order of use."""
    import numpy as np

    from graphufs.data.selection import select
    from graphufs.data.static_fields import read_static_fields
    from graphufs.emulator.domain import Domain
    from graphufs.grid.areas import parent_latitudes
    from graphufs.model.arrangement import CPU
    from graphufs.plan.programs import TrainingPrograms
    from graphufs.sources.experiment_source import open_at

    source, settings = open_at(experiment, str(store)), experiment.training
    selection = select(source, experiment)
    shape = len(selection.channels), source.latitude.size, source.longitude.size
    domain = Domain(
        latitude=source.latitude,
        longitude=source.longitude,
        parent_latitude=parent_latitudes(source.latitude),
        channels=selection.channels,
        mask=np.ones(shape, np.bool_),
        static=read_static_fields(source, selection),
    )
    made, known = TrainingPrograms(experiment, domain, arrangement=CPU), set()
    size, batch = settings.compute.device_batch_size or 1, settings.batch_size
    for stage in settings.stages:
        optimizer = stage.optimizer or settings.optimizer
        key = stage.rollout, optimizer.model_dump_json(), stage.loss.model_dump_json()
        if key not in known:
            known.add(key)
            yield _lowered(made.update(stage.rollout, optimizer, size, batch, stage.loss))
    yield _lowered(made.validation(batch))
    steps = experiment.forecast.lead_time // experiment.data.time_step
    yield _lowered(made.forecast(experiment.forecast.batch_size, steps))


def _lowered(program: tuple[Any, tuple[Any, ...]]) -> Lowered:
    function, arguments = program
    lowered: Lowered = function.lower(*arguments)
    return lowered


if __name__ == "__main__":
    finish(main)
