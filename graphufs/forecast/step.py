"""The step `forecast`: roll the trained emulator out from every initial time into one WeatherBench2-layout store.

Initial times are rolled out in blocks, always the same and of the same size: any process that computes a block, in
any order, gets what an undisturbed forecast gets, bit for bit. So parts of a forecast are shares of its blocks, written
by several processes into one unfinished store; the forecast as a whole adds the missing blocks and finishes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from graphufs.config.experiment import Experiment
from graphufs.data.dataset import PreparedData
from graphufs.data.loader import Batch, WindowReader
from graphufs.emulator import checkpoint
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.emulator.forecast_layout import forecast_template, in_weatherbench_units
from graphufs.errors import Stopped, UserError
from graphufs.forecast.scored import BlockScores, scores_are_there
from graphufs.forecast.store import Block, ForecastWriter, sweep
from graphufs.model.keep_freed_memory import keep_freed_memory
from graphufs.replay.times import listing
from graphufs.steps import Event, Part, Progress, ShouldStop
from graphufs.storage.lock import locked
from graphufs.storage.paths import Paths, digest
from graphufs.storage.provenance import provenance
from graphufs.storage.zarr_io import store_damage
from graphufs.train.resume import Position
from graphufs.vocabulary.variables import DERIVED_FORCINGS
from graphufs.weatherbench.inputs.members import single_mean

Fields = dict[str, NDArray[np.float32]]
"""Forecasts by variable, in WeatherBench2's names and units."""


def run(
    experiment: Experiment, root: Path, *, progress: Progress, should_stop: ShouldStop, part: Part | None = None
) -> dict[str, Any]:
    """Make the forecasts of an experiment with its last or best checkpoint, or a part of them.

    Initial times whose input frames (or forcings read from the store) are missing or flawed are left out and named. A
    part is a share of the blocks of initial times; with it, the forecasts stay unfinished. Parts may work side by side;
    a forecast without a part waits for them, and they for it.

    Raises
    ------
    UserError
        If the training is not finished or no initial time can be used.
    Stopped
        After a polite stop; the forecasts so far are kept.
    """
    paths = Paths(experiment, root)
    place = paths.forecasts

    waiting = Event("waiting for another process that makes the same forecasts", 0, 1)
    with locked(
        place.parent,
        should_stop=should_stop,
        waiting=lambda: progress(waiting),
        shared=part is not None,
        name=f".{place.name}.lock",
    ):
        path = finished_checkpoint(paths)
        data = PreparedData.open(paths.data)
        steps = experiment.forecast.lead_time // experiment.data.time_step
        usable, excluded = initial_times(experiment, data, steps)
        result: dict[str, Any] = {
            "forecasts": str(place),
            "initial_times": len(usable),
            "excluded": [str(time.astype("datetime64[h]")) for time in excluded],
            "checkpoint": str(path),
        }
        if part is not None:
            result["part"] = [part.index, part.count]
        if excluded.size:
            result["warnings"] = [f"{excluded.size} initial times left out, no whole data there: {listing(excluded)}"]
        damage = store_damage(place) if place.exists() else None
        kept = experiment.forecast.keep_members
        if place.exists() and damage is None and (kept or scores_are_there(paths)):
            if part is None:
                sweep(place)
            return {"status": "unchanged", **result}
        if damage is not None:
            said = f"the forecasts that were there are damaged ({damage}); they are made again"
            result["warnings"] = [said, *result.get("warnings", [])]
        if not usable.size:
            raise UserError(f"none of the {len(excluded)} initial times has all its input frames and forcings")
        worked = _forecast(path, data, usable, steps, paths, part, progress, should_stop)
        return {"status": "completed" if worked else "unchanged", **result}


