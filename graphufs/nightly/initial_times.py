"""Which initial times belong to nights, and of which one the data are there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from graphufs.config.base import Period
from graphufs.config.data import EMBEDDED
from graphufs.config.experiment import Experiment
from graphufs.data import late
from graphufs.data.manifest import Manifest
from graphufs.replay.times import listing, stamps_in
from graphufs.sources.experiment_source import open_at
from graphufs.storage.paths import Paths


def nightly_period(experiment: Experiment) -> Period:
    """The stretch in which all stamps of nightly forecasts lie: from the evaluation period's start."""
    evaluation = experiment.data.evaluation
    return Period(start=evaluation.start, end=experiment.nightly.until or evaluation.end)


def nightly_times(experiment: Experiment) -> tuple[datetime, ...]:
    """The initial times of all nights: of forecasts that use and verify on no time the model was made with.

    These are the training, validation and normalization period, as far as data.allow_overlap does not name them.
    """
    data, normalization, seen = experiment.data, experiment.normalization, experiment.seen_periods
    if normalization.url is None and normalization.period is not None:
        seen["normalization"] = normalization.period
    kept = [period for name, period in seen.items() if name not in data.allow_overlap]
    times = experiment.initial_times_in(nightly_period(experiment))
    windows = experiment.windows(times)
    return tuple(time for time, window in zip(times, windows, strict=True) if not any(map(window.overlaps, kept)))


@dataclass(frozen=True)
class SourceTimes:
    """The stamps a source has, and those that `prepare` found to have missing values, datetime64[ns], sorted.

    Stamps whose values have come since are not among the latter: the next `prepare` takes them.
    """

    stamps: np.ndarray
    flawed: np.ndarray

    @classmethod
    def look(cls, experiment: Experiment, root: Path) -> SourceTimes:
        """Look at the experiment's source; the embedded world is taken as far as it is made.

        Raises
        ------
        UserError
            If the source cannot be opened.
        """
        paths, source = Paths(experiment, root), experiment.data.source
        manifest = Manifest.read(paths.data)
        flawed = np.array(sorted(manifest.invalid if manifest is not None else ()), "datetime64[ns]")
        if source.url != EMBEDDED:
            store = open_at(experiment)
            if manifest is not None:
                flawed = np.setdiff1d(flawed, late.come_since(experiment, paths.data, manifest, store))
            return cls(store.times, flawed)
        from graphufs.replay.synthetic.store import STORE, present

        if present(paths.world) is None:
            return cls(np.empty(0, "datetime64[ns]"), flawed)
        return cls(open_at(experiment, str(paths.world / STORE)).times, flawed)

    def lacks(self, experiment: Experiment, times: Iterable[datetime]) -> dict[datetime, str]:
        """For each initial time whose forecast or score cannot be had, why not."""
        lacking: dict[datetime, str] = {}
        times = tuple(times)
        windows = experiment.windows(times)
        needed = np.array([stamps_in(window, experiment.data.time_step) for window in windows], "datetime64[ns]")
        missing, flawed = ~np.isin(needed, self.stamps), np.isin(needed, self.flawed)
        for time, stamps, absent, bad in zip(times, needed, missing, flawed, strict=True):
            if absent.any():
                lacking[time] = f"no data at {listing(stamps[absent])}"
            elif bad.any():
                lacking[time] = f"missing values at {listing(stamps[bad])}"
        return lacking
