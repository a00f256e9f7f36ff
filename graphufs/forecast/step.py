"""The step `forecast`: roll the trained emulator out from every initial time into one WeatherBench2-layout store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphufs.emulator import ReplayEmulator, in_weatherbench_units
from graphufs.errors import Stopped, UserError
from graphufs.experiment import DERIVED_FORCINGS, Experiment
from graphufs.forecast.store import ForecastWriter
from graphufs.layout import Layout
from graphufs.lock import locked
from graphufs.model.memory import keep_freed_memory
from graphufs.provenance import provenance
from graphufs.replay.frames import PreparedData
from graphufs.replay.times import listing
from graphufs.steps import Event, Progress, ShouldStop
from graphufs.train import checkpoint
from graphufs.train.loader import Batch, Samples
from graphufs.train.position import Position


def run(experiment: Experiment, root: Path, *, progress: Progress, should_stop: ShouldStop) -> dict[str, Any]:
    """Make the forecasts of an experiment with its last or best checkpoint.

    Initial times whose input frames (or forcings read from the store) are missing or flawed are left out and named.

    Raises
    ------
    UserError
        If the training is not finished or no initial time can be used.
    Stopped
        After a polite stop; the forecasts so far are kept.
    """
    layout = Layout(experiment, root)
    with locked(layout.forecasts.parent, should_stop=should_stop, waiting=lambda: None):
        path = finished_checkpoint(layout)
        data = PreparedData.open(layout.data)
        steps = experiment.forecast.lead_time // experiment.data.time_step
        usable, excluded = initial_times(experiment, data, steps)
        result = {
            "forecasts": str(layout.forecasts),
            "initial_times": len(usable),
            "excluded": [str(time.astype("datetime64[h]")) for time in excluded],
            "checkpoint": str(path),
        }
        if excluded.size:
            result["warnings"] = [f"{excluded.size} initial times left out, no whole data there: {listing(excluded)}"]
        if layout.forecasts.exists():
            return {"status": "unchanged", **result}
        if not usable.size:
            raise UserError(f"none of the {len(excluded)} initial times has all its input frames and forcings")
        keep_freed_memory()
        emulator = ReplayEmulator.from_checkpoint(path)
        _forecast(emulator, data, usable, steps, layout, progress, should_stop)
        return {"status": "completed", **result}


def finished_checkpoint(layout: Layout) -> Path:
    """The checkpoint of a finished training that the experiment's forecasts are made with, the last or the best.

    Raises
    ------
    UserError
        If there is none, or the training was interrupted.
    """
    path = checkpoint.last(layout.checkpoints)
    if path is None:
        raise UserError(f"no checkpoint in {layout.checkpoints}; run `graphufs train` with this experiment first")
    meta = checkpoint.read_meta(path)
    if meta["update"] < meta["total"]:
        raise UserError(
            f"the training stands at {meta['update']} of {meta['total']} updates; `graphufs train` finishes it"
        )
    best = Position.from_meta(meta).best
    if layout.experiment.forecast.checkpoint == "last" or best is None:
        return path
    return checkpoint.place(layout.checkpoints, best.update)


def initial_times(
    experiment: Experiment, data: PreparedData, steps: int
) -> tuple[NDArray[np.datetime64], NDArray[np.datetime64]]:
    """The experiment's initial times that can be used, and those that cannot.

    Needed are the input frames, and the later stamps too where a forcing is read from the store. The truth at later
    stamps is not.
    """
    times = np.array(experiment.initial_times, dtype="datetime64[ns]")
    windows = Samples.of(experiment, data, times, steps).window(times)
    if set(experiment.data.forcings) <= set(DERIVED_FORCINGS):
        windows = windows[:, : experiment.data.input_frames]
    good = data.usable(windows.ravel()).reshape(windows.shape).all(axis=1)
    return times[good], times[~good]


def _forecast(
    emulator: ReplayEmulator,
    data: PreparedData,
    times: NDArray[np.datetime64],
    steps: int,
    layout: Layout,
    progress: Progress,
    should_stop: ShouldStop,
) -> None:
    experiment = emulator.experiment
    template = emulator.forecast_template(times, steps)
    template.attrs["provenance"] = json.dumps({**provenance(), "hashes": layout.hashes})
    writer = ForecastWriter(layout.forecasts, template)
    samples = Samples.of(experiment, data, times, steps)
    size = min(experiment.forecast.batch_size, len(times))
    # Always the same blocks of the same size: a restart computes what an undisturbed run would have, bit for bit.
    for first in range(0, len(times), size):
        block = times[first : first + size]
        if first not in writer.done:
            filled = np.concatenate([block, np.repeat(block[-1:], size - len(block))])
            predictions = emulator.predict(_read(samples, filled, emulator))
            writer.write(
                first, {name: values[: len(block)] for name, values in in_weatherbench_units(predictions).items()}
            )
        progress(Event("rollouts", first + len(block), len(times), "initial times"))
        if should_stop() and first + size < len(times):
            raise Stopped(f"stopped after {first + len(block)} of {len(times)} initial times; they are kept")
    writer.finish()


def _read(samples: Samples, times: NDArray[np.datetime64], emulator: ReplayEmulator) -> Batch:
    """A batch for a forecast: the later frames are read only where a forcing comes from the store."""
    if not set(emulator.experiment.data.forcings) <= set(DERIVED_FORCINGS):
        return samples.read(times)
    stamps = samples.window(times)
    frames = np.full((*stamps.shape, *samples.data.frame_shape), np.nan, np.float32)
    now = emulator.experiment.data.input_frames
    for frame, window in zip(frames, stamps, strict=True):
        samples.data.read(window[:now], out=frame[:now])
    return Batch(frames, samples.derive(stamps))
