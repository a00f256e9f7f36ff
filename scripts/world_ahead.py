#!/usr/bin/env python3
"""Make the embedded world of an experiment for as long as nobody else does, until it is there or SIGTERM comes.

The demo runs it while Airflow is being set up, when one processor would be idle. The world is a source, as a store of
weather is: the job `prepare` goes on with what there is of it. Whoever makes which days, they are the same bit for bit.

    world_ahead.py EXPERIMENT.yaml ROOT [KEY=VALUE ...]
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from graphufs.cli.ending import DONE, STOPPED, finish
from graphufs.config import loading
from graphufs.config.data import EMBEDDED
from graphufs.config.experiment import Experiment
from graphufs.errors import Stopped
from graphufs.storage.formats import require_root
from graphufs.storage.paths import Paths

POLITE = 10
"""Added to the niceness: what is being set up meanwhile goes first."""
PATIENCE = 60.0
"""Seconds that it may take to end a block of days."""


@contextmanager
def made_ahead(
    path: Path, experiment: Experiment, overrides: Sequence[str], root: Path
) -> Iterator[Callable[[], object]]:
    """Make the world in a process of its own inside the `with`, until what it gives is called; no other source."""
    if experiment.data.source.url != EMBEDDED:
        yield lambda: None
        return
    argv = [sys.executable, str(Path(__file__)), str(path), str(root), *overrides]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(argv, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        yield process.terminate  # it saves the days it has begun
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main(arguments: Sequence[str]) -> int:
    """Make the world; what goes wrong, the job that needs it will say."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    os.nice(POLITE)
    path, root, *overrides = arguments
    experiment, folder = loading.load(Path(path), overrides), Path(root)
    require_root(folder)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "cache" / "jax"))
    from graphufs.replay.synthetic.store import ensure_world
    from graphufs.replay.times import wanted_stamps

    until = wanted_stamps(experiment)[-1]
    try:
        ensure_world(Paths(experiment, folder).world, experiment.data.source.world, until, should_stop=stop.is_set)
    except Stopped:
        return STOPPED
    return DONE


if __name__ == "__main__":
    finish(main)
