"""The network's speed and memory against a plain implementation of the same mathematics.

For each configuration (see cases.py) and batch: a forward pass; a step of a rollout, for which the package computes
once what depends on parameters only; an update of training (loss, gradients, AdamW) as `graphufs train` makes it. Both
sides run in turn in this process, with the same compiler options and the same allocator settings
(graphufs.model.compile, graphufs.model.keep_freed_memory), on equal parameters and data, after their outputs were found
equal. A side that would not fit the free memory is left out.

    python benchmarks/model.py --configs a b p0 --batches 1 4 --repeats 5 --json model.json
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from cases import CASES, Case, Sample
from plain_graphcast import PlainStepper
from rich.console import Console
from rich.table import Table

from graphufs.model.compile import COMPILER_OPTIONS
from graphufs.model.keep_freed_memory import keep_freed_memory
from graphufs.model.one_step import Stepper
from graphufs.plan.flops import count_flops
from graphufs.train.compiling.memory_check import available_bytes
from graphufs.train.loss import batch_loss_and_grads, loss_and_diagnostics

GIB, MIB = 2**30, 2**20
OURS, PLAIN, DEFAULT = "graphufs", "plain", "plain, default compiler"
OPTIMIZER = optax.adamw(1e-3, b1=0.9, b2=0.95, eps=1e-8, weight_decay=0.1)


class Program:
    """One side of a comparison: a compiled function whose first argument it may replace by its first result."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], *, updates: bool, fair: bool) -> None:
        self.arguments, self.updates = arguments, updates
        self.flops = count_flops(function, *arguments)
        jitted = jax.jit(
            function, donate_argnums=0 if updates else (), compiler_options=COMPILER_OPTIONS if fair else {}
        )
        self.compiled = jitted.lower(*arguments).compile()
        sizes = self.compiled.memory_analysis()
        self.temporary = int(sizes.temp_size_in_bytes) if sizes is not None else 0
        if updates:  # what it is given is used up
            self.arguments = (jax.tree.map(jnp.copy, arguments[0]), *arguments[1:])

    def run(self) -> tuple[float, float]:
        """Seconds on the wall and of the processor that a call takes."""
        wall, processor = time.perf_counter(), time.process_time()
        result = jax.block_until_ready(self.compiled(*self.arguments))
        seconds = time.perf_counter() - wall, time.process_time() - processor
        if self.updates:
            self.arguments = (result[0], *self.arguments[1:])
        return seconds


@dataclass(frozen=True)
class Row:
    """A measurement. Seconds are medians; a ratio is the median of those of calls made next to each other."""

    config: str
    precision: str
    batch: int
    what: str
    side: str
    wall: float | None = None
    processor: float | None = None
    wall_ratio: float | None = None
    processor_ratio: float | None = None
    gflops: float | None = None
    temporary_bytes: int | None = None
    note: str = ""


def programs(case: Case, precision: Any, batch: int, sides: list[str]) -> dict[str, dict[str, Callable[[], Program]]]:
    """What makes the program of each side, by what it computes."""
    graph, network, weights, sample = case.graph(), case.network(), case.weights(), case.sample(batch)
    stepper = case.stepper(graph, precision)
    plain = PlainStepper.of(stepper, graph)
    check_equal(case, network, sample, precision)
    state = (network, OPTIMIZER.init(network))
    edges = jax.jit(lambda n, s: s.embed_edges(n), compiler_options=COMPILER_OPTIONS)(network, stepper)

    def forward(network: Any, stepper: Any, sample: Sample, edges: Any = None) -> Any:
        return stepper(network, sample.inputs, sample.forcings, edges)

    def update(gradients: Callable[..., Any]) -> Callable[..., Any]:
        def updated(state: Any, stepper: Any, weights: Any, sample: Sample) -> Any:
            (loss, _), found = gradients(state[0], stepper, weights, *sample)
            updates, optimizer = OPTIMIZER.update(found, state[1], state[0])
            return (optax.apply_updates(state[0], updates), optimizer), loss

        return updated

    plain_gradients = jax.value_and_grad(loss_and_diagnostics, has_aux=True)

    def of(side: str) -> dict[str, Callable[[], Program]]:
        ours, fair = side == OURS, side != DEFAULT
        step = stepper if ours else plain
        step_arguments = (network, step, sample, edges) if ours else (network, step, sample)
        train = update(batch_loss_and_grads if ours else plain_gradients)
        return {
            "forward": lambda: Program(forward, (network, step, sample), updates=False, fair=fair),
            "rollout step": lambda: Program(forward, step_arguments, updates=False, fair=fair),
            "training": lambda: Program(train, (state, step, weights, sample), updates=True, fair=fair),
        }

    by_side = {side: of(side) for side in sides}
    return {what: {side: makers[what] for side, makers in by_side.items()} for what in by_side[OURS]}


