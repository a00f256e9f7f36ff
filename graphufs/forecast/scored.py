"""Members that are scored as they are made, so that they need not be stored: what `forecast.keep_members: false` does.

Beside the unfinished store of the members' mean lie the scores of each block of initial times against each truth. They
are kept by initial time, so those of the blocks, put together, are those of the forecasts as a whole, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce
from pathlib import Path

import numpy as np
import xarray as xr

from graphufs.config.experiment import Experiment
from graphufs.errors import UserError
from graphufs.forecast.store import Block
from graphufs.steps import Event, Progress, ShouldStop
from graphufs.storage.lock import locked
from graphufs.storage.paths import Paths
from graphufs.storage.zarr_io import store_damage
from graphufs.weatherbench.evaluate import reporting
from graphufs.weatherbench.one_truth import Ready, Share, merged_shares
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.scoring.diagnostics import Diagnostics
from graphufs.weatherbench.scoring.histograms import Histograms


class BlockScores:
    """The scores of an ensemble's blocks, in a folder; after a kill those that are there stay.

    `template` is the empty dataset of all members.

    Raises
    ------
    UserError
        If no initial time has its truth, or a truth cannot be read or does not fit.
    Stopped
        After a polite stop.
    """

    def __init__(
        self,
        experiment: Experiment,
        paths: Paths,
        template: xr.Dataset,
        folder: Path,
        progress: Progress,
        should_stop: ShouldStop,
    ) -> None:
        self._paths, self._folder = paths, folder
        report = reporting(progress, should_stop)
        waiting = Event("waiting for another process that evaluates with the same climatology", 0, 1)
        with locked(paths.climatology, should_stop=should_stop, waiting=lambda: progress(waiting)):
            self._truths = [
                Ready.open(name, experiment, paths, report, template) for name in experiment.evaluation.truths
            ]

    def add(self, block: Block, forecasts: xr.Dataset) -> None:
        """Score the members of a block, in their store's layout; initial times without truth are left out."""
        for ready in self._truths:
            times = np.intersect1d(forecasts["time"].values, ready.usable)
            if times.size:
                share = ready.score(times, lambda done, total: None, forecasts)
                _as_scores(share).write(self._place(ready, block))

    def finish(self, blocks: Iterable[Block]) -> None:
        """Write the scores of all blocks where `evaluate` leaves those of stored forecasts."""
        blocks = list(blocks)
        for ready in self._truths:
            name = ready.reference.name
            whole = reduce(merged_shares, self._shares(ready, blocks))
            ready.finished(whole).write(self._paths.scores_against(name))

    def _shares(self, ready: Ready, blocks: Iterable[Block]) -> Iterator[Share]:
        for block in blocks:
            if (place := self._place(ready, block)).is_dir():
                yield _as_share(Scores.open(place))

    def _place(self, ready: Ready, block: Block) -> Path:
        return self._folder / f"{ready.reference.name}-{block.mark}.zarr"


def scores_are_there(paths: Paths) -> bool:
    """Whether the scores against all of an experiment's truths are there and whole."""
    places = [paths.scores_against(name) for name in paths.experiment.evaluation.truths]
    for place in places:
        if not place.is_dir() or store_damage(place) is not None:
            return False
        try:
            scores = Scores.open(place)
        except UserError:
            return False
        if scores.table_damage(place) is not None:
            return False
    return True


def _as_scores(share: Share) -> Scores:
    """What comes of some initial times as a store that can be written."""
    states, diagnostics, histograms = share
    kept = None if diagnostics is None else diagnostics.dataset()
    counted = None if histograms is None else histograms.dataset()
    return Scores.from_states(states, {}, {}, kept, counted)


def _as_share(scores: Scores) -> Share:
    """What `_as_scores` was given."""
    kept = None if scores.diagnostics is None else Diagnostics.restore(scores.diagnostics)
    counted = None if scores.histograms is None else Histograms.restore(scores.histograms)
    return scores.states(), kept, counted
