"""A model taken as it is: of a training without stages, whose experiment may only say what the model's own says.

Weights and statistics are those of another checkpoint, such as `graphufs import-deepmind` makes. Variables may have
other names and another order here, static fields come from the data here, and everything else has to be the same:
nothing learns what would differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from graphufs.config.identity import mark_of
from graphufs.config.model import Model
from graphufs.deepmind.export import labels_of
from graphufs.deepmind.initial_report import InitialReport
from graphufs.deepmind.matching import Common, Match, grouped
from graphufs.deepmind.npz import from_deepmind, to_deepmind
from graphufs.deepmind.rescaling import statistics_as_there
from graphufs.deepmind.warm_start import emulator_of
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.errors import UserError
from graphufs.grid.grid import Grid
from graphufs.vocabulary.variables import replay_name


def model_as_it_is(emulator: ReplayEmulator, source: Path) -> tuple[ReplayEmulator, InitialReport]:
    """An untrained emulator with weights and statistics of a checkpoint, and the report of its tensors.

    Raises
    ------
    UserError
        If there is no such checkpoint, or its model would be another one here.
    """
    there = emulator_of(source)
    common = Common.of(labels_of(emulator), labels_of(there))
    if told := [*_settings(emulator, there), *_channels("inputs", common.rows), *_channels("outputs", common.columns)]:
        raise UserError(
            f"training.stages has none, so that the model is that of {source} as it is, but {'; '.join(told)}. Let the "
            "experiment say what the model's own says, or give it a stage to learn the rest"
        )
    parameters, report = common.take(to_deepmind(emulator.network), to_deepmind(there.network), zero=False)
    taken = replace(emulator, network=from_deepmind(parameters), statistics=statistics_as_there(emulator, there))
    return taken, InitialReport(str(source), tuple(report))


def _settings(here: ReplayEmulator, there: ReplayEmulator) -> Iterator[str]:
    """What the experiments and the grids have different, but for variables."""
    for key, field in Model.model_fields.items():
        mine, theirs = getattr(here.experiment.model, key), getattr(there.experiment.model, key)
        if mark_of(field) is None and mine != theirs:
            yield f"model.{key} is {mine} here and {theirs} there"
    for key in ("time_step", "input_frames", "tisr_period"):
        mine, theirs = getattr(here.experiment.data, key), getattr(there.experiment.data, key)
        if mine != theirs:
            yield f"data.{key} is {mine} here and {theirs} there"
    mine, theirs = (
        {replay_name(name): transform for name, transform in one.experiment.data.transforms.items()}
        for one in (here, there)
    )
    if mine != theirs:
        yield "data.transforms are others here than there"
    grids = [Grid(one.domain.latitude, one.domain.longitude) for one in (here, there)]
    if not grids[0].agrees(grids[1]):
        yield f"the grid is {grids[0].description} here and {grids[1].description} there"
    if here.domain.on_pressure_levels != there.domain.on_pressure_levels:
        levels = [
            "pressure levels" if one.domain.on_pressure_levels else "layers that follow the ground"
            for one in (here, there)
        ]
        yield f"levels are {levels[0]} here and {levels[1]} there"


def _channels(kind: str, match: Match) -> Iterator[str]:
    """Which channels are on one side alone, or stand for others."""
    taken = set(match.places)
    mine = [label for label, place in zip(match.labels, match.places, strict=True) if place is None]
    theirs = [label for place, label in enumerate(match.theirs) if place not in taken]
    if mine:
        yield f"{grouped(mine, match.labels)} is among the {kind} here and not there"
    if theirs:
        yield f"{grouped(theirs, match.theirs)} is among the {kind} there and not here"
    yield from match.stand_ins
