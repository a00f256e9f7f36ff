"""The fused kernels alone, compiled for a card on a machine without one: registers, spills, what they move and load.

Each edge set's sums of messages and their way back are compiled for P0's grid (65,160 points, 162 nodes), with some
latent size and number of samples; so is what goes row by row through the points' MLPs (`points`), and into the first of
them (`channels`). For each kernel:
what CUDA's assembler says of a thread's registers and of the bytes of them that are spilled to memory; the bytes of
operands and results; the bytes that are loaded again, from a cache where they still are; FLOP. No kernel runs, so
nothing here is a time.

    make setup-cuda
    .venv-cuda/bin/python benchmarks/kernels.py --latent-size 256 --samples 16 --precision bfloat16 --device h100
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from graphufs.plan.target import COMPILING, Target, names

# before jax is imported
os.environ.update(COMPILING)
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={tempfile.mkdtemp(prefix='graphufs-')}"

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from graphufs.model.arrangement import GPU
from graphufs.model.kernels.by_row import layers_of_rows
from graphufs.model.kernels.lists import EdgeLists
from graphufs.model.kernels.messages import sums_of_messages
from graphufs.model.layers import MLP
from graphufs.plan.ahead import Machine
from graphufs.plan.hlo import kernels_of

POINTS, NODES, PLACES = 65_160, 162, 3
EDGES = {"grid2mesh": 100_655, "mesh2grid": 195_480}
"""Of P0, and the most edges of a point in both."""
DUMP = Path(os.environ["XLA_FLAGS"].rpartition("--xla_dump_to=")[2])
ROWS, CHANNELS = "points", "channels"
INPUTS = 190
"""Channels of a point, as of 13 levels."""
KERNELS = (
    *("sums_at_points", "sums_at_nodes", "gradients_at_points", "gradients_at_nodes", "gradients_of_weights"),
    *("layers_of_rows", "gradients_of_rows", "gradients_of_layers"),
)
FUSED = replace(GPU, kernels="fused")


def program(edge_set: str, width: int, samples: int, dtype: Any) -> tuple[Any, tuple[Any, ...]]:
    """Sums and all their gradients, and the shapes of what they are made of."""
    edges, to_points = EDGES[edge_set], edge_set == "mesh2grid"

    def rows(number: int, kind: Any = dtype) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((number, width), kind)

    def integers(*shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, jnp.int32)

    lists = EdgeLists(integers(edges), integers(edges), integers(PLACES, POINTS), integers(edges), integers(NODES + 1))
    mlp = jax.eval_shape(lambda: MLP.zeros(4, width, width, 1))
    terms = rows(POINTS * samples), rows(NODES * samples) if to_points else None, rows(edges)
    gradient = rows(POINTS * samples) if to_points else rows(NODES * samples, jnp.float32)

    def function(mlp: MLP, terms: Any, lists: EdgeLists, gradient: Any) -> Any:
        sums, back = jax.vjp(
            lambda mlp, terms: sums_of_messages(mlp, terms[0], terms[1], terms[2], lists, samples, FUSED), mlp, terms
        )
        return sums, back(gradient)

    return jax.jit(function), (mlp, terms, lists, gradient)


def program_of_rows(width: int, samples: int, dtype: Any) -> tuple[Any, tuple[Any, ...]]:
    """An MLP of each point's row and another, the row added, and a product of that."""
    rows = jax.ShapeDtypeStruct((POINTS * samples, width), dtype)
    mlp = jax.eval_shape(lambda: MLP.zeros(2 * width, width, width, 1))

    def layers(mlp: MLP, rows: jax.Array, others: jax.Array) -> Any:
        sources = (rows, mlp.first.weight[:width]), (others, mlp.first.weight[width:])
        return layers_of_rows(mlp, sources, mlp.first.bias, FUSED, residual=True, after=[mlp.first.weight[:width]])

    def function(mlp: MLP, rows: jax.Array, others: jax.Array, gradients: Any) -> Any:
        result, back = jax.vjp(layers, mlp, rows, others)
        return result, back(gradients)

    return jax.jit(function), (mlp, rows, rows, (rows, rows))


