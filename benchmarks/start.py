"""How long a training takes to its first update: the bare minimum, a first start, and a second one that finds programs.

Run it as `python benchmarks/start.py [--root DIR] [--experiment FILE]`. The bare minimum is a process that imports what
a training needs, reads data and statistics, compiles the first stage's update alone and takes it; nothing is cached.
The starts are `graphufs train`, to the line of the first update in its metrics. Seconds are given as they pass and as
processor time, which a busy machine changes less.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.steps import run_step
from graphufs.storage.paths import Paths

DEMO = Path(__file__).parents[1] / "experiments" / "demo.yaml"
EACH = "training.checkpoint_every=1"
BARE = """
import sys
from pathlib import Path
from graphufs.config import loading
from graphufs.data.dataset import PreparedData
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.storage.paths import Paths
from graphufs.train.devices import Devices
from graphufs.train.stages import Plan
from graphufs.train.train_step import Objective
experiment, root = loading.load(sys.argv[1]), Path(sys.argv[2])
data = PreparedData.open(Paths(experiment, root).data)
plan = Plan.of(experiment, data)
objective = Objective(ReplayEmulator.from_experiment(experiment, root).load_normalization(), plan, Devices.choose(
    experiment.training.batch_size))
stage = plan.stages[0]
program = objective.program(stage, 1)
batch = stage.loader.samples.read(stage.loader.initial_times(0))
float(program(objective.start(objective.emulator.network), objective.controls(0), batch)[1].loss)
"""


class Start(NamedTuple):
    """Seconds from a process's begin to its first update, as they pass and of processors."""

    wall: float
    processor: float


def bare(experiment: Path, root: Path) -> Start:
    """The bare minimum."""
    command = [sys.executable, "-c", BARE, str(experiment), str(root)]
    began, before = time.perf_counter(), psutil.Process().cpu_times()
    subprocess.run(command, check=True, env=os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"})
    wall, after = time.perf_counter() - began, psutil.Process().cpu_times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return Start(wall, spent)


def start(path: Path, experiment: Experiment, root: Path, cache: Path) -> Start:
    """A training in a new run folder, stopped after its first update."""
    layout = Paths(experiment, root)
    shutil.rmtree(layout.run, ignore_errors=True)
    command = [sys.executable, "-m", "graphufs.cli.main", "train", str(path), "--root", str(root), "--set", EACH]
    began = time.perf_counter()
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)},
    ) as process:
        watched = psutil.Process(process.pid)
        while not (layout.metrics.exists() and layout.metrics.stat().st_size):
            if process.poll() is not None:
                raise SystemExit(f"the training ended with {process.returncode} before its first update")
            time.sleep(0.01)
        times = watched.cpu_times()
        found = Start(time.perf_counter() - began, times.user + times.system)
        process.send_signal(signal.SIGTERM)
        process.wait()  # until what is compiled beside it is kept too
    return found


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--experiment", type=Path, default=DEMO)
    parser.add_argument("--root", type=Path, help="where prepared data and statistics may be copied from")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="graphufs-start-") as temporary:
        experiment, root = loading.load(options.experiment, [EACH]), Path(temporary, "root")
        root.mkdir()
        for name in ("data", "statistics"):
            if options.root is not None and (options.root / name).is_dir():
                shutil.copytree(options.root / name, root / name)
        for step in ("prepare", "normalize"):
            run_step(step, experiment, root)
        cache = Path(temporary, "programs")
        least = bare(options.experiment, root)
        starts = {"bare minimum": least}
        for name in ("first start", "second start"):
            starts[name] = start(options.experiment, experiment, root, cache)
    for name, (wall, processor) in starts.items():
        times = f"{wall / least.wall:.2f} and {processor / least.processor:.2f} times the bare minimum"
        print(f"{name:14} {wall:7.1f} s, {processor:7.1f} s of processors: {times}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
