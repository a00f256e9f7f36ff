"""Released models: `graphufs import-deepmind`, and how `graphufs forecast` runs a checkpoint on an analysis."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from pydantic import TypeAdapter, ValidationError

from graphufs.cli.app import Json
from graphufs.cli.ending import DONE
from graphufs.cli.terminal import console
from graphufs.config.base import Hours, Time
from graphufs.errors import UserError


def import_deepmind(
    file: Path,
    *,
    statistics: Annotated[Path, Parameter(name="--statistics")],
    output: Annotated[Path, Parameter(name="--output")],
    json_: Json = False,
) -> int:
    """Make a checkpoint of a model that DeepMind released, without any training.

    Parameters
    ----------
    file
        The model, in DeepMind's npz format.
    statistics
        The folder with DeepMind's mean_by_level.nc, stddev_by_level.nc and diffs_stddev_by_level.nc.
    output
        The checkpoint folder to make.
    """
    from graphufs.deepmind.released import import_checkpoint

    emulator = import_checkpoint(file, statistics, output)
    data, grid = emulator.experiment.data, emulator.domain
    facts: dict[str, Any] = {
        "checkpoint": str(output),
        "grid": [grid.latitude.size, grid.longitude.size],
        "levels": len(data.levels),
        "inputs": emulator.channels.input_size,
        "outputs": emulator.channels.output_size,
        "time_step": f"{data.time_step}h",
    }
    if json_:
        print(json.dumps(facts, indent=2))
    else:
        console().print(
            f"{output}: {grid.latitude.size} x {grid.longitude.size} points, {len(data.levels)} levels, "
            f"{facts['inputs']} channels in, {facts['outputs']} out, steps of {data.time_step} h",
            soft_wrap=True,
        )
    return DONE


@Parameter(name="*")
@dataclass(frozen=True)
class FromAnalysis:
    """What a forecast without an experiment's data takes."""

    analysis: Annotated[str | None, Parameter(name="--analysis")] = None
    """An analysis to begin from, of any layout that sources have: a path, or an address that needs no key."""
    initial_time: Annotated[tuple[str, ...], Parameter(name="--initial-time", negative=())] = ()
    """With --analysis, as in 2020-06-01T06. May be repeated."""
    lead_time: Annotated[str | None, Parameter(name="--lead-time")] = None
    """With --analysis: how long the forecasts are, such as 10d. [default: what the checkpoint's experiment says]"""
    output: Annotated[Path | None, Parameter(name="--output")] = None
    """With --analysis: the zarr store to write."""

    @property
    def asked(self) -> bool:
        """Whether any of it is given."""
        return self != FromAnalysis()

    def run(self, checkpoint: Path, *, as_json: bool) -> int:
        """Make the forecasts with a checkpoint, write them, and return the exit code.

        Raises
        ------
        UserError
            If something is not given, there already, or not what it must be.
        """
        from graphufs.emulator.emulator import ReplayEmulator
        from graphufs.forecast.from_analysis import forecast_from_analysis
        from graphufs.storage.zarr_io import write_zarr

        if self.analysis is None or not self.initial_time or self.output is None:
            raise UserError("a forecast from an analysis needs all of --analysis, --initial-time and --output")
        if self.output.exists():
            raise UserError(f"{self.output} exists already; remove it, or name another store")
        times = [_time(text) for text in self.initial_time]
        if len(set(times)) < len(times):
            raise UserError(f"--initial-time names {', '.join(sorted(self.initial_time))}, and one of them twice")
        emulator = ReplayEmulator.from_checkpoint(checkpoint)
        step = emulator.experiment.data.time_step
        hours = emulator.experiment.forecast.lead_time if self.lead_time is None else _parse(Hours, self.lead_time)
        if hours % step:
            raise UserError(f"--lead-time of {hours}h is not a multiple of the checkpoint's time step, {step}h")
        dataset = forecast_from_analysis(emulator, self.analysis, times, hours // step)
        write_zarr(self.output, {None: dataset}, {str(name): {"time": 1} for name in dataset.data_vars})
        if as_json:
            print(json.dumps({"forecasts": str(self.output), "initial_times": len(times), "steps": hours // step}))
        else:
            console().print(
                f"{self.output}: {len(times)} initial times, {hours // step} steps of {step} h", soft_wrap=True
            )
        return DONE


def _time(text: str) -> Any:
    """A time as people write it, such as 2020-06-01T06, as numpy.datetime64."""
    import numpy as np

    return np.datetime64(_parse(Time, text), "ns")


def _parse(kind: Any, text: str) -> Any:
    try:
        return TypeAdapter(kind).validate_python(text)
    except ValidationError as error:
        raise UserError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