def finished_checkpoint(paths: Paths) -> Path:
    """The checkpoint of a finished training that the experiment's forecasts are made with, the last or the best.

    Raises
    ------
    UserError
        If there is none, it is damaged or of another run, or the training was interrupted.
    """
    path = checkpoint.last(paths.checkpoints)
    if path is None:
        raise UserError(f"no checkpoint in {paths.checkpoints}; run `graphufs train` with this experiment first")
    meta = checkpoint.read_meta(path)
    if meta["update"] < meta["total"]:
        raise UserError(
            f"the training stands at {meta['update']} of {meta['total']} updates; `graphufs train` finishes it"
        )
    best = Position.from_meta(meta).best
    if paths.experiment.forecast.checkpoint != "last" and best is not None:
        path = checkpoint.place(paths.checkpoints, best.update)
    if (damage := checkpoint.damage(path)) is not None:
        raise UserError(f"{damage}; `graphufs train` with this experiment goes on from the checkpoint before it")
    return path


def initial_times(
    experiment: Experiment, data: PreparedData, steps: int
) -> tuple[NDArray[np.datetime64], NDArray[np.datetime64]]:
    """The experiment's initial times [time] that can be used, and those that cannot.

    Needed are the input frames, and the later stamps too where a forcing is read from the store. The truth at later
    stamps is not.
    """
    times = np.array(experiment.initial_times, dtype="datetime64[ns]")
    windows = WindowReader.of(experiment, data, times, steps).window(times)
    if set(experiment.data.forcings) <= set(DERIVED_FORCINGS):
        windows = windows[:, : experiment.data.input_frames]
    good = data.usable(windows.ravel()).reshape(windows.shape).all(axis=1)
    return times[good], times[~good]


def _forecast(
    path: Path,
    data: PreparedData,
    times: NDArray[np.datetime64],
    steps: int,
    paths: Paths,
    part: Part | None,
    progress: Progress,
    should_stop: ShouldStop,
) -> bool:
    """Roll out a part's missing blocks, or all missing ones and finish; False if there was nothing to do."""
    wanted = paths.experiment.forecast
    size = min(wanted.batch_size, len(times))
    # a block is one member's, or, where they are scored and left, all members'
    numbers = list(range(wanted.members)) if wanted.members > 1 and wanted.keep_members else [None]
    blocks = [Block(first, member) for first in range(0, len(times), size) for member in numbers]
    mine = blocks if part is None else [blocks[index] for index in part.share(len(blocks))]
    known = {"initial_times": times.astype("datetime64[s]").astype(str).tolist(), "block": size, "weights": path.name}
    if not wanted.keep_members:
        known["scores"] = paths.hashes["scores"]
    writer = ForecastWriter(paths.forecasts, digest(known))
    lacking = [block for block in mine if not writer.has(block)]
    scores: BlockScores | None = None
    if lacking or (part is None and not wanted.keep_members):
        keep_freed_memory()
        emulators = models(path, paths)
        samples = WindowReader.of(emulators[0].experiment, data, times, steps)
        stored = wanted.members if wanted.keep_members else 1
        writer.open(lambda: _template(emulators[0], times, steps, paths, stored), should_stop=should_stop)
        if not wanted.keep_members:
            template = _template(emulators[0], times, steps, paths, wanted.members)
            scores = BlockScores(paths.experiment, paths, template, writer.scores, progress, should_stop)
    total = sum(len(times[block.first : block.first + size]) for block in mine)
    what, done = "initial times" if numbers == [None] else "initial times of members", 0
    read: tuple[int, Batch] | None = None

    def members_of(starts: NDArray[np.datetime64], batch: Batch, chosen: list[int]) -> Iterator[Fields]:
        """What members of a block predict, one after the other, each variable [initial time, lead, ...]."""
        filled = np.concatenate([starts, np.repeat(starts[-1:], size - len(starts))])
        for number, member in enumerate(chosen):
            if number and should_stop():
                raise Stopped(f"stopped after {done} of {total} {what}; they are kept")
            emulator = emulators[member % len(emulators)]
            predictions = emulator.predict(batch, emulator.noise_of(member, filled, steps))
            yield {name: values[: len(starts)] for name, values in in_weatherbench_units(predictions).items()}

    for block in mine:
        starts = times[block.first : block.first + size]
        # another process may have written it meanwhile: a part done twice, or divided otherwise
        if block in lacking and not writer.has(block):
            if read is None or read[0] != block.first:
                filled = np.concatenate([starts, np.repeat(starts[-1:], size - len(starts))])
                read = block.first, _read(samples, filled, emulators[0])
            if scores is None:
                (found,) = members_of(starts, read[1], [block.member or 0])
            else:
                empty = _template(emulators[0], starts, steps, paths, wanted.members)
                found = _scored(scores, block, empty, members_of(starts, read[1], list(range(wanted.members))))
            writer.write(block, found)
        done += len(starts)
        progress(Event("rollouts", done, total, what))
        if should_stop() and done < total:
            raise Stopped(f"stopped after {done} of {total} {what}; they are kept")
    if part is None:
        if scores is not None:
            scores.finish(blocks)
        writer.finish(blocks)
    return part is None or bool(lacking)


