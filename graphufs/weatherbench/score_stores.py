"""Scoring any stores in WeatherBench2's layout against each other, as its evaluation script does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from graphufs.errors import UserError
from graphufs.grid.regridding import Method
from graphufs.storage.zarr_io import open_zarr
from graphufs.vocabulary.conventions import DEFAULT, DRY_METRES, Convention
from graphufs.vocabulary.derived_variables import DERIVED_VARIABLES, check_names
from graphufs.vocabulary.regions import all_regions
from graphufs.weatherbench.climatology.seeps import SeepsClimatology
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.inputs.forecasts import Forecasts
from graphufs.weatherbench.inputs.layout_checks import grid_of, renamed
from graphufs.weatherbench.inputs.level_suffixes import with_levels
from graphufs.weatherbench.inputs.truth import ClimatologyReader, Truth
from graphufs.weatherbench.on_grid import climatology_on, forecasts_on, land_on, truth_on
from graphufs.weatherbench.scoring.baselines import Baseline, persistence
from graphufs.weatherbench.scoring.baselines import climatology as climatology_baseline
from graphufs.weatherbench.scoring.parallel import merged, score_in_shares
from graphufs.weatherbench.scoring.score import Observer, score, usable_initial_times
from graphufs.weatherbench.scoring.score_state import ScoreState

BASELINES: dict[str, Baseline] = {"persistence": persistence, "climatology": climatology_baseline}


@dataclass(frozen=True)
class ScoreRequest:
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
    """The first and last initial time; of forecasts by valid time, the first and last valid time."""
    grid: str = "native"
    """Where scores are computed: the forecasts' own grid, or longitudes x latitudes."""
    regridding: Method = "conservative"
    by_valid: bool = False
    """Whether `time` of the forecasts is the valid time, as WeatherBench2's by_init=False has it."""


@dataclass(frozen=True)
class StorePaths:
    """Where the stores are, and what to put right in them."""

    forecast: str
    truth: str
    climatology: str
    land_sea_mask: str | None = None
    """A store with land_sea_mask; where not given, the truth's own, if any."""
    seeps: str | None = None
    """A climatology with SEEPS thresholds; where not given, `climatology`."""
    rename: Mapping[str, str] = field(default_factory=dict)
    """Names in the forecast store, by the name they have there."""
    pressure_level_suffixes: bool = False
    """Whether the forecasts' levels are part of names, as in geopotential_500."""
    analyses: bool = False
    """Whether the forecast store holds analyses, to be scored as forecasts of lead 0 h of themselves."""
    storage_options: Mapping[str, Any] = field(default_factory=dict)
    """For fsspec, used for all addresses with a protocol."""

    def open(self) -> OpenStores:
        """Open all of them.

        Raises
        ------
        UserError
            If one is not there or a name cannot be put right.
        """
        forecast = self._open(self.forecast)
        if self.pressure_level_suffixes:
            forecast = with_levels(forecast)
        if self.rename:
            forecast = renamed(forecast, self.rename, self.forecast)
        if self.analyses:
            if "prediction_timedelta" in forecast.dims:
                raise UserError(f"{self.forecast} has lead times: it holds forecasts, not analyses")
            fields = [name for name, array in forecast.items() if "time" in array.dims]  # no static ones
            forecast = forecast[fields].expand_dims(prediction_timedelta=np.array([0], "timedelta64[ns]"), axis=0)
        return OpenStores(
            forecast,
            self._open(self.truth),
            self._open(self.climatology),
            None if self.land_sea_mask is None else self._open(self.land_sea_mask),
            None if self.seeps is None else self._open(self.seeps),
        )

    def _open(self, address: str) -> xr.Dataset:
        return open_zarr(address, storage_options=self.storage_options)


@dataclass(frozen=True)
class OpenStores:
    """The stores, opened."""

    forecast: xr.Dataset
    truth: xr.Dataset
    climatology: xr.Dataset
    land_sea_mask: xr.Dataset | None = None
    seeps: xr.Dataset | None = None


@dataclass(frozen=True)
class ScoringResult:
    """What came of it."""

    states: dict[str, ScoreState]
    """By name: `emulator` for the forecasts, and the baselines."""
    excluded: dict[np.datetime64, np.datetime64]
    """The initial times that were left out, each with the first time its truth is missing."""
    grid: str = ""
    """The grid of the scores in words."""
    notes: tuple[str, ...] = ()
    """What was not scored, and why."""


