"""What an update with several members costs next to the deterministic one: both sides in turn, in one process.

The deterministic side learns the mean squared error of one forecast a sample, the other the fair CRPS of M members that
noise makes, on the same grid, network and batch (see cases.py). An update is loss, gradients and AdamW. With M members
it may take 1.1 M times the deterministic processor seconds, by the median of calls made next to each other.

    python benchmarks/ensemble_update.py --configs a --members 2 4 --repeats 5 --json ensemble_update.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from cases import CASES, Case
from model import OPTIMIZER, Program
from rich.console import Console
from rich.table import Table

from graphufs.config.training import StageLoss
from graphufs.model.keep_freed_memory import keep_freed_memory
from graphufs.model.noise import with_maps
from graphufs.train.loss import batch_loss_and_grads

BAR, CHANNELS = 1.1, 32


def program(case: Case, batch: int, rollout: int, members: int) -> Program:
    """An update; of one member it is the deterministic one."""
    stepper, weights, sample = case.stepper(case.graph(), "float32"), case.weights(), case.sample(batch, rollout)
    network, score = case.network(), StageLoss()
    noise = None
    if members > 1:
        network, score = with_maps(network, CHANNELS), StageLoss(kind="crps", members=members)
        noise = jax.random.normal(jax.random.key(1), (batch, members, rollout, CHANNELS), jnp.float32)

    def updated(state: Any, stepper: Any, weights: Any, sample: Any, noise: Any) -> Any:
        (loss, _), found = batch_loss_and_grads(state[0], stepper, weights, *sample, noise=noise, loss=score)
        updates, optimizer = OPTIMIZER.update(found, state[1], state[0])
        return (optax.apply_updates(state[0], updates), optimizer), loss

    state = (network, OPTIMIZER.init(network))
    return Program(updated, (state, stepper, weights, sample, noise), updates=True, fair=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configs", nargs="+", choices=list(CASES), default=["a"])
    parser.add_argument("--members", nargs="+", type=int, default=[2])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rollout", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    keep_freed_memory()
    table = Table("config", "members", "CPU s", "times one", "at most", "wall s", "times one ", "temporary MB")
    found: list[dict[str, Any]] = []
    for name in options.configs:
        counts = [1, *options.members]
        programs = {count: program(CASES[name], options.batch, options.rollout, count) for count in counts}
        times: dict[int, list[tuple[float, float]]] = {count: [] for count in counts}
        for repeat in range(options.repeats + 1):
            for count, one in programs.items():
                seconds = one.run()
                if repeat:  # the first is a warm-up
                    times[count].append(seconds)
        for count in counts:
            wall, processor = (
                statistics.median(own[which] / one[which] for own, one in zip(times[count], times[1], strict=True))
                for which in (0, 1)
            )
            row = {
                "config": name,
                "members": count,
                "wall_s": statistics.median(one[0] for one in times[count]),
                "cpu_s": statistics.median(one[1] for one in times[count]),
                "wall_ratio": wall,
                "cpu_ratio": processor,
                "temporary_mb": programs[count].temporary / 1e6,
            }
            found.append(row)
            table.add_row(
                name, str(count), f"{row['cpu_s']:.3f}", f"{processor:.2f}", f"{BAR * count:.2f}" if count > 1 else "",
                f"{row['wall_s']:.3f}", f"{wall:.2f}", f"{row['temporary_mb']:.0f}",
            )  # fmt: skip
    console = Console()
    console.print(table)
    console.print(f"batch {options.batch}, rollout {options.rollout}; load {os.getloadavg()[0]:.1f}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    sys.exit(0 if all(row["cpu_ratio"] <= BAR * row["members"] for row in found if row["members"] > 1) else 1)


if __name__ == "__main__":
    main()