def _scored(scores: BlockScores, block: Block, empty: xr.Dataset, members: Iterable[Fields]) -> Fields:
    """Score the members of a block, whose empty dataset is given; gives their mean."""
    whole = {str(name): np.empty(variable.shape, np.float32) for name, variable in empty.data_vars.items()}
    for number, member in enumerate(members):
        for name, values in member.items():
            into = whole[name][:, number]
            into[:] = values.reshape(into.shape)
    scores.add(
        block, empty.assign({name: (empty[name].dims, values, empty[name].attrs) for name, values in whole.items()})
    )
    return {name: single_mean(np.moveaxis(values, 1, 0)) for name, values in whole.items()}


def models(path: Path, paths: Paths) -> list[ReplayEmulator]:
    """The emulator of a run's checkpoint, and those of forecast.checkpoints; each makes every so manieth member.

    Raises
    ------
    UserError
        If one cannot be read, or is of other fields, another grid or another time step.
    """
    own = ReplayEmulator.from_checkpoint(path)
    emulators = [own]
    for place in paths.experiment.forecast.checkpoints:
        other = ReplayEmulator.from_checkpoint(paths.root / place)
        ours, theirs = _fields_of(own), _fields_of(other)
        if different := [name for name in ours if ours[name] != theirs[name]]:
            raise UserError(
                f"forecast.checkpoints names {place}, whose {' and '.join(different)} differ from those of {path}; "
                "members of one forecast need the same"
            )
        emulators.append(other)
    return emulators


def _fields_of(emulator: ReplayEmulator) -> dict[str, Any]:
    """What models of one ensemble have in common, by its name."""
    data, domain = emulator.experiment.data, emulator.domain
    return {
        "grid": (domain.latitude.tolist(), domain.longitude.tolist()),
        "variables and levels": (domain.channels, sorted(domain.static), data.inputs, data.targets, data.forcings),
        "time_step": data.time_step,
        "input_frames": data.input_frames,
        "transforms": data.transforms,
    }


def _template(
    emulator: ReplayEmulator, times: NDArray[np.datetime64], steps: int, paths: Paths, members: int
) -> xr.Dataset:
    dataset = forecast_template(emulator.experiment, emulator.domain, times, steps, members)
    if members == 1 < paths.experiment.forecast.members:
        dataset.attrs["mean_of_members"] = paths.experiment.forecast.members
    dataset.attrs["provenance"] = json.dumps({**provenance(), "hashes": paths.hashes})
    return dataset


def _read(samples: WindowReader, times: NDArray[np.datetime64], emulator: ReplayEmulator) -> Batch:
    """A batch for a forecast: the later frames are read only where a forcing comes from the store."""
    if not set(emulator.experiment.data.forcings) <= set(DERIVED_FORCINGS):
        return samples.read(times)
    stamps = samples.window(times)
    frames = np.full((*stamps.shape, *samples.data.frame_shape), np.nan, np.float32)
    now = emulator.experiment.data.input_frames
    for frame, window in zip(frames, stamps, strict=True):
        samples.data.read(window[:now], out=frame[:now])
    return Batch(frames, samples.derive(stamps))
