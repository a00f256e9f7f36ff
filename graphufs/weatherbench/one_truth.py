"""Scoring an experiment's forecasts against one truth: what it takes, and what comes of some initial times.

What is learnt from the training years (the climatology and how fast anomalies fade) lies below the root under its own
hash and is shared by all experiments that mean the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import xarray as xr

from graphufs.config.experiment import Experiment
from graphufs.data.dataset import PreparedData
from graphufs.replay.times import stamps_in, text
from graphufs.storage.checksums import Damaged, read_checked, write_checked
from graphufs.storage.paths import Paths, digest
from graphufs.storage.provenance import provenance
from graphufs.vocabulary.conventions import DRY_METRES, Convention
from graphufs.weatherbench.climatology.compute import day_of_year
from graphufs.weatherbench.climatology.seeps import SeepsClimatology
from graphufs.weatherbench.climatology.thresholds import thresholds_in
from graphufs.weatherbench.inputs.channels import VECTORS
from graphufs.weatherbench.inputs.layout_checks import grid_of
from graphufs.weatherbench.references import Reference, Report, climatology_of, open_reference
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.scoring.baselines import baselines, lag_correlation
from graphufs.weatherbench.scoring.diagnostics import Diagnostics, diagnosed_leads
from graphufs.weatherbench.scoring.histograms import Histograms, merged_histograms
from graphufs.weatherbench.scoring.parallel import States, merged
from graphufs.weatherbench.scoring.score import score, spatial_means, usable_initial_times

Share = tuple[States, Diagnostics | None, Histograms | None]
"""What comes of some initial times: states, maps and spectra where these are kept, and histograms of ensembles."""

VERTICAL_UNITS = {"fv3": "hPa", "mom6": "m"}


@dataclass(frozen=True)
class Ready:
    """What it takes to score an experiment's forecasts against one truth."""

    experiment: Experiment
    paths: Paths
    reference: Reference
    correlation: np.ndarray
    """Of truth and truth a lead later, [lead, channel], for damped persistence."""
    usable: np.ndarray
    """The initial times [time] that can be scored."""
    unusable: dict[str, str]
    """The others, and why."""

    @classmethod
    def open(
        cls, name: str, experiment: Experiment, paths: Paths, report: Report, forecasts: xr.Dataset | None = None
    ) -> Ready:
        """Open all, and make what is learnt from the training years where it is lacking.

        The `forecasts` are in their store's layout; where they are not given they are those of the store. Call with the
        climatology's lock held.

        Raises
        ------
        UserError
            If something cannot be read or does not fit, or no initial time has its truth.
        """
        reference = open_reference(name, experiment, paths, PreparedData.open(paths.data), report, forecasts)
        found = reference.forecasts
        correlation = _lag_correlation(experiment, paths, reference, report)
        usable, excluded = usable_initial_times(found.initial_times, found.leads, reference.usable)
        wanted = np.array(experiment.initial_times, "datetime64[ns]")
        unusable = {text(time): reference.lacking(at) for time, at in excluded.items()}
        unusable |= {text(time): "no forecast" for time in np.setdiff1d(wanted, found.initial_times)}
        return cls(experiment, paths, reference, correlation, usable, unusable)

    def score(self, times: np.ndarray, after_each: Callable[[int, int], None], forecasts: xr.Dataset) -> Share:
        """Score some usable initial times [time] of forecasts that are given."""
        own = open_again(self.experiment, self.paths, self.reference.name, forecasts)
        return score_times(self.experiment, own, self.correlation, times, after_each)

    def finished(self, share: Share) -> Scores:
        """The scores of all usable initial times."""
        experiment, reference, (states, diagnostics, histograms) = self.experiment, self.reference, share
        forecasts, name = reference.forecasts, reference.name
        attributes = {
            "independent_initial_times": independent(experiment, self.usable),
            "excluded_initial_times": dict(sorted(self.unusable.items())),
            "truth": reference.description,
            "truth_name": name,
            "not_scored": reference.left_out,
            "grid": forecasts.grid.description,
            "vertical": reference.vertical,
            "level_units": VERTICAL_UNITS[experiment.data.source.component],
            "native_levels": {
                f"{c.level:g}": c.native for c in PreparedData.open(self.paths.data).channels if c.level is not None
            },
            "climatology": climatology_of(name, experiment, self.paths, forecasts.channels),
            "climatology_period": reference.climatology.attrs.get("period", str(experiment.climatology_period)),
            "climatology_window_days": experiment.evaluation.climatology_window,
            "climatology_frames": reference.climatology.attrs.get("frames", 0),
            "climatology_days_without_data": days_without_data(reference.climatology, self.usable, forecasts.leads),
            "hashes": self.paths.hashes,
            "provenance": provenance(),
        }
        if histograms is not None:
            attributes["members"] = forecasts.members
        units = {name: forecasts.attributes(name) for name in sorted({one.variable for one in forecasts.channels})}
        components = {name: units[of[0]] for name, of in VECTORS.items() if of[0] in units}
        kept = None if diagnostics is None else diagnostics.dataset()
        counted = None if histograms is None else histograms.dataset()
        return Scores.from_states(states, attributes, units | components, kept, counted)


