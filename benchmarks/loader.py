"""Whether reading keeps up with training: samples a second of the loader, of the update, and of both together.

For the demo and for the published prototype at its full size, each with one year of 6-hourly frames, in a store of
made-up numbers laid out as `graphufs prepare` lays out real ones. The loader runs alone, with the files in the page
cache ("warm") and after asking the system to drop them from it ("cold"; where the disk has a cache of its own, not all
that cold); the update runs alone on one batch again and again; then both run as in `graphufs train`, and the share of
the time the training waits for the loader is taken. The repetitions of all these are interleaved.

    python benchmarks/loader.py --cases demo p0 --repeats 3 --json loader.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.data.channels import PreparedChannel
from graphufs.data.dataset import PreparedData
from graphufs.data.loader import Batch, BatchLoader
from graphufs.data.manifest import SEGMENTS, STATIC, Header, Manifest, Segment
from graphufs.data.static_fields import write_static
from graphufs.data.zarr_segment import create
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.errors import UserError
from graphufs.grid.areas import gaussian_latitudes
from graphufs.model.keep_freed_memory import keep_freed_memory
from graphufs.normalization.statistics import Statistics
from graphufs.replay.times import stamps_in, text
from graphufs.storage import checksums
from graphufs.storage.paths import Paths
from graphufs.train.compiling.compiled_steps import Programs
from graphufs.train.devices import Devices
from graphufs.train.stages import Plan
from graphufs.train.train_step import Objective, Program, State
from graphufs.train.trainer import REPORT_EVERY

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
BAR = 3.0
"""How many times faster than the update the loader is to be at the prototype's size."""
WITH_LEVELS = "tmp"
NATIVE = {100.0: 97.82, 500.0: 505.65, 1000.0: 998.78}
"""The native levels [hPa] next to those the experiments want."""


@dataclass(frozen=True)
class Case:
    """An experiment, the grid its made-up data lie on, and how many batches are read at once to time the loader."""

    name: str
    latitudes: int
    longitudes: int
    batches: int


CASES = {case.name: case for case in (Case("demo", 32, 64, 1000), Case("p0", 192, 384, 40))}