def check_equal(case: Case, network: Any, sample: Sample, precision: Any) -> None:
    """Refuse to measure what does not compute the same: equal to 1e-5, in bfloat16 as near to float32 as plain."""
    graph, one = case.graph(), Sample(*({k: v[:1] for k, v in part.items()} for part in sample))

    def outputs(kind: type[Stepper], precision: Any) -> np.ndarray:
        stepper = case.stepper(graph, precision)
        stepper = PlainStepper.of(stepper, graph) if kind is PlainStepper else stepper
        apply = jax.jit(lambda n, s, d: s.apply(n, d.inputs, d.forcings), compiler_options=COMPILER_OPTIONS)
        with jax.default_matmul_precision("highest"):  # a GPU rounds the factors of float32 products otherwise
            fields = apply(network, stepper, one)
        return np.concatenate([np.ravel(fields[name]) for name in sorted(fields)])

    expected = outputs(PlainStepper, "float32")
    scale, found = np.abs(expected).max(), outputs(Stepper, precision)
    if precision == "float32":
        assert np.abs(found - expected).max() <= 1e-5 * scale, f"{case.name}: the two implementations differ"
    else:
        ours, plain = (np.linalg.norm(a - expected) for a in (found, outputs(PlainStepper, precision)))
        assert ours <= 1.2 * plain, f"{case.name}: {precision} is less exact than in the plain implementation"


def measure(case: Case, precision: Any, batch: int, sides: list[str], repeats: int, profile: Path | None) -> list[Row]:
    """Time what fits the memory."""
    rows = []
    for what, makers in programs(case, precision, batch, sides).items():
        there: dict[str, Program] = {}
        key = (case.name, precision, batch, what)
        for side, make in makers.items():
            program = make()
            if (free := available_bytes(jax.devices()[0])) is not None and program.temporary > 0.9 * free:
                needs = f"not run: {program.temporary / GIB:.1f} GiB of temporary memory, {free / GIB:.1f} free"
                rows.append(Row(*key, side, temporary_bytes=program.temporary, note=needs))
            else:
                there[side] = program
        times: dict[str, list[tuple[float, float]]] = {side: [] for side in there}
        for repeat in range(repeats + 1):
            for side, program in there.items():
                seconds = program.run()
                if repeat:  # the first is a warm-up
                    times[side].append(seconds)
        for side, program in there.items():
            wall, processor = zip(*times[side], strict=True)
            ratios = [
                statistics.median(other / own for other, own in zip(values, times_of(times[OURS], index), strict=True))
                if OURS in there
                else None
                for index, values in enumerate((wall, processor))
            ]
            rows.append(
                Row(
                    *key,
                    side,
                    wall=statistics.median(wall),
                    processor=statistics.median(processor),
                    wall_ratio=ratios[0],
                    processor_ratio=ratios[1],
                    gflops=program.flops / 1e9,
                    temporary_bytes=program.temporary,
                )
            )
        if profile and OURS in there:
            with jax.profiler.trace(str(profile / f"{case.name}-{precision}-{batch}-{what.replace(' ', '-')}")):
                there[OURS].run()
        there.clear()
        gc.collect()
    return rows


def times_of(times: list[tuple[float, float]], index: int) -> list[float]:
    """Wall or processor seconds."""
    return [seconds[index] for seconds in times]


