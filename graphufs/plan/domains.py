"""The grid and channels of an experiment before anything is made of it: from its data, its source, or by name."""

from __future__ import annotations

from pathlib import Path

from graphufs.config.data import EMBEDDED
from graphufs.config.experiment import Experiment
from graphufs.data import preflight
from graphufs.data.channels import PreparedChannel
from graphufs.data.dataset import PreparedData
from graphufs.data.selection import prepared_variables
from graphufs.deepmind.names import ATMOSPHERIC, SURFACE
from graphufs.emulator.domain import Domain
from graphufs.errors import CannotOpen, UserError
from graphufs.grid.regridding import named_grid
from graphufs.storage.paths import Paths, thickness_variable
from graphufs.vocabulary.variables import BY_REPLAY, BY_WEATHERBENCH, naming

MOST_POINTS = 50_000_000
"""Of a named grid: some twenty kilometres by two, or 5 km everywhere."""
REPLAYS_OWN = frozenset("dzdt dpres o3mr clwmr icmr rwmr snmr grle nicp ntrnc cldfra".split())
"""Replay's variables with levels that have no other name."""


def domain_of(experiment: Experiment, root: Path, grid: str | None) -> tuple[Domain, str, PreparedData | None]:
    """Where an experiment's fields live, in words where that is from, and the prepared data if it is from these.

    Shapes are right in any case; where data are not prepared, fields are zeros and nothing is masked.

    Raises
    ------
    UserError
        If a grid is named that is none, or none is and neither data nor source can be looked at.
    """
    if grid is not None:
        return _named(experiment, grid), f"the grid {grid} that was named", None
    folder = Paths(experiment, root).data
    if folder.is_dir():
        data = PreparedData.open(folder)
        return Domain.of(data), "the prepared data", data
    try:
        store, selection = preflight.look(experiment, root)
    except CannotOpen as error:
        raise UserError(
            f"{error}. Where the source cannot be looked at, name its grid by longitudes x latitudes, as in --grid "
            "360x181"
        ) from error
    where = "the embedded world" if experiment.data.source.url == EMBEDDED else "its source"
    outline = Domain.outline(
        store.latitude,
        store.longitude,
        selection.channels,
        selection.static,
        on_pressure_levels=store.on_pressure_levels,
    )
    return outline, where, None


def _named(experiment: Experiment, name: str) -> Domain:
    grid = named_grid(name)
    if (points := grid.shape[0] * grid.shape[1]) > MOST_POINTS:
        raise UserError(f"--grid {name} has {points:,} points; at most {MOST_POINTS:,} can be planned for")
    component = experiment.data.source.component
    if component != "fv3":
        raise UserError(
            f"--grid {name} goes with variables of the atmosphere; which of {component}'s have levels, only its store "
            "says. Leave --grid out where data or source can be looked at"
        )
    channels: list[PreparedChannel] = []
    static = []
    for variable in prepared_variables(experiment):
        kind = _dimensions(variable, component)
        if kind == "static" or (kind is None and variable.endswith("_static")):
            static.append(variable)
        elif kind == "levels":
            levels = sorted(experiment.data.levels)
            if not levels:
                raise UserError(f"{variable} has levels, but data.levels names none")
            channels += [PreparedChannel(variable, level, level) for level in levels]
        else:
            channels.append(PreparedChannel(variable))
    data = experiment.data
    an_analysis = data.source.url != EMBEDDED and naming({*data.inputs, *data.targets}) == "WeatherBench2"
    return Domain.outline(grid.latitude, grid.longitude, tuple(channels), tuple(static), on_pressure_levels=an_analysis)


def _dimensions(variable: str, component: str) -> str | None:
    """Whether a variable has levels, is at the surface or static, whoever's name it is; None: unknown."""
    if variable in ATMOSPHERIC | REPLAYS_OWN or variable == thickness_variable(component):
        return "levels"
    known = BY_REPLAY.get(variable) or BY_WEATHERBENCH.get(variable)
    return known.dimensions if known else "surface" if variable in SURFACE else None


def surface_by_default(experiment: Experiment) -> list[str]:
    """The variables that a named grid takes for fields without levels because nothing is known of them."""
    component = experiment.data.source.component
    unknown = [name for name in prepared_variables(experiment) if _dimensions(name, component) is None]
    return [name for name in unknown if not name.endswith("_static")]