def program_of_channels(width: int, samples: int, dtype: Any) -> tuple[Any, tuple[Any, ...]]:
    """An MLP of each point's channels and of what is known of the point, and a product of that."""
    channels = jax.ShapeDtypeStruct((POINTS * samples, INPUTS), dtype)
    point, rows = (jax.ShapeDtypeStruct((count, width), dtype) for count in (POINTS, POINTS * samples))
    mlp = jax.eval_shape(lambda: MLP.zeros(INPUTS, width, width, 1))

    def layers(mlp: MLP, channels: jax.Array, point: jax.Array) -> Any:
        sources = [(channels, mlp.first.weight)]
        return layers_of_rows(mlp, sources, point, FUSED, samples=samples, after=[mlp.linears[-1].weight])

    def function(mlp: MLP, channels: jax.Array, point: jax.Array, gradients: Any) -> Any:
        result, back = jax.vjp(layers, mlp, channels, point)
        return result, back(gradients)

    return jax.jit(function), (mlp, channels, point, (rows, rows))


def compiled_kernels(edge_set: str, width: int, samples: int, dtype: Any, machine: Machine) -> list[dict[str, Any]]:
    """What is known of each fused kernel of an edge set."""
    for old in DUMP.iterdir():
        old.unlink()
    if edge_set in (ROWS, CHANNELS):
        made = program_of_rows if edge_set == ROWS else program_of_channels
        function, arguments = made(width, samples, dtype)
    else:
        function, arguments = program(edge_set, width, samples, dtype)
    text = function.trace(*machine.replicated(arguments)).lower(lowering_platforms=("cuda",)).compile().as_text()
    known, found = assembled(machine.target), []
    for kernel in (one for one in kernels_of(text)[0] if one.operation == "custom-call" and one.flop):
        line = next(line for line in text.splitlines() if f"%{kernel.name} = " in line)
        name = next(name for name in KERNELS if f'"{name}' in line)
        figures = {"bytes": kernel.bytes, "again": kernel.again, "flop": sum(kernel.flop.values())}
        found.append({"edge_set": edge_set, "kernel": name} | known[name] | figures)
    return found


def assembled(target: Target) -> dict[str, dict[str, int]]:
    """Registers of a thread and spilled bytes of each fused kernel in the dumped program."""
    architecture = re.search(r"compute_capability \{ major: (\d+)(?: minor: (\d+))? \}", target.xla)
    assert architecture is not None
    processor = f"sm_{architecture[1]}{architecture[2] or 0}" + ("a" if int(architecture[1]) >= 9 else "")
    found = {}
    for file in (file for file in DUMP.glob("*.ptx") if ".entry" in file.read_text()):
        command = [str(assembler()), "-v", f"-arch={processor}", "-o", "/dev/null", str(file)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        for entry in said.split("Compiling entry function ")[1:]:
            name = next((name for name in KERNELS if entry.startswith(f"'{name}")), None)
            registers, stores, loads = (
                re.search(pattern, entry)
                for pattern in (r"Used (\d+) registers", r"(\d+) bytes spill stores", r"(\d+) bytes spill loads")
            )
            if name and registers and stores and loads:
                found[name] = {"registers": int(registers[1]), "spilled": int(stores[1]), "reloaded": int(loads[1])}
    return found


def assembler() -> Path:
    """CUDA's, of this environment."""
    (found,) = (Path(jax.__file__).parents[1] / "nvidia").glob("cuda_nvcc/bin/ptxas")
    return found


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--latent-size", type=int, default=256)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--edges", nargs="+", choices=[*EDGES, ROWS, CHANNELS], default=[*EDGES, ROWS])
    parser.add_argument("--device", choices=names(), default="h100")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    machine, dtype, rows = Machine.of(Target.named(options.device)), jnp.dtype(options.precision), []
    try:
        for edge_set in options.edges:
            rows += compiled_kernels(edge_set, options.latent_size, options.samples, dtype, machine)
    finally:
        shutil.rmtree(DUMP)
    if options.json:
        print(json.dumps(rows))
        return 0
    table = Table(title=f"Fused kernels compiled for {machine.target.title}", title_justify="left")
    for name in ("edges", "kernel", "registers", "spilled B", "GB moved", "GB loaded again", "TFLOP"):
        table.add_column(name)
    for one in rows:
        numbers = (f"{one['bytes'] / 1e9:.2f}", f"{one['again'] / 1e9:.2f}", f"{one['flop'] / 1e12:.2f}")
        table.add_row(one["edge_set"], one["kernel"], str(one["registers"]), str(one["spilled"]), *numbers)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