def matmul_peak(precision: str) -> dict[str, float]:
    """GFLOP/s of a large and of a tall matrix product, the best of a few calls."""
    found = {}
    for rows, inner, columns in ((4096, 4096, 4096), (100_000, 256, 256)):
        a, b = jnp.ones((rows, inner), precision), jnp.ones((inner, columns), precision)
        product = jax.jit(jnp.matmul, compiler_options=COMPILER_OPTIONS).lower(a, b).compile()
        best = float("inf")
        for _ in range(6):
            began = time.perf_counter()
            jax.block_until_ready(product(a, b))
            best = min(best, time.perf_counter() - began)
        found[f"{rows} x {inner} x {columns}"] = 2e-9 * rows * inner * columns / best
    return found


def show(console: Console, title: str, rows: list[Row], peak: float) -> None:
    """One table."""
    table = Table(title=title, title_justify="left")
    for name in ("", "side", "ms", "CPU ms", "x faster", "by CPU", "GFLOP", "GFLOP/s", "% of peak", "temporary MiB"):
        table.add_column(name, justify="left" if name in ("", "side") else "right", no_wrap=True)
    memory = {row.what: row.temporary_bytes for row in rows if row.side == PLAIN}
    last = ""
    for row in rows:
        share, of_plain = "", memory.get(row.what)
        if row.side == OURS and row.temporary_bytes and of_plain:
            share = f" ({100 * row.temporary_bytes / of_plain:.0f} %)"
        temporary = f"{(row.temporary_bytes or 0) / MIB:,.0f}{share}"
        what = "" if row.what == last else row.what
        last = row.what
        if row.wall is None or row.gflops is None:
            table.add_row(what, row.side, row.note, *[""] * 6, temporary)
            continue
        rate = row.gflops / row.wall
        numbers = [f"{1e3 * row.wall:,.1f}", f"{1e3 * (row.processor or 0):,.1f}"]
        numbers += ["" if x is None or row.side == OURS else f"{x:.2f}" for x in (row.wall_ratio, row.processor_ratio)]
        table.add_row(
            what, row.side, *numbers, f"{row.gflops:,.2f}", f"{rate:,.0f}", f"{100 * rate / peak:.0f}", temporary
        )
    console.print(table)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--configs", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", nargs="+", choices=["float32", "bfloat16"], help="on a GPU both by default")
    parser.add_argument("--default-compiler", action="store_true", help="the plain side also as jax.jit compiles it")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--profile", type=Path, help="write a profile of a call of each program below this folder")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 140)
    kept = keep_freed_memory()
    device = jax.devices()[0]
    precisions = options.precision or (["float32"] if device.platform == "cpu" else ["float32", "bfloat16"])
    sides = [OURS, PLAIN, *([DEFAULT] if options.default_compiler else [])]
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    console.print(f"{device.device_kind}, {os.cpu_count()} cores, load {load}; JAX {jax.__version__}")
    console.print(f"Freed memory is kept for the next arrays, on all sides alike: {'yes' if kept else 'no'}")
    rows, peaks = [], {}
    for precision in precisions:
        peaks[precision] = matmul_peak(precision)
        figures = "; ".join(f"{shape}: {value:,.0f} GFLOP/s" for shape, value in peaks[precision].items())
        console.print(f"Matrix products in {precision}: {figures}")
        for name in options.configs:
            for batch in options.batches:
                found = measure(CASES[name], precision, batch, sides, options.repeats, options.profile)
                show(console, f"{name}, batch {batch}, {precision}", found, max(peaks[precision].values()))
                rows += found
    load_after = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    console.print(f"Load afterwards {load_after}. GFLOP are those of the matrix products made, repeated ones included.")
    if options.json:
        machine = {"device": device.device_kind, "cores": os.cpu_count(), "python": platform.python_version()}
        record = {"machine": machine, "jax": jax.__version__, "load": [load, load_after], "kept_memory": kept}
        record |= {"matmul_gflops": peaks, "repeats": options.repeats, "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(record, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
