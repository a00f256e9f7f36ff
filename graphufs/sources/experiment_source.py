"""The source that an experiment names, opened; the embedded world is made first, where that is not done."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from graphufs.config.data import EMBEDDED, Kind
from graphufs.config.experiment import Experiment
from graphufs.replay.layer_means import with_layers
from graphufs.replay.source import Allowances, ReplayStore
from graphufs.sources.kinds import open_source_at
from graphufs.steps import Progress, ShouldStop
from graphufs.storage.credentials import options_of
from graphufs.storage.in_flight import Limits
from graphufs.storage.paths import Paths


def open_source(
    experiment: Experiment, root: Path, until: np.datetime64, *, progress: Progress, should_stop: ShouldStop
) -> ReplayStore:
    """Open the experiment's source; the embedded world is made first, as far as `until`, where that is not done.

    Raises
    ------
    UserError
        If the source cannot be opened.
    Stopped
        If `should_stop()` turned true while the embedded world was made.
    """
    source = experiment.data.source
    url = source.url
    if url == EMBEDDED:
        from graphufs.replay.synthetic.store import (
            ensure_world,
        )  # brings the world's model, which a real source needs none of

        folder = Paths(experiment, root).world
        url = str(ensure_world(folder, source.world, until, progress=progress, should_stop=should_stop))
    return open_at(experiment, url)


def open_at(experiment: Experiment, url: str | None = None) -> ReplayStore:
    """Open the store of the experiment's component at its source's URL, or at another, with what it lets pass.

    Raises
    ------
    UserError
        If it cannot be opened or is not such a store.
    """
    source, data = experiment.data.source, experiment.data
    allowances = Allowances(data.region == "limited", data.accept_implausible)
    kind: Kind = "replay" if source.url == EMBEDDED else source.kind
    options = options_of(source)
    limits, _ = Limits.split(options)
    store = open_source_at(url or source.url, kind, source.component, options, allowances)
    store.limits = limits
    return with_layers(store, data.interfaces)
