"""What the network needs, moves and takes on a GPU: predicted for any card, on any machine; and timed where one is.

Each row is one compiled program on one card: a training step (loss, gradients, AdamW) or a forecast step. `plain` is
the implementation of plain_graphcast.py, `fused` the network with the kernels of graphufs.model.kernels, which load
some operands again (`GB again`), mostly from a cache: that is neither in the bytes nor in the time. Figures are those
of graphufs.plan: bytes are those of operands and results of the compiled program's kernels, times are predicted by
graphufs.plan.time_model. Rows are added to a file in benchmarks/results, or take the place of earlier ones of that day;
each says of which commit it is, and a reader makes it again with the file's `command`.

    make setup-cuda
    .venv-cuda/bin/python benchmarks/gpu.py --cases p0-1 p0-16 --sides graphufs plain --device h100

Cases `quarter-...` are updates of experiments/quarter_degree.yaml on several cards, figures those of one of them:
`quarter-1x8-4` on 1 node of 8, all of which share each sample, with a rollout of 4 steps; `quarter-1x1-1` on one card.

On a machine with a card of that kind the programs also run and are timed (`measured`, the median of --repeats).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

if not Path("/dev/nvidiactl").exists():  # before jax is imported: there is no driver to look for
    from graphufs.plan.target import COMPILING

    os.environ.update(COMPILING)

import jax
import numpy as np
import optax
from cases import CASES, LARGE, STATIC, Case, Sample
from plain_graphcast import PlainStepper
from rich.console import Console
from rich.table import Table

from graphufs.config import loading
from graphufs.config.training import Optimizer
from graphufs.model.arrangement import GPU
from graphufs.plan.ahead import Machine
from graphufs.plan.domains import domain_of
from graphufs.plan.programs import TrainingPrograms
from graphufs.plan.target import Target, names
from graphufs.train.loss import batch_loss_and_grads, loss_and_diagnostics
from graphufs.train.optimizer import optimizer
from graphufs.train.vectors import changed

OURS, FUSED, PLAIN = "graphufs", "fused", "plain"
OPTIMIZER = Optimizer(b1=0.9, b2=0.95, eps=1e-8, weight_decay=0.1, clip=None)
RESULTS = Path(__file__).parent / "results"
QUARTER = Path(__file__).parents[1] / "experiments" / "quarter_degree.yaml"


class Wanted(NamedTuple):
    """A case: a configuration, the batch, and the length of the rollout; or one forecast step."""

    case: Case
    batch: int = 1
    rollout: int = 1
    training: bool = True


class Shared(NamedTuple):
    """An update of experiments/quarter_degree.yaml on several cards: nodes, cards of each and to a sample, rollout."""

    nodes: int
    devices: int
    space: int
    rollout: int


ACROSS = {
    **{f"quarter-1x{devices}-1": Shared(1, devices, devices, 1) for devices in (1, 2, 4, 8)},
    **{f"quarter-1x8-{rollout}": Shared(1, 8, 8, rollout) for rollout in (4, 12)},
    **{f"quarter-2x8-{rollout}": Shared(2, 8, 8, rollout) for rollout in (1, 4, 12)},
}
GRID = "1440x721"
"""Of ERA5, larger than Replay's."""

WANTED = {
    "a-4": Wanted(CASES["a"], 4),
    **{f"p0-{batch}": Wanted(CASES["p0"], batch) for batch in (1, 4, 16)},
    "deg1-1": Wanted(LARGE["deg1"]),
    "deg1-rollout-4": Wanted(LARGE["deg1"], rollout=4),
    "deg025-forecast": Wanted(LARGE["deg025"], training=False),
}


def program(wanted: Wanted, precision: Any, side: str) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A function and its arguments: arrays, but for a sample whose samples are all the same."""
    case, graph = wanted.case, wanted.case.graph()
    stepper = case.stepper(graph, precision, replace(GPU, kernels="fused" if side == FUSED else "xla"))
    step = stepper if side != PLAIN else PlainStepper.of(stepper, graph)
    one = case.sample(1, wanted.rollout)
    sample = Sample(*(
        {k: np.broadcast_to(v, (1 if k in STATIC else wanted.batch, *v.shape[1:])) for k, v in part.items()}
        for part in one
    ))  # fmt: skip
    network = case.network()
    if not wanted.training:
        return lambda network, step, sample: step(network, sample.inputs, sample.forcings), (network, step, sample)
    plain = jax.value_and_grad(loss_and_diagnostics, has_aux=True)
    gradients: Any = batch_loss_and_grads if side != PLAIN else plain

    moments = optimizer(OPTIMIZER, lambda _: 1e-3).init(network)

    def change(old: Any, gradient: Any, rate: jax.Array, norm: jax.Array | None) -> Any:
        updates, moments = optimizer(OPTIMIZER, lambda _: rate, norm).update(gradient, old[1], old[0])
        return optax.apply_updates(old[0], updates), moments

    def update(state: Any, step: Any, weights: Any, sample: Sample) -> Any:
        (loss, _), found = gradients(state[0], step, weights, *sample)
        return changed(change, state, found, jax.numpy.float32(1e-3), stepper.graph.arrangement)[0], loss

    return update, ((network, moments), step, case.weights(), sample)


def row(name: str, side: str, precision: str, machine: Machine, repeats: int) -> dict[str, Any]:
    """One program's figures, and its time where it can run."""
    wanted = WANTED[name]
    function, arguments = program(wanted, precision, side)
    jitted = jax.jit(function, donate_argnums=0 if wanted.training else ())
    figures = machine.figures(jitted, machine.replicated(arguments))
    known = {"case": name, "side": side, "precision": precision, "device": machine.target.name}
    return known | figures | {"measured": measured(jitted, arguments, wanted, machine.target, repeats)}


