"""What an experiment takes from its source, and whether it can: a look before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from graphufs.config.data import EMBEDDED
from graphufs.config.experiment import Experiment
from graphufs.data.manifest import Manifest
from graphufs.data.sample import check_sample
from graphufs.data.segments import costs
from graphufs.data.selection import Selection, check
from graphufs.data.source_identity import require_same_source
from graphufs.errors import UserError, refused
from graphufs.replay.layer_means import with_layers
from graphufs.replay.source import ReplayStore
from graphufs.replay.synthetic.outline import embedded_outline
from graphufs.replay.times import listing, stamps_in, text, wanted_stamps
from graphufs.sources.experiment_source import open_at
from graphufs.storage.paths import Paths


@refused("the source")
def preflight(experiment: Experiment, root: Path) -> dict[str, Any]:
    """Look at the source and say what an experiment takes from it; nothing is written and no world is made.

    Raises
    ------
    UserError
        See `look`.
    """
    return facts(experiment, *look(experiment, root))


@refused("the source")
def look(experiment: Experiment, root: Path) -> tuple[ReplayStore, Selection]:
    """The source, opened and looked at, and what the experiment takes from it.

    Raises
    ------
    UserError
        For everything that would go wrong: axes, units or values that are no Replay's, an unknown variable, a level not
        in the store, a period outside the record, a time step the stamps cannot give, another source than the one that
        was prepared, too few samples for a batch.
    """
    wanted = wanted_stamps(experiment)
    embedded = experiment.data.source.url == EMBEDDED
    outline = with_layers(embedded_outline(wanted[-1]), experiment.data.interfaces) if embedded else None
    store = open_at(experiment) if outline is None else outline
    selection = check(store, experiment)
    if not embedded:
        folder = Paths(experiment, root).data
        manifest = Manifest.read(folder)
        if manifest is not None:
            require_same_source(manifest, folder, store, selection)
        check_sample(store, selection, np.intersect1d(wanted, store.times), experiment.data.targets)
    _check_samples(experiment, store)
    return store, selection


def _check_samples(experiment: Experiment, store: ReplayStore) -> None:
    """Refuse stages that could not fill a batch even if no stamp of the source had missing values."""
    step, frames, size = experiment.data.time_step, experiment.data.input_frames, experiment.training.batch_size
    stamps = stamps_in(experiment.data.training, step)
    there = np.isin(stamps, store.times)
    for stage in experiment.training.stages:
        window = frames + stage.rollout
        whole = np.convolve(there, np.ones(window, int), "valid") == window if stamps.size >= window else np.zeros(0)
        if whole.sum() < size:
            raise UserError(
                f"stage {stage.name!r} has {int(whole.sum())} samples of {window} stamps in the training period "
                f"{experiment.data.training}, fewer than one batch of {size}; choose a longer period, or a smaller "
                "training.batch_size"
            )


def facts(experiment: Experiment, store: ReplayStore, selection: Selection) -> dict[str, Any]:
    """What an experiment takes from a source, for people and as JSON."""
    wanted = wanted_stamps(experiment)
    missing = np.setdiff1d(wanted, store.times)
    frame_bytes = 4 * len(selection.channels) * store.latitude.size * store.longitude.size
    return {
        "source": experiment.data.source.url,
        "stamps": f"{wanted.size} from {text(wanted[0])} to {text(wanted[-1])}",
        "record": f"{text(store.times[0])} to {text(store.times[-1])}",
        "grid": f"{store.latitude.size}x{store.longitude.size}",
        "levels": ", ".join(
            f"{level:g} -> {native:.7g}"
            for level, native in sorted({(c.level, c.native) for c in selection.channels if c.native is not None})
        ),
        "channels": len(selection.channels),
        "static": ", ".join(selection.static),
        "missing stamps": listing(missing) if missing.size else "none",
        "prepared size": f"{wanted.size * frame_bytes / 2**30:.2f} GiB",
        "to read": f"{wanted.size * costs(store, selection).per_stamp / 2**30:.2f} GiB decoded",
    }
