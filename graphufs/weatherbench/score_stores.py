"""Scoring any stores in WeatherBench2's layout against each other, as its evaluation script does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import xarray as xr

from graphufs.errors import UserError
from graphufs.vocabulary.conventions import DRY_METRES, Convention
from graphufs.vocabulary.derived_variables import DERIVED_VARIABLES, check_names
from graphufs.vocabulary.regions import all_regions
from graphufs.weatherbench.climatology.seeps import SeepsClimatology
from graphufs.weatherbench.climatology.thresholds import Thresholds, thresholds_in
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.inputs.forecasts import Forecasts
from graphufs.weatherbench.inputs.layout_checks import grid_of
from graphufs.weatherbench.inputs.truth import ClimatologyReader, Truth
from graphufs.weatherbench.on_grid import climatology_on, forecasts_on, land_on, truth_on
from graphufs.weatherbench.score_request import OpenStores, ScoreRequest, StorePaths
from graphufs.weatherbench.scoring.baselines import Baseline, ProbabilisticClimatology, other_years, persistence
from graphufs.weatherbench.scoring.baselines import climatology as climatology_baseline
from graphufs.weatherbench.scoring.diagnostics import Diagnostics, diagnosed_leads
from graphufs.weatherbench.scoring.histograms import Histograms, merged_histograms
from graphufs.weatherbench.scoring.parallel import States, merged, score_in_shares
from graphufs.weatherbench.scoring.score import Observer, score, usable_initial_times
from graphufs.weatherbench.scoring.score_state import ScoreState

Share = tuple[States, Histograms | None, Diagnostics | None]
"""What comes of some initial times: states, histograms where forecasts are ensembles, maps and spectra if asked for."""

BASELINES: dict[str, Baseline] = {"persistence": persistence, "climatology": climatology_baseline}
PROBABILISTIC = "probabilistic_climatology"
"""A baseline that is an ensemble."""


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
    histograms: Histograms | None = None
    """Of ensembles: ranks, and members above thresholds."""
    diagnostics: Diagnostics | None = None
    """Maps and spectra, where asked for."""


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
    thresholds: Thresholds | None = None
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    ensemble: bool = False
    """Whether members are scored."""

    def score(
        self,
        times: np.ndarray,
        observers: Sequence[Observer] = (),
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Share:
        """What comes of some of the usable initial times [time]."""
        wanted, forecasts = self.wanted, self.forecasts
        regions = wanted.regions or all_regions(wanted.convention, land=self.land is not None)
        histograms = None
        if self.ensemble:
            quantiles = () if self.thresholds is None else self.thresholds.quantiles
            histograms = Histograms(forecasts.leads, forecasts.channels, regions, quantiles)
        diagnostics = self._diagnostics()
        own = () if diagnostics is None else (diagnostics,)
        states = score(
            self.forecasts,
            self.truth,
            self.climatology_reader,
            times,
            self.baselines,
            regions=regions,
            land_sea_mask=self.land,
            vectors=True,
            seeps=self.seeps,
            convention=wanted.convention,
            skipna=wanted.skipna,
            thresholds=self.thresholds,
            histograms=histograms,
            as_ensemble=self.ensemble,
            observers=(*observers, *own),
            member_observers=own,
            after_each=progress,
        )
        return states, histograms, diagnostics

    def _diagnostics(self) -> Diagnostics | None:
        """What keeps maps and spectra; None if none are asked for."""
        wanted, forecasts = self.wanted, self.forecasts
        if not wanted.map_leads:
            return None
        leads = diagnosed_leads(forecasts.leads, wanted.map_leads)
        return Diagnostics(
            forecasts.channels,
            forecasts.grid,
            leads,
            forecasts.leads,
            convention=wanted.convention,
            skipna=wanted.skipna,
        )

    def outcome(self, share: Share) -> ScoringResult:
        """What came of scoring."""
        states, histograms, diagnostics = share
        description = self.forecasts.grid.description
        return ScoringResult(states, self.excluded, description, self.notes, histograms, diagnostics)


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

    def here(times: np.ndarray, advance: Callable[[], None]) -> Share:
        # what reads stores keeps what it read last: no two threads can use the same
        own = ready if len(times) == len(ready.usable) else prepare_scoring(stores.open(), wanted)
        return own.score(times, progress=lambda done, total: advance())

    there = partial(_score_stores, stores, wanted)
    share = score_in_shares(
        ready.usable, here, there, _merge, threads=threads, progress=progress, should_stop=should_stop
    )
    return ready.outcome(share)


def _merge(one: Share, other: Share) -> Share:
    (states, counted, kept), (others, more, too) = one, other
    maps = None if kept is None or too is None else kept.merge(too)
    return merged(states, others), merged_histograms(counted, more), maps


def _score_stores(stores: StorePaths, wanted: ScoreRequest, times: np.ndarray) -> Share:
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
    if wanted.lagged is not None:
        forecasts = forecasts.lagged(wanted.lagged)
    forecasts, method = forecasts_on(wanted.grid, forecasts, wanted.regridding)
    made = [name for name in wanted.derived if DERIVED_VARIABLES[name].variable not in opened.truth]
    truth = truth_on(forecasts.grid, opened.truth, forecasts.channels, method, made)
    climatology_reader = climatology_on(forecasts.grid, opened.climatology, forecasts.channels, method)
    known = (*BASELINES, PROBABILISTIC)
    if unknown := [name for name in wanted.baselines if name not in known]:
        raise UserError(f"there is no baseline {', '.join(unknown)}; there are {', '.join(known)}")
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
    notes: list[str] = []
    seeps = None
    on_grid = forecasts.grid.agrees(grid_of(opened.climatology, "the climatology"))
    if opened.seeps is not None or on_grid:
        seeps = _seeps(opened.seeps, opened.climatology, forecasts, wanted.convention)
    elif any(name in DRY_METRES and f"{name}_seeps_threshold" in opened.climatology for name, _ in forecasts.channels):
        notes.append("no SEEPS: the climatology's thresholds lie on another grid, and cannot be regridded")
    baselines = {name: BASELINES[name] for name in wanted.baselines if name in BASELINES}
    if PROBABILISTIC in wanted.baselines:
        if forecasts.gaussian:
            raise UserError(f"{PROBABILISTIC} is an ensemble, and the forecasts are normal distributions: leave it out")
        valid, gaps = usable[:, None] + forecasts.offsets, wanted.convention == "WeatherBench2"
        years = wanted.years or other_years(truth, valid, gaps=gaps)
        baselines[PROBABILISTIC] = ProbabilisticClimatology(truth, years, valid, gaps=gaps)
        notes.append(f"the members of the probabilistic climatology are {', '.join(map(str, years))}")
    ensemble = forecasts.members is not None or wanted.as_ensemble or PROBABILISTIC in wanted.baselines
    if ensemble and forecasts.gaussian:
        raise UserError("normal distributions are scored as such, not as ensembles of one: leave --as-ensemble out")
    thresholds = None
    if wanted.quantiles or wanted.threshold_method or ensemble or forecasts.gaussian:
        if not (ensemble or forecasts.gaussian):
            raise UserError("quantiles are thresholds for ensembles and normal distributions: add --as-ensemble")
        thresholds = _thresholds(opened.climatology, forecasts, wanted, notes, on_grid=on_grid)
    return ScoringJob(
        wanted,
        forecasts,
        truth,
        climatology_reader,
        land,
        seeps,
        usable,
        excluded,
        tuple(notes),
        thresholds,
        baselines,
        ensemble,
    )


def _thresholds(
    climatology: xr.Dataset, forecasts: Forecasts, wanted: ScoreRequest, notes: list[str], *, on_grid: bool
) -> Thresholds | None:
    """The thresholds of events; a note where there are none."""
    asked = wanted.quantiles or wanted.threshold_method
    if not on_grid:
        problem = "the climatology's quantiles lie on another grid, and cannot be regridded"
        if asked:
            raise UserError(f"{problem}: leave --quantiles and --thresholds out, or score on the climatology's grid")
        notes.append(f"no scores at thresholds: {problem}")
        return None
    channels, grid = forecasts.channels, forecasts.grid
    found = thresholds_in(climatology, channels, grid, wanted.threshold_method, wanted.quantiles)
    if found is None:
        notes.append("no scores at thresholds: the climatology has neither X_quantile nor X_std of a scored variable X")
    elif lacking := sorted({name for at, (name, _) in enumerate(channels) if at not in found.positions}):
        notes.append(f"no scores at thresholds of {', '.join(lacking)}: the climatology has no quantiles of them")
    return found


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