def row_across(name: str, precision: str, target: Target) -> dict[str, Any]:
    """The figures of an update on several cards, for one of them."""
    wanted = ACROSS[name]
    batch = wanted.nodes * wanted.devices // wanted.space
    experiment = loading.load(
        QUARTER,
        [
            f"training.batch_size={batch}",
            f"training.compute={{precision: {precision}, rematerialize: everything, mesh: {{space: {wanted.space}}}}}",
        ],
    )
    domain, _, _ = domain_of(experiment, RESULTS, GRID)
    machine = Machine.of(target, wanted.devices, wanted.nodes, wanted.space)
    programs = TrainingPrograms(experiment, domain, machine)
    figures = machine.figures(*programs.update(wanted.rollout, experiment.training.optimizer, 1, batch))
    known = {"case": name, "side": OURS, "precision": precision, "device": target.name}
    crossing = {}
    if (division := programs.objective.division) is not None:
        crossing = {
            "sent_of_nodes": [reach.sent / reach.nodes for reach in (division.partition.grid, division.partition.mesh)]
        }
    return known | figures | crossing | {"measured": None}


def measured(jitted: Any, arguments: tuple[Any, ...], wanted: Wanted, target: Target, repeats: int) -> float | None:
    """The median seconds of a call; None where there is no card of this kind."""
    if jax.default_backend() != "gpu" or jax.devices()[0].device_kind not in target.xla:
        return None
    arguments = jax.tree.map(jax.numpy.array, arguments)
    seconds = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        result = jax.block_until_ready(jitted(*arguments))
        seconds.append(time.perf_counter() - began)
        if wanted.training:
            arguments = (result[0], *arguments[1:])
    return statistics.median(seconds[1:])  # the first compiles


def commit() -> str:
    """The commit the figures are of, with a plus where files differ from it."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "../graphufs", ".", ":!results")
    return git("rev-parse", "HEAD") + ("+" if changed else "")


def show(console: Console, rows: list[dict[str, Any]]) -> None:
    """The table."""
    table = Table(title="One card of each program", title_justify="left")
    left = ("case", "side", "precision", "limited by")
    for name in ("case", "side", "precision", "GiB", "temporary", "GB moved", "GB sent", "GB again", "TFLOP", "kernels",
                 "predicted ms", "measured ms", "limited by"):  # fmt: skip
        table.add_column(name, justify="left" if name in left else "right", no_wrap=True)
    for one in rows:
        memory = one["memory"]
        numbers = (
            memory["total"] / 2**30,
            memory["temporary"] / 2**30,
            one["bytes"] / 1e9,
            one["exchanged"] / 1e9,
            one.get("again", 0) / 1e9,
            one["flop"] / 1e12,
        )
        times = [f"{1e3 * one['seconds']:,.1f}", f"{1e3 * one['measured']:,.1f}" if one["measured"] else "-"]
        told = [f"{number:,.2f}" for number in numbers]
        table.add_row(one["case"], one["side"], one["precision"], *told, f"{one['kernels']:,}", *times, one["limit"])
    console.print(table)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=[*WANTED, *ACROSS], default=["p0-1", "p0-4", "p0-16"])
    parser.add_argument("--sides", nargs="+", choices=[OURS, FUSED, PLAIN], default=[OURS, PLAIN])
    parser.add_argument("--precision", nargs="+", choices=["float32", "bfloat16"], default=["bfloat16"])
    parser.add_argument("--device", choices=names(), default="h100")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder that the figures are kept in")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160)
    machine, now = Machine.of(Target.named(options.device)), datetime.now(UTC)
    file = options.results / f"gpu-{now:%Y-%m-%d}-{options.device}.json"
    content: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"rows": []}
    content |= {"date": f"{now:%Y-%m-%d}", "jax": jax.__version__}
    content["command"] = "python benchmarks/gpu.py --cases CASE --sides SIDE --precision PRECISION --device DEVICE"
    keys, of = ("case", "side", "precision", "device"), commit()
    console.print(f"Predicted for {machine.target.title}; JAX {jax.__version__}; {shlex.join(sys.argv)}")
    for name in options.cases:
        for side in options.sides if name in WANTED else [OURS]:
            for precision in options.precision:
                if name in ACROSS:
                    found = row_across(name, precision, machine.target) | {"commit": of}
                else:
                    found = row(name, side, precision, machine, options.repeats) | {"commit": of}
                others = [one for one in content["rows"] if any(one[key] != found[key] for key in keys)]
                content["rows"] = [*others, found]
                options.results.mkdir(exist_ok=True)
                file.write_text(json.dumps(content, indent=1) + "\n")  # after each: a compilation takes minutes
                gc.collect()
    show(console, content["rows"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
