"""The demo: train and score experiments/demo.yaml and compare the scores with the demo's bar.

`make benchmark` runs three seeds, each another start of the network and another order of the samples (the world stays
the same). The exit code is 0 where every seed passes and 1 otherwise.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from graphufs.cli import app as command
from graphufs.cli.ending import finish
from graphufs.config import loading
from graphufs.steps import CHAINS
from graphufs.storage.paths import Paths

EXPERIMENT = Path(__file__).parents[1] / "experiments" / "demo.yaml"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("graphufs-root"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the demo")
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 140)
    passed = []
    for seed in options.seeds:
        began = time.perf_counter()
        experiment = loading.load(EXPERIMENT, [*options.set, f"training.seed={seed}"])
        root = options.root.absolute()
        code = command.run_steps(CHAINS["run"], experiment, root)
        if code:
            return code
        from graphufs.demo_bar import show_with_bar
        from graphufs.weatherbench.results.scores import Scores

        paths = Paths(experiment, root)
        passed.append(show_with_bar(console, Scores.open(paths.scores), f"Seed {seed}"))
        seconds = time.perf_counter() - began
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        console.print(f"Seed {seed}: {seconds / 60:.1f} minutes, at most {memory:.1f} GiB of memory.")
        console.print(f"Report: {paths.report}", soft_wrap=True)
    return 0 if all(passed) else 1


if __name__ == "__main__":
    finish(main)
