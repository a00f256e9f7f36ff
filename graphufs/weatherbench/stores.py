"""Scoring any stores in WeatherBench2's layout against each other, as its evaluation script does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from graphufs.errors import UserError
from graphufs.weatherbench.baselines import climatology as climatology_baseline
from graphufs.weatherbench.baselines import persistence
from graphufs.weatherbench.boxes import all_regions
from graphufs.weatherbench.climatology_store import Climatology
from graphufs.weatherbench.conventions import DEFAULT, Convention
from graphufs.weatherbench.fields import Channel
from graphufs.weatherbench.layout import Forecasts
from graphufs.weatherbench.scoring import Observer, score, usable_initial_times
from graphufs.weatherbench.seeps import SeepsClimatology
from graphufs.weatherbench.seeps_climatology import DRY_METRES
from graphufs.weatherbench.state import ScoreState
from graphufs.weatherbench.truth import DatasetTruth, land_sea_mask

BASELINES = {"persistence": persistence, "climatology": climatology_baseline}


@dataclass(frozen=True)
class Wanted:
    """What to score, and how."""

    variables: tuple[str, ...] | None = None
    """Where not given, all the forecasts have."""
    levels: tuple[float, ...] | None = None
    derived: tuple[str, ...] = ()
    """Variables to make of others, scored with the rest."""
    regions: tuple[str, ...] | None = None
    """Where not given, all of the convention; land versions where there is a land-sea mask."""
    baselines: tuple[str, ...] = ()
    """`persistence`, `climatology`."""
    convention: Convention = DEFAULT
    skipna: bool = False
    period: tuple[np.datetime64, np.datetime64] | None = None
    """The first and last initial time."""


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    states: dict[str, ScoreState]
    """By name: `emulator` for the forecasts, and the baselines."""
    excluded: dict[np.datetime64, np.datetime64]
    """The initial times that were left out, each with the first time its truth is missing."""


def evaluate(
    forecast: xr.Dataset,
    truth: xr.Dataset,
    climatology: xr.Dataset,
    wanted: Wanted,
    *,
    observers: Callable[[Forecasts], Sequence[Observer]] = lambda forecasts: (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Outcome:
    """Score forecasts and baselines with all metrics that apply.

    Wind vectors are scored where both components are; SEEPS where the climatology has its thresholds.

    Raises
    ------
    UserError
        If the stores do not follow the layout or do not fit each other.
    """
    names = None if wanted.variables is None else (*wanted.variables, *wanted.derived)
    forecasts = Forecasts(forecast, names, wanted.levels, derived=wanted.derived)
    made = [name for name in wanted.derived if name not in truth]
    observed = DatasetTruth(truth, forecasts.channels, forecasts.grid, derived=made)
    initial_times = forecasts.initial_times
    if wanted.period is not None:
        first, last = wanted.period
        initial_times = initial_times[(initial_times >= first) & (initial_times <= last)]
        if not initial_times.size:
            raise UserError(f"the forecast store has no initial time from {first} to {last}")
    usable, excluded = usable_initial_times(
        initial_times, forecasts.leads, observed.stamps, at_start=bool(wanted.baselines)
    )
    if unknown := [name for name in wanted.baselines if name not in BASELINES]:
        raise UserError(f"there is no baseline {', '.join(unknown)}; there are {', '.join(BASELINES)}")
    land = land_sea_mask(truth, forecasts.grid)
    regions = wanted.regions or all_regions(wanted.convention, land=land is not None)
    states = score(
        forecasts,
        observed,
        Climatology(climatology, forecasts.channels, forecasts.grid),
        usable,
        {name: BASELINES[name] for name in wanted.baselines},
        regions=regions,
        land_sea_mask=land,
        vectors=True,
        seeps=_seeps(climatology, forecasts, wanted.convention),
        convention=wanted.convention,
        skipna=wanted.skipna,
        observers=observers(forecasts),
        after_each=progress,
    )
    return Outcome(states, excluded)


def _seeps(climatology: xr.Dataset, forecasts: Forecasts, convention: Convention) -> SeepsClimatology | None:
    """The thresholds of the precipitation that has them; None where none has."""
    names = {name for name in DRY_METRES if f"{name}_seeps_threshold" in climatology}
    # the positions must stay those of all channels
    channels = [channel if channel.variable in names else Channel("") for channel in forecasts.channels]
    if not any(channel.variable for channel in channels):
        return None
    return SeepsClimatology(climatology, channels, forecasts.grid, convention)
