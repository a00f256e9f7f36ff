#!/usr/bin/env python3
"""Make the embedded world of an experiment, until it is there or SIGTERM comes.

The demo begins it before Airflow is set up. The world is a source, as a store of weather is: the job `prepare` waits
for it, and would go on with what there is of it. Whoever makes which days, they are the same bit for bit.

    world_ahead.py EXPERIMENT.yaml ROOT [KEY=VALUE ...]
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
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

PATIENCE = 60.0
"""Seconds that it may take to end a block of days."""


@contextmanager
def made_ahead(path: Path, experiment: Experiment, overrides: Sequence[str], root: Path) -> Iterator[None]:
    """Make the world and compile what will run on it, each in a process of its own inside the `with`; no other source.

    What is not done when the `with` ends is left to the jobs that need it.
    """
    if experiment.data.source.url != EMBEDDED:
        yield
        return
    scripts = (Path(__file__), Path(__file__).with_name("programs_ahead.py"))
    quiet = subprocess.DEVNULL
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(path), str(root), *overrides],
            stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True,
        )
        for script in scripts
    ]  # fmt: skip
    try:
        yield
    finally:
        for process in processes:
            process.terminate()  # the world saves the days it has begun
        for process in processes:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def main(arguments: Sequence[str]) -> int:
    """Make the world; what goes wrong, the job that needs it will say."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
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
