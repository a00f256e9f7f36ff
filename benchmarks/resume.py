"""Train the demo undisturbed and again with three kills -9, and compare every array of the two last checkpoints.

Run it as `python benchmarks/resume.py [--root DIR] [--kills N] [--set KEY=VALUE]`. What it makes goes into a folder of
its own, removed at the end unless named. Exit code 0: all arrays are equal, bit for bit.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.emulator import checkpoint
from graphufs.steps import run_step
from graphufs.storage.paths import Paths
from graphufs.train import metrics_file

EXPERIMENT = Path(__file__).parents[1] / "experiments" / "demo.yaml"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    experiment = loading.load(EXPERIMENT, arguments.set)
    with tempfile.TemporaryDirectory(prefix="graphufs-resume-") as temporary:
        layout = Paths(experiment, arguments.root or Path(temporary))
        for step in ("prepare", "normalize"):
            run_step(step, experiment, layout.root)
        seconds = _train(layout, arguments.set)
        print(f"undisturbed: {seconds:.0f} s")
        aside = layout.run.rename(layout.root / "undisturbed")
        total = sum(stage.updates or 0 for stage in experiment.training.stages)
        for kill in range(1, arguments.kills + 1):
            at = total * kill // (arguments.kills + 1)
            _train(layout, arguments.set, kill_at=at)
            saved = checkpoint.updates(layout.checkpoints)
            print(f"killed after update {_done(layout)}; the last checkpoint is of {saved[-1] if saved else 'none'}")
        seconds = _train(layout, arguments.set)
        print(f"the rest: {seconds:.0f} s")
        return _compare(experiment, aside / "checkpoints", layout.checkpoints)


def _train(layout: Paths, overrides: list[str], kill_at: int | None = None) -> float:
    """Run `graphufs train` in a process of its own, to the end or until it has done so many updates; seconds taken."""
    options = [part for override in overrides for part in ("--set", override)]
    command = [
        sys.executable,
        "-m",
        "graphufs.cli.main",
        "train",
        str(EXPERIMENT),
        "--root",
        str(layout.root),
        *options,
    ]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while kill_at is not None and process.poll() is None:
            if _done(layout) >= kill_at:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.05)
        _, errors = process.communicate()
    wanted = 0 if kill_at is None else -signal.SIGKILL
    if process.returncode != wanted:
        raise SystemExit(f"the training ended with {process.returncode}, not {wanted}: {errors[-2000:]}")
    return time.perf_counter() - began


def _done(layout: Paths) -> int:
    lines = metrics_file.read(layout.metrics)
    return int(lines[-1]["update"]) if lines else 0


def _compare(experiment: Experiment, one: Path, other: Path) -> int:
    paths = [checkpoint.last(one), checkpoint.last(other)]
    assert paths[0] is not None and paths[1] is not None
    print(f"comparing {paths[0].name} and {paths[1].name} of {experiment.name}")
    different, count = [], 0
    for file in ("emulator.npz", "training.npz"):
        arrays = [checkpoint.read_arrays(path, file) for path in paths if path is not None]
        if arrays[0].keys() != arrays[1].keys():
            print(f"{file} holds other arrays")
            return 1
        for name, values in arrays[0].items():
            count += 1
            if values.dtype != arrays[1][name].dtype or values.tobytes() != arrays[1][name].tobytes():
                different.append(f"{file}:{name} (up to {np.abs(values - arrays[1][name]).max():.3g})")
    print(f"{count - len(different)} of {count} arrays are equal, byte for byte")
    for name in different:
        print(f"  differs: {name}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
