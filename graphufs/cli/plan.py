"""`graphufs plan`: what a training would cost on a GPU, on a machine that needs to have none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from graphufs.cli.app import Options, app
from graphufs.cli.ending import DONE
from graphufs.cli.terminal import console


@app.command
def plan(
    experiment: Path,
    *,
    device: str = "h100",
    devices: int = 1,
    nodes: int = 1,
    grid: str | None = None,
    options: Options = Options(),
) -> int:
    """Say what a training would cost on a GPU: memory, time, GPU-hours, disk.

    Compiles every stage's update, the validation and a forecast for that card; no GPU is needed, but CUDA's compiler,
    which `make setup-cuda` brings. Without it, what needs no compiler is said. Times are predicted.

    Parameters
    ----------
    device
        The kind of card: a100, gb200, h100, h200.
    devices
        Cards of each node.
    nodes
        Nodes that share each batch.
    grid
        The source's grid by longitudes x latitudes, such as 360x181, where neither data nor source can be looked at.
    """
    from graphufs.plan.cost import plan_training  # brings JAX
    from graphufs.plan.target import Target
    from graphufs.plan.words import heading, lines, table

    target = Target.named(device)
    shown, loaded = console(stderr=True), options.load(experiment)
    result: dict[str, Any] = plan_training(
        loaded,
        options.folder(),
        target,
        devices=devices,
        nodes=nodes,
        grid=grid,
        tell=lambda line: shown.print(line, style="dim"),
    )
    if options.json_:
        print(json.dumps(result, indent=2))
        return DONE
    out = console(width=None if console().is_terminal else 160)
    out.print(heading(result), soft_wrap=True)
    if "not_compiled" not in result:
        out.print(table(result))
    for line in lines(result):
        out.print(line, soft_wrap=True)
    return DONE
