"""The step `normalize`: moments month by month, merged into mean, standard deviation and that of differences.

The moments of each month are saved as they are made. A killed step goes on after the last month, and another period
computes only the months it adds.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from graphufs import parallel
from graphufs.config.experiment import Experiment
from graphufs.data.channels import PreparedChannel, variable_slices
from graphufs.data.dataset import PreparedData
from graphufs.errors import UserError
from graphufs.normalization.blocks import (
    Block,
    Task,
    compute_block,
    load_block,
    plan_blocks,
    save_block,
    static_moments,
)
from graphufs.normalization.moments import State, merge_states
from graphufs.normalization.statistics import PROVENANCE, Statistics, moments_damage, statistics_damage
from graphufs.normalization.transforms import statistics_attributes, statistics_names
from graphufs.replay.levels import same_level
from graphufs.replay.times import listing, stamps_in
from graphufs.steps import Event, Progress, ShouldStop
from graphufs.storage.atomic import new_folder
from graphufs.storage.checksums import (
    CHECKSUMS,
    Damaged,
    differences,
    files_of,
    forget_files,
    known_files,
    note_files,
    read_checked,
    write_checked,
)
from graphufs.storage.credentials import options_of
from graphufs.storage.lock import locked
from graphufs.storage.paths import Paths
from graphufs.storage.provenance import provenance
from graphufs.vocabulary.variables import DERIVED_FORCINGS

DERIVED_DIMENSIONS = {
    "day_progress_cos": ("time", "longitude"),
    "day_progress_sin": ("time", "longitude"),
    "toa_incident_solar_radiation": ("time", "latitude", "longitude"),
    "year_progress_cos": ("time",),
    "year_progress_sin": ("time",),
}
"""What the forcings computed from time and place depend on."""


def run(experiment: Experiment, root: Path, *, progress: Progress, should_stop: ShouldStop) -> dict[str, Any]:
    """Make the statistics of the experiment's normalization period; see graphufs.steps.Run.

    None are made for an experiment without stages of training, whose model has its own.

    Raises
    ------
    UserError
        If data are not prepared, published statistics do not fit, or a variable does not vary.
    Stopped
        After a polite stop; the months done are kept.
    """
    paths = Paths(experiment, root)
    data = PreparedData.open(paths.data)
    folder = paths.statistics()
    if not experiment.training.stages:
        told = "training.stages has none, so that the statistics are those of training.init_from"
        return {"status": "unchanged", "folder": None, "stamps": 0, "left_out": 0, "message": told}
    wanted = stamps_in(experiment.statistics_period, data.time_step)
    published = experiment.normalization.url is not None
    stamps = wanted if published else _usable(data, wanted, experiment)
    fingerprint = _fingerprint(stamps)
    if _is_done(folder, fingerprint, paths.moments):
        return _result(folder, "unchanged", stamps, wanted)

    waiting = Event("waiting for another process that makes the same statistics", 0, 1)
    with locked(paths.moments, should_stop=should_stop, waiting=lambda: progress(waiting)):
        if _is_done(folder, fingerprint, paths.moments):
            return _result(folder, "unchanged", stamps, wanted)
        _remove_damaged(paths.moments)
        blocks = plan_blocks(stamps, data.time_step)
        task = _task(experiment, data)
        state = _moments(experiment, paths, data, blocks, task, progress, should_stop)
        if published:
            own = _statistics(state, data)
            statistics = published_statistics(experiment, data.channels, data.static).updated(own)
        else:
            state |= {name: static_moments(data, name, task) for name in data.static}
            statistics = _statistics(state, data)
        where = experiment.normalization.url or f"the period {experiment.statistics_period}"
        statistics.check(experiment.data.targets, where)
        origin = _origin(experiment, stamps)
        with new_folder(folder) as temporary:
            stored_as = statistics_names(experiment.data.transforms, statistics.mean)
            statistics.save(temporary, _attributes(experiment, data, statistics), origin, stored_as)
            made_of = origin | {"fingerprint": fingerprint, "stamps": int(stamps.size)}
            write_checked(temporary / PROVENANCE, made_of | {"files": files_of(temporary, without=PROVENANCE)})
    return _result(folder, "completed", stamps, wanted)


def _usable(data: PreparedData, wanted: np.ndarray, experiment: Experiment) -> np.ndarray:
    absent = np.setdiff1d(wanted, np.union1d(data.stamps, data.missing))
    if absent.size:
        raise UserError(
            f"{absent.size} stamps of the normalization period {experiment.statistics_period} are not prepared "
            f"({listing(absent)}); run `graphufs prepare` with this experiment first"
        )
    stamps = wanted[data.usable(wanted)]
    if not stamps.size:
        raise UserError(f"the normalization period {experiment.statistics_period} has no usable stamp")
    return stamps


def _task(experiment: Experiment, data: PreparedData) -> Task:
    """What to add up: everything prepared, and the forcings computed from time and place.

    Those are always computed, also beside published statistics, since they depend on the experiment (tisr_period).
    """
    settings = experiment.data
    derived = tuple(sorted({*settings.inputs, *settings.forcings} & set(DERIVED_FORCINGS)))
    stored = () if experiment.normalization.url else data.variables
    return Task(experiment.normalization.weights, stored, derived, settings.tisr_period, settings.transforms)


def _moments(
    experiment: Experiment,
    paths: Paths,
    data: PreparedData,
    blocks: list[Block],
    task: Task,
    progress: Progress,
    should_stop: ShouldStop,
) -> State:
    """The moments of all blocks, merged in order of time whatever order they were computed in."""
    for leftover in paths.moments.glob(".*.tmp"):
        leftover.unlink()
    names = (*task.variables, *task.derived)
    states: list[State | None] = [
        load_block(paths.moments / f"{block.name}.npz", block, names) if names else {} for block in blocks
    ]
    done = sum(state is not None for state in states)
    progress(Event("adding up moments", done, len(blocks), "months"))
    lacking = [index for index, state in enumerate(states) if state is None]
    with parallel.connected(experiment.normalization.dask, "normalization.dask"):
        computing = parallel.map_unordered(
            partial(compute_block, str(data.folder), task=task),
            [blocks[index] for index in lacking],
            should_stop=should_stop,
            stopped=lambda: f"stopped after {done} of {len(blocks)} months, which are kept",
            here=partial(compute_block, data, task=task),
            threads=len(os.sched_getaffinity(0)),
        )
        with closing(computing):
            for number, computed in computing:
                index = lacking[number]
                place = paths.moments / f"{blocks[index].name}.npz"
                forget_files(paths.moments, [place.name])
                save_block(place, blocks[index], computed)
                note_files(paths.moments, [place.name])
                states[index] = computed
                done += 1
                progress(Event("adding up moments", done, len(blocks), "months"))
    there = [f"{block.name}.npz" for block in blocks if names]
    note_files(paths.moments, sorted(set(there) - known_files(paths.moments).keys()))
    merged: State = {}
    for state in states:
        merged = merge_states(merged, state or {})
    return merged


def _statistics(state: State, data: PreparedData) -> Statistics:
    slices = variable_slices(data.channels)
    mean, std, diffs_std, native, vertical = {}, {}, {}, {}, {}
    for name, moments in state.items():
        mean[name], std[name] = moments.values.finalize()
        if name not in data.static:
            diffs_std[name] = moments.differences.finalize()[1]
        dimension = data.facts[name].vertical if name in data.facts else None
        if dimension is not None:
            native[name] = np.array([channel.native for channel in data.channels[slices[name]]], np.float64)
            vertical[name] = dimension
    return Statistics(mean, std, diffs_std, native, vertical)


def published_statistics(
    experiment: Experiment, channels: Sequence[PreparedChannel], static: Iterable[str]
) -> Statistics:
    """Published statistics of the stored variables, at the native levels of the data.

    Of a variable with a transform they are those of `log_<name>`. What floor, if any, the publisher took is not known.

    Raises
    ------
    UserError
        If they cannot be read, or are for other levels.
    """
    normalization, transforms = experiment.normalization, experiment.data.transforms
    url = normalization.url or ""
    levels = sorted(experiment.data.levels)
    slices = variable_slices(channels)
    names = (*slices, *static)
    statistics = Statistics.open(
        url,
        names,
        levels,
        options_of(normalization),
        experiment.data.level_match,
        stored_as=statistics_names(transforms, names),
    )
    for name, places in slices.items():
        own = channels[places]
        for channel, level in zip(own, statistics.native.get(name, ()), strict=False):
            if channel.native is None or not same_level(level, channel.native):
                raise UserError(
                    f"the statistics of {name} at {url} are for the level {level:.7g}, but the data have "
                    f"{channel.native}; use statistics of the same vertical grid"
                )
        if len(own) != statistics.mean[name].size:
            raise UserError(
                f"the statistics of {name} at {url} have {statistics.mean[name].size} levels, the data {len(own)}"
            )
    return statistics


def _attributes(
    experiment: Experiment, data: PreparedData, statistics: Statistics
) -> dict[str, dict[str, dict[str, Any]]]:
    period = experiment.statistics_period.model_dump(mode="json")
    weights = {"none": "", "area": ", weighted by area", "volume": ", weighted by volume"}
    suffix = "" if experiment.normalization.url else weights[experiment.normalization.weights]
    operations = {
        "mean": "average",
        "std": "standard deviation",
        "diffs_std": f"standard deviation of temporal {experiment.data.time_step} hour difference",
    }
    attributes: dict[str, dict[str, dict[str, Any]]] = {}
    for kind, operation in operations.items():
        attributes[kind] = {}
        for name in getattr(statistics, kind):
            facts = data.facts.get(name)
            own = facts.dimensions if facts else DERIVED_DIMENSIONS[name]
            dimensions = [dimension for dimension in own if not facts or dimension != facts.vertical]
            notes = facts.attributes if facts else {}
            transform = experiment.data.transforms.get(name)
            attributes[kind][name] = {
                **(statistics_attributes(transform, notes) if transform else notes),
                "description": f"{operation} over {dimensions}{suffix}",
                "stats_start_date": period["start"],
                "stats_end_date": period["end"],
            }
    return attributes


def _origin(experiment: Experiment, stamps: np.ndarray) -> dict[str, str]:
    data = experiment.data
    return {
        "created_by": "graphufs normalize",
        "source": experiment.normalization.url or data.source.url,
        "component": data.source.component,
        "period": str(experiment.statistics_period),
        "time_step": f"{data.time_step}h",
        "weights": experiment.normalization.weights if not experiment.normalization.url else "as published",
        "tisr_period": f"{data.tisr_period}h",
        "stamps_used": str(stamps.size),
        **{name: str(value) for name, value in provenance().items() if name in ("created", "commit", "versions")},
    }


def _fingerprint(stamps: np.ndarray) -> str:
    return hashlib.sha256(stamps.astype("datetime64[h]").astype("<i8").tobytes()).hexdigest()[:16]


def _is_done(folder: Path, fingerprint: str, moments: Path) -> bool:
    """Whether the statistics of these stamps are there, and whole, and so are the moments they are made of."""
    try:
        made = read_checked(folder / PROVENANCE).get("fingerprint")
    except (FileNotFoundError, Damaged):
        return False
    return bool(made == fingerprint) and statistics_damage(folder) is None and not moments_damage(moments)


def _remove_damaged(moments: Path) -> None:
    """Take away months that are not what was written, to be computed again where they are wanted."""
    if not moments_damage(moments):
        return
    files = known_files(moments)
    broken = [name for name in files if any(differences(moments, {name: files[name]}, thorough=True))]
    (moments / CHECKSUMS).unlink(missing_ok=True) if not files else forget_files(moments, broken)
    for name in broken:
        (moments / name).unlink(missing_ok=True)


def _result(folder: Path, status: str, stamps: np.ndarray, wanted: np.ndarray) -> dict[str, Any]:
    return {
        "status": status,
        "folder": str(folder),
        "stamps": int(stamps.size),
        "left_out": int(wanted.size - stamps.size),
    }