@dataclass(frozen=True)
class Result:
    """Medians over the repetitions: samples a second, and the share of the time that training waits."""

    case: str
    frames: int
    frame_mib: float
    batch_size: int
    loader_warm: float
    loader_cold: float
    update: float
    together: float
    waiting: float

    @property
    def ratio(self) -> float:
        """How many times faster the loader is than the update, at its slowest."""
        return min(self.loader_warm, self.loader_cold) / self.update


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--frames", type=int, help="frames in the stores instead of those of a whole year")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long updates run to be timed, two at least")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the cases")
    parser.add_argument(
        "--folder", type=Path, help="where the stores are written, and removed again (default: temporary)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 140)
    keep_freed_memory()
    results = []
    for name in options.cases:
        case = CASES[name]
        experiment = loading.load(EXPERIMENTS / f"{name}.yaml", options.set)
        with tempfile.TemporaryDirectory(dir=options.folder, prefix="graphufs-loader-") as root:
            frames = write_store(Paths(experiment, Path(root)), case, options.frames)
            console.print(f"{name}: a store of {frames} frames is written, now timing", highlight=False)
            results.append(measure(Paths(experiment, Path(root)), case, options.repeats, options.seconds))
    console.print(table(results))
    if options.json:
        content = {"machine": machine(), "results": [{**asdict(r), "ratio": r.ratio} for r in results]}
        options.json.write_text(json.dumps(content, indent=2) + "\n")
    missed = [result for result in results if result.case == "p0" and result.ratio < BAR]
    for result in missed:
        console.print(f"[red]At the prototype's size the loader is {result.ratio:.1f} times as fast, not {BAR:g}.[/]")
    return 1 if missed else 0


def machine() -> dict[str, object]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    device = jax.devices()[0]
    return {"machine": platform.machine(), "cores": cores, "device": device.device_kind, "jax": jax.__version__}


def write_store(paths: Paths, case: Case, frames: int | None) -> int:
    """Write prepared data of noise for the training period, or its first frames; return how many."""
    experiment = paths.experiment
    latitude, longitude = gaussian_latitudes(case.latitudes), np.arange(case.longitudes) * (360.0 / case.longitudes)
    stamps = stamps_in(experiment.data.training, experiment.data.time_step)[:frames]
    static = tuple(name for name in experiment.data.stored_variables if name.endswith("_static"))
    channels = tuple(
        PreparedChannel(name, level, None if level is None else NATIVE[level])
        for name in experiment.data.stored_variables
        if name not in static
        for level in (sorted(experiment.data.levels) if name == WITH_LEVELS else [None])
    )
    header = Header(experiment.data.time_step, "fv3", channels, static, {}, latitude, longitude, latitude)
    shape = (len(channels), latitude.size, longitude.size)
    needed, free = 4 * stamps.size * int(np.prod(shape)), shutil.disk_usage(paths.root).free
    if needed > 0.9 * free:
        raise UserError(
            f"the store of {case.name} takes {needed / 2**30:.1f} GiB and {paths.root.parent} has "
            f"{free / 2**30:.1f}; name another place with --folder, or fewer frames with --frames"
        )
    name = f"{text(stamps[0])}_{text(stamps[-1])}.zarr"
    path = paths.data / SEGMENTS / name
    path.parent.mkdir(parents=True)
    array, block = create(path, stamps, channels, latitude, longitude)
    noise = np.random.default_rng(0).standard_normal((min(block, stamps.size), *shape), np.float32)
    for first in range(0, stamps.size, block):
        array[first : first + block] = np.roll(noise, first, axis=-1)[: stamps.size - first]
    files = checksums.files_of(path)
    for file in files_of(path):
        with open(file, "rb+") as opened:
            os.fsync(opened.fileno())  # only what is on disk can be dropped from the page cache
    fields = {name: np.zeros(shape[1:], np.float32) for name in static}
    write_static(paths.data / STATIC, header, np.ones(shape, bool), fields)
    Manifest(header).with_segments([Segment(name, stamps, {}, files)]).write(paths.data)
    return int(stamps.size)


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def drop_from_cache(folder: Path) -> None:
    if not hasattr(os, "posix_fadvise"):
        return  # macOS: what is called cold is warm there
    for file in files_of(folder):
        with open(file, "rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(paths: Paths, case: Case, repeats: int, seconds: float) -> Result:
    data, experiment = PreparedData.open(paths.data), paths.experiment
    devices = Devices.choose(experiment.training.batch_size, experiment.training.compute.devices)
    plan = Plan.of(experiment, data, devices.shard)
    stage = plan.stages[0]
    emulator = replace(ReplayEmulator.from_experiment(experiment, paths.root), statistics=unit_statistics(experiment))
    objective = Objective(emulator, plan, devices)
    program = Programs(objective)[stage]
    state = objective.start(emulator.network)
    batch = next(read(stage.loader, 0, 1))
    state = updates(program, state, [batch])  # the first one is slower
    began = time.perf_counter()
    state = updates(program, state, [batch])
    count = max(2, round(seconds / (time.perf_counter() - began)))
    warm: list[float] = []
    cold: list[float] = []
    update: list[float] = []
    together: list[float] = []
    waiting: list[float] = []
    number = 0
    for _ in range(repeats):
        for rates, drop in ((warm, False), (cold, True)):
            if drop:
                drop_from_cache(paths.data)
            began = time.perf_counter()
            for _ in read(stage.loader, number, case.batches):
                pass
            rates.append(case.batches / (time.perf_counter() - began))
            number += case.batches
        began = time.perf_counter()
        state = updates(program, state, [batch] * count)
        update.append(count / (time.perf_counter() - began))
        batches = read(stage.loader, number, count + 1)
        next(batches)  # a training waits for its very first batch only once
        began, waited = time.perf_counter(), stage.loader.waited
        state = updates(program, state, batches)
        elapsed = time.perf_counter() - began
        together.append(count / elapsed)
        waiting.append((stage.loader.waited - waited) / elapsed)
        number += count + 1
    size = stage.loader.batch_size
    return Result(
        case=case.name,
        frames=data.stamps.size,
        frame_mib=float(4 * np.prod(data.frame_shape) / 2**20),
        batch_size=size,
        loader_warm=size * statistics.median(warm),
        loader_cold=size * statistics.median(cold),
        update=size * statistics.median(update),
        together=size * statistics.median(together),
        waiting=statistics.median(waiting),
    )


def read(loader: BatchLoader, first: int, count: int) -> Iterator[Batch]:
    """Batches from number `first` on."""
    return (batch for _, batch in loader.batches(first, first + count))


def updates(program: Program, state: State, batches: Iterable[Batch]) -> State:
    """Train, waiting for the device as often as a training does to report."""
    for number, batch in enumerate(batches, 1):
        state, outcome = program(state, program.objective.controls(0), batch)
        if number % REPORT_EVERY == 0:
            jax.block_until_ready(outcome)
    return jax.block_until_ready(state)


def unit_statistics(experiment: Experiment) -> Statistics:
    """Statistics that change nothing: the made-up data have mean 0 and standard deviation 1."""
    data = experiment.data
    sizes = {
        name: len(data.levels) if name == WITH_LEVELS else 1 for name in {*data.inputs, *data.targets, *data.forcings}
    }
    ones = {name: np.ones(size) for name, size in sizes.items()}
    return Statistics({name: np.zeros(size) for name, size in sizes.items()}, ones, ones)


def table(results: list[Result]) -> Table:
    found = machine()
    shown = Table(title=f"Samples a second ({found['cores']} cores, {found['device']})")
    for name in (
        "",
        "frames",
        "MiB each",
        "batch",
        "loader warm",
        "cold",
        "update",
        "loader / update",
        "both",
        "waiting",
    ):
        shown.add_column(name, justify="right" if name else "left")
    for result in results:
        rates = (result.loader_warm, result.loader_cold, result.update)
        shown.add_row(
            result.case,
            f"{result.frames}",
            f"{result.frame_mib:.2f}",
            f"{result.batch_size}",
            *(f"{rate:.4g}" for rate in rates),
            f"{result.ratio:.1f}",
            f"{result.together:.4g}",
            f"{100 * result.waiting:.2f} %",
        )
    return shown


if __name__ == "__main__":
    sys.exit(main())
