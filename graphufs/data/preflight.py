"""What an experiment takes from its source, and whether it can: a look before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from graphufs.config.base import Period
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
from graphufs.replay.times import hours, listing, stamps_in, text, wanted_stamps
from graphufs.sources.experiment_source import open_at
from graphufs.storage.paths import Paths
from graphufs.vocabulary.variables import DERIVED_FORCINGS


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
    """Refuse what could not be even if no stamp of the source had missing values.

    That is stages that cannot fill a batch, a validation without a sample, statistics or a climatology of nothing,
    and forecasts none of which could be made and scored.
    """
    data, settings = experiment.data, experiment.training
    step, frames = data.time_step, data.input_frames
    for stage in settings.stages:
        count = _whole(data.training, step, frames + stage.rollout, store)
        if count < settings.batch_size:
            raise UserError(
                f"stage {stage.name!r} has {count} samples of {frames + stage.rollout} stamps in the training period "
                f"{data.training}, fewer than one batch of {settings.batch_size}; choose a longer period, or a smaller "
                "training.batch_size"
            )
    forecasts = settings.validation_forecasts
    windows = {"validation": (data.validation, frames + 1)} if settings.stages else {}
    if forecasts is not None:
        windows["validation forecasts"] = (data.validation, frames + forecasts.lead_time // step)
    if settings.stages and experiment.normalization.url is None:
        windows["statistics"] = (experiment.statistics_period, 2)
    if "replay" in experiment.evaluation.truths:
        windows["climatology"] = (experiment.climatology_period, 1)
    for name, (period, length) in windows.items():
        if not _whole(period, step, length, store):
            raise UserError(
                f"{experiment.data.source.url} has nowhere in {period} the {length} stamps every {step}h in a row that "
                f"the {name} needs; choose another period"
            )
    _check_forecasts(experiment, store)


def _whole(period: Period, step: int, length: int, store: ReplayStore) -> int:
    """How many runs of so many stamps of a period the source has."""
    stamps = stamps_in(period, step)
    if stamps.size < length:
        return 0
    there = np.lib.stride_tricks.sliding_window_view(np.isin(stamps, store.times), length)
    return int(there.all(axis=1).sum())


def _check_forecasts(experiment: Experiment, store: ReplayStore) -> None:
    """Refuse initial times none of which has its input frames and, against Replay, its truth."""
    data, step = experiment.data, hours(experiment.data.time_step)
    times = np.array(experiment.initial_times, "datetime64[ns]")
    leads = experiment.forecast.lead_time // data.time_step
    before, after = step * np.arange(1 - data.input_frames, 1), step * np.arange(1, leads + 1)
    needed = {"input frames": before}
    if not set(data.forcings) <= set(DERIVED_FORCINGS) or "replay" in experiment.evaluation.truths:
        needed["input frames and valid times"] = np.concatenate([before, after])
    for name, offsets in needed.items():
        if not np.isin(times[:, None] + offsets, store.times).all(axis=1).any():
            raise UserError(
                f"none of the {times.size} initial times, {text(times[0])} to {text(times[-1])}, has all its {name} in "
                f"{data.source.url}; choose others"
            )


def facts(experiment: Experiment, store: ReplayStore, selection: Selection) -> dict[str, Any]:
    """What an experiment takes from a source, for people and as JSON."""
    wanted, cost = wanted_stamps(experiment), costs(store, selection)
    missing = np.setdiff1d(wanted, store.times)
    values = len(selection.channels) * store.latitude.size * store.longitude.size
    frame_bytes = np.dtype(experiment.data.storage).itemsize * values
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
        "to read": f"{wanted.size * cost.per_stamp / 2**30:.2f} GiB decoded",
        "to fetch": f"{wanted.size * cost.fetched / 2**30:.2f} GiB of these before compression, "
        f"{100 * cost.fetched / cost.per_stamp:.0f} %",
    }