@dataclass(frozen=True)
class ScoringJob:
    """Stores that were checked and fitted to each other, of which any initial times can be scored."""

    wanted: ScoreRequest
    forecasts: Forecasts
    truth: Truth
    climatology_reader: ClimatologyReader
    land: np.ndarray | None
    seeps: SeepsClimatology | None
    usable: np.ndarray
    excluded: dict[np.datetime64, np.datetime64]
    notes: tuple[str, ...]

    def score(
        self,
        times: np.ndarray,
        observers: Sequence[Observer] = (),
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> dict[str, ScoreState]:
        """The states of some of the usable initial times [time]."""
        wanted = self.wanted
        return score(
            self.forecasts,
            self.truth,
            self.climatology_reader,
            times,
            {name: BASELINES[name] for name in wanted.baselines},
            regions=wanted.regions or all_regions(wanted.convention, land=self.land is not None),
            land_sea_mask=self.land,
            vectors=True,
            seeps=self.seeps,
            convention=wanted.convention,
            skipna=wanted.skipna,
            observers=observers,
            after_each=progress,
        )

    def outcome(self, states: dict[str, ScoreState]) -> ScoringResult:
        """What came of scoring."""
        return ScoringResult(states, self.excluded, self.forecasts.grid.description, self.notes)


def evaluate(
    forecast: xr.Dataset,
    truth: xr.Dataset,
    climatology: xr.Dataset,
    wanted: ScoreRequest,
    *,
    land: xr.Dataset | None = None,
    thresholds: xr.Dataset | None = None,
    observers: Callable[[Forecasts], Sequence[Observer]] = lambda forecasts: (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ScoringResult:
    """Score forecasts and baselines with all metrics that apply; see `prepare_scoring`."""
    ready = prepare_scoring(OpenStores(forecast, truth, climatology, land, thresholds), wanted)
    return ready.outcome(ready.score(ready.usable, observers(ready.forecasts), progress))


def evaluate_stores(
    stores: StorePaths,
    wanted: ScoreRequest,
    *,
    threads: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> ScoringResult:
    """Like `evaluate`, from addresses, on threads or on the dask workers of `graphufs.parallel.over`.

    Raises
    ------
    Stopped
        If `should_stop()` turned true.
    """
    ready = prepare_scoring(stores.open(), wanted)

    def here(times: np.ndarray, advance: Callable[[], None]) -> dict[str, ScoreState]:
        # what reads stores keeps what it read last: no two threads can use the same
        own = ready if len(times) == len(ready.usable) else prepare_scoring(stores.open(), wanted)
        return own.score(times, progress=lambda done, total: advance())

    there = partial(_score_stores, stores, wanted)
    states = score_in_shares(
        ready.usable, here, there, merged, threads=threads, progress=progress, should_stop=should_stop
    )
    return ready.outcome(states)


def _score_stores(stores: StorePaths, wanted: ScoreRequest, times: np.ndarray) -> dict[str, ScoreState]:
    return prepare_scoring(stores.open(), wanted).score(times)


def prepare_scoring(opened: OpenStores, wanted: ScoreRequest) -> ScoringJob:
    """Check stores and fit them to each other.

    Wind vectors are scored where both components are; SEEPS where the climatology has its thresholds.

    Raises
    ------
    UserError
        If the stores do not follow the layout or do not fit each other.
    """
    check_names(wanted.derived)
    new = tuple(DERIVED_VARIABLES[name].variable for name in wanted.derived)
    names = None if wanted.variables is None else (*wanted.variables, *new)
    forecasts = Forecasts(opened.forecast, names, wanted.levels, derived=wanted.derived, by_valid=wanted.by_valid)
    forecasts, method = forecasts_on(wanted.grid, forecasts, wanted.regridding)
    made = [name for name in wanted.derived if DERIVED_VARIABLES[name].variable not in opened.truth]
    truth = truth_on(forecasts.grid, opened.truth, forecasts.channels, method, made)
    climatology_reader = climatology_on(forecasts.grid, opened.climatology, forecasts.channels, method)
    if unknown := [name for name in wanted.baselines if name not in BASELINES]:
        raise UserError(f"there is no baseline {', '.join(unknown)}; there are {', '.join(BASELINES)}")
    if wanted.by_valid and "persistence" in wanted.baselines:
        raise UserError(
            "persistence needs the truth at the initial time, of which forecasts by valid time have one for each lead; "
            "leave the baseline out, or take forecasts by initial time"
        )
    times = _within(wanted.period, forecasts.initial_times)
    usable, excluded = usable_initial_times(times, forecasts.offsets, truth.stamps, at_start=bool(wanted.baselines))
    land = land_on(forecasts.grid, opened.truth if opened.land_sea_mask is None else opened.land_sea_mask, method)
    if opened.land_sea_mask is not None and land is None:
        raise UserError("the store given for the land-sea mask has no variable land_sea_mask")
    notes: tuple[str, ...] = ()
    seeps = None
    if opened.seeps is not None or forecasts.grid.agrees(grid_of(opened.climatology, "the climatology")):
        seeps = _seeps(opened.seeps, opened.climatology, forecasts, wanted.convention)
    elif any(name in DRY_METRES and f"{name}_seeps_threshold" in opened.climatology for name, _ in forecasts.channels):
        notes = ("no SEEPS: the climatology's thresholds lie on another grid, and cannot be regridded",)
    return ScoringJob(wanted, forecasts, truth, climatology_reader, land, seeps, usable, excluded, notes)


def _within(period: tuple[np.datetime64, np.datetime64] | None, times: np.ndarray) -> np.ndarray:
    """The initial times within a period."""
    if period is None:
        return times
    first, last = period
    inside = times[(times >= first) & (times <= last)]
    if not inside.size:
        raise UserError(f"the forecast store has no initial time from {first} to {last}")
    return inside


def _seeps(
    given: xr.Dataset | None, climatology: xr.Dataset, forecasts: Forecasts, convention: Convention
) -> SeepsClimatology | None:
    """The thresholds of the precipitation that has them; None where none has."""
    thresholds = climatology if given is None else given
    names = {name for name in DRY_METRES if f"{name}_seeps_threshold" in thresholds}
    # the positions must stay those of all channels
    channels = [channel if channel.variable in names else Channel("") for channel in forecasts.channels]
    if any(channel.variable for channel in channels):
        return SeepsClimatology(thresholds, channels, forecasts.grid, convention)
    if given is not None:
        raise UserError(
            f"the store given for SEEPS has thresholds of {', '.join(sorted(names)) or 'no precipitation'}; none of "
            "the scored variables is that"
        )
    return None
