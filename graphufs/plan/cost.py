"""What a training would cost: the figures of its programs, with how often each runs and what it reads and writes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from graphufs.config.experiment import Experiment
from graphufs.emulator.domain import Domain
from graphufs.errors import UserError
from graphufs.plan import measured
from graphufs.plan.child import compile_in_child, python_with_cuda
from graphufs.plan.domains import domain_of, surface_by_default
from graphufs.plan.flops import count_flops
from graphufs.plan.programs import TrainingPrograms
from graphufs.plan.sizes import Work, batch_bytes, disk_bytes, work_of
from graphufs.plan.target import Target
from graphufs.plan.time_model import REACHED_FLOP

READING = 1e9
"""Bytes/s that a node reads from its file system, assumed."""
SHARE_OF_MEMORY = 0.75
"""What JAX takes of a card's memory where neither of MEMORY_VARIABLES says anything else."""
MEMORY_VARIABLES = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")
NO_COMPILER = (
    "CUDA's part of jaxlib is not here, so nothing is compiled and memory and times are not known: `make setup-cuda` "
    "in a checkout makes .venv-cuda, which this command then uses"
)
MOST_DEVICES, MOST_NODES = 64, 4096


def plan_training(
    experiment: Experiment,
    root: Path,
    target: Target,
    *,
    devices: int = 1,
    nodes: int = 1,
    grid: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """What `graphufs plan` says, for people in graphufs.plan.words; bytes, seconds, FLOP.

    Raises
    ------
    UserError
        If the devices cannot share a batch, or the grid is not known.
    """
    settings = experiment.training
    _check_devices(settings.batch_size, devices, nodes, settings.compute.mesh.space)
    usable = int(_share_of_memory() * target.memory)
    domain, origin, data = domain_of(experiment, root, grid)
    work = work_of(experiment, data)
    programs = TrainingPrograms(experiment, domain)
    result: dict[str, Any] = {
        "experiment": experiment.name,
        "device": {"name": target.name, "title": target.title, "memory": target.memory, "usable": usable},
        "devices": devices,
        "nodes": nodes,
        "grid": {"points": f"{domain.longitude.size}x{domain.latitude.size}", "from": origin},
        "precision": settings.compute.precision,
        "parameters": programs.parameters,
        "updates": work.updates,
        "validations": work.validations,
        "disk": disk_bytes(experiment, domain, work, *programs.state),
        "sources": list(target.sources),
        "warnings": [],
    }
    if grid is not None and (taken := surface_by_default(experiment)):
        result["warnings"].append(f"{', '.join(taken)} is taken for a field without levels, as nothing is known of it")
    python = python_with_cuda()
    if python is None:
        result["not_compiled"] = NO_COMPILER
        result["matrix_products"] = _traced(experiment, programs, target, work, devices * nodes)
        return result
    request = {"device": target.name, "devices": devices, "nodes": nodes, "usable": usable}
    found = compile_in_child(python, experiment, domain, tell, initial_times=len(experiment.initial_times), **request)
    programs_found = [*found["stages"].values(), *(found[name] for name in ("validation", "forecast") if name in found)]
    result["warnings"] += sorted({warning for one in programs_found for warning in one["warnings"]})
    result |= found
    if settings.stages:
        result["training"] = _training(experiment, domain, work, found, devices, nodes)
    result["accuracy"] = measured.words(target.name)
    return result


def _check_devices(batch_size: int, devices: int, nodes: int, space: int) -> None:
    for name, count, most in (("devices", devices, MOST_DEVICES), ("nodes", nodes, MOST_NODES)):
        if not 1 <= count <= most:
            raise UserError(f"--{name} is {count}; it must be from 1 to {most}")
    if space == 1 and batch_size % (devices * nodes):
        raise UserError(
            f"a batch of {batch_size} cannot be shared evenly by {nodes} x {devices} devices; change "
            "training.batch_size with --set, --devices or --nodes"
        )
    if devices * nodes % space or max(devices, space) % min(devices, space) or batch_size * space % (devices * nodes):
        raise UserError(
            f"training.compute.mesh.space is {space}: a batch of {batch_size} cannot be shared evenly by {nodes} x "
            f"{devices} devices, {space} to a sample; change training.compute.mesh or training.batch_size with --set, "
            "--devices or --nodes"
        )


def _share_of_memory() -> float:
    name = next((name for name in MEMORY_VARIABLES if os.environ.get(name)), MEMORY_VARIABLES[0])
    given = os.environ.get(name, "")
    try:
        share = float(given) if given else SHARE_OF_MEMORY
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise UserError(f"{name} is {given!r}; it must be a number above 0 and at most 1")
    return share


def _training(
    experiment: Experiment, domain: Domain, work: Work, found: dict[str, Any], devices: int, nodes: int
) -> dict[str, Any]:
    """How long the whole training takes."""
    settings = experiment.training
    stages: dict[str, Any] = {}
    for stage in settings.stages:
        figures, read = found["stages"][stage.name], batch_bytes(experiment, domain, stage.rollout, nodes) / READING
        step = max(figures["seconds"], read)  # batches are read while the devices compute
        stages[stage.name] = {
            "updates": work.updates[stage.name],
            "seconds_of_an_update": step,
            "reading": read,
            "limit": "reading" if read > figures["seconds"] else figures["limit"],
            "hours": work.updates[stage.name] * step / 3600,
        }
    batches = -(-work.validation_samples // settings.batch_size)
    validation = work.validations * batches * found["validation"]["seconds"] / 3600
    forecasts, wanted, forecast = 0.0, settings.validation_forecasts, found["forecast"]
    if wanted is not None:  # one device of each process makes them, in other batches than those compiled
        each = forecast["seconds"] / (forecast["initial_times"] * forecast["steps"])
        steps = wanted.lead_time // experiment.data.time_step
        times = work.forecasts * wanted.initial_times * experiment.validation_members
        forecasts = times * steps * each / 3600
    hours = sum(stage["hours"] for stage in stages.values()) + validation + forecasts
    return {
        "stages": stages,
        "validation_hours": validation,
        "validation_forecast_hours": forecasts,
        "hours": hours,
        "gpu_hours": hours * devices * nodes,
    }


def _traced(
    experiment: Experiment, programs: TrainingPrograms, target: Target, work: Work, devices: int
) -> dict[str, Any]:
    """The FLOP of matrix products of each stage's update on one device, and the time these alone would take."""
    settings = experiment.training
    space = settings.compute.mesh.space
    share = settings.batch_size * space // devices
    kind = "bf16" if settings.compute.precision == "bfloat16" else "f32"
    found = {}
    for stage in settings.stages:
        settings_of = stage.optimizer or settings.optimizer
        function, arguments = programs.update(stage.rollout, settings_of, share, share, stage.loss)
        flop = count_flops(function, *arguments) // space
        seconds = flop / (REACHED_FLOP * target.rates[kind])
        hours = work.updates[stage.name] * seconds / 3600
        found[stage.name] = {"flop": flop, "seconds_at_least": seconds, "hours_at_least": hours}
    return found