def _diagnostics(experiment: Experiment, reference: Reference) -> Diagnostics | None:
    """What keeps maps and spectra, at the leads asked for that were forecast; None if none are asked for."""
    options, leads = experiment.evaluation, reference.forecasts.leads
    if not options.map_leads:
        return None
    return Diagnostics(
        reference.forecasts.channels,
        reference.forecasts.grid,
        diagnosed_leads(leads, options.map_leads),
        leads,
        convention=options.convention,
        skipna=options.skipna,
    )


def open_again(experiment: Experiment, paths: Paths, name: str, forecasts: xr.Dataset | None = None) -> Reference:
    """A truth opened anew, whose climatology is there."""
    prepared = PreparedData.open(paths.data)
    return open_reference(name, experiment, paths, prepared, lambda *_: lambda done, total: None, forecasts)


def score_times(
    experiment: Experiment,
    reference: Reference,
    correlation: np.ndarray,
    times: np.ndarray,
    after_each: Callable[[int, int], None],
) -> Share:
    """Score usable initial times [time]; `after_each` is told the number done and of all."""
    options = experiment.evaluation
    diagnostics, forecasts = _diagnostics(experiment, reference), reference.forecasts
    regions = ("global", *options.regions)
    thresholds = histograms = None
    if forecasts.members is not None:
        if forecasts.grid.agrees(grid_of(reference.climatology, "the climatology")):
            thresholds = thresholds_in(reference.climatology, forecasts.channels, forecasts.grid)
        quantiles = () if thresholds is None else thresholds.quantiles
        histograms = Histograms(forecasts.leads, forecasts.channels, regions, quantiles)
    states = score(
        forecasts,
        reference.truth,
        reference.climatology_reader,
        times,
        baselines(correlation) | reference.floor,
        regions=regions,
        land_sea_mask=reference.land,
        vectors=options.vectors,
        seeps=_seeps(reference, options.convention),
        convention=options.convention,
        skipna=options.skipna,
        thresholds=thresholds,
        histograms=histograms,
        observers=() if diagnostics is None else (diagnostics,),
        member_observers=() if diagnostics is None else (diagnostics,),
        after_each=after_each,
    )
    return states, diagnostics, histograms


def merged_shares(one: Share, other: Share) -> Share:
    """What comes of the initial times of both."""
    (states, kept, counted), (others, too, more) = one, other
    maps = None if kept is None or too is None else kept.merge(too)
    return merged(states, others), maps, merged_histograms(counted, more)


def _seeps(reference: Reference, convention: Convention) -> SeepsClimatology | None:
    """The thresholds of precipitation, where the climatology has them on the grid of the scores."""
    channels = reference.forecasts.channels
    known = [f"{name}_seeps_threshold" for name, _ in channels if name in DRY_METRES]
    on_grid = reference.forecasts.grid.agrees(grid_of(reference.climatology, "the climatology"))
    if not known or not on_grid or not all(name in reference.climatology for name in known):
        return None
    return SeepsClimatology(reference.climatology, channels, reference.forecasts.grid, convention)


def _lag_correlation(experiment: Experiment, paths: Paths, reference: Reference, report: Report) -> np.ndarray:
    """The lag correlation [lead, channel] over the baselines' period, from its file if it was computed before."""
    truth, leads = reference.truth, reference.forecasts.leads
    hours = (leads / np.timedelta64(1, "h")).tolist()
    period = experiment.baseline_period
    options = experiment.evaluation
    grid = {} if options.grid == "native" else {"grid": options.grid, "regridding": options.regridding}
    if reference.source or options.derived:
        grid |= {"source": reference.source, "channels": ", ".join(map(str, truth.channels))}
    key = digest({"period": str(period), "lead_hours": hours, **grid})
    path = paths.climatology / f"lag-correlation-{key}.json"
    names = [str(channel) for channel in truth.channels]
    with contextlib.suppress(FileNotFoundError, Damaged, KeyError, TypeError):  # damaged, it is computed again
        by_channel = read_checked(path)["correlation"]
        return np.array([by_channel[name] for name in names], np.float64).T
    stamps = np.intersect1d(stamps_in(period, experiment.data.time_step), truth.stamps)
    correlation = lag_correlation(
        truth,
        reference.climatology_reader,
        stamps,
        leads,
        spatial_means(truth),
        progress=report("damped persistence", "initial times"),
    )
    by_channel = dict(zip(names, correlation.T.tolist(), strict=True))
    write_checked(path, {"period": str(period), "lead_hours": hours, "correlation": by_channel})
    return correlation


def days_without_data(climatology: xr.Dataset, initial_times: np.ndarray, leads: np.ndarray) -> int:
    """How many of the scored days of the year the climatology has no data for within its window.

    Scored are the initial times [time] plus the leads [lead]. 0 if the climatology does not say.
    """
    if "covered" not in climatology:
        return 0
    days = np.unique(day_of_year(initial_times[:, None] + leads))
    covered = climatology["covered"].values[:, days - 1]
    return int((~covered).any(axis=0).sum())


def independent(experiment: Experiment, initial_times: np.ndarray) -> int:
    """How many forecasts [time] use and verify on no time of the training and validation periods."""
    before = timedelta(hours=(experiment.data.input_frames - 1) * experiment.data.time_step)
    after = timedelta(hours=experiment.forecast.lead_time)
    seen = experiment.seen_periods.values()
    times = initial_times.astype("datetime64[s]").tolist()
    return sum(all(time + after < period.start or time - before > period.end for period in seen) for time in times)
