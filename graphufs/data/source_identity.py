"""Whether a source is still the one that data were prepared from: by its metadata, and by what it holds at one stamp.

The digests lie beside the prepared data, not in its name: so no output is named otherwise than before, and a source
that grows stays the same.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from graphufs.config.data import EMBEDDED
from graphufs.config.experiment import Experiment
from graphufs.data.channels import variable_slices
from graphufs.data.manifest import SEGMENTS, Manifest
from graphufs.data.selection import Selection, select
from graphufs.data.zarr_segment import PackedFrames, read_places
from graphufs.errors import CannotOpen, UserError
from graphufs.replay.source import ReplayStore
from graphufs.replay.times import text
from graphufs.sources.experiment_source import open_at
from graphufs.storage import packing
from graphufs.storage.paths import digest

logger = logging.getLogger(__name__)


def source_digests(store: ReplayStore, selection: Selection) -> dict[str, str]:
    """The digest of what the store says of each variable that is used, and of each axis of these, by name."""
    known = store.metadata((*selection.varying, *selection.static))
    return {name: digest(content) for name, content in known.items()}


def require_same_source(
    manifest: Manifest, folder: Path, store: ReplayStore, selection: Selection, *, values: bool = False
) -> None:
    """Check that the store is what was prepared in `folder`, its values at one prepared stamp too where `values`.

    Raises
    ------
    UserError
        Naming what has changed.
    """
    before, now = manifest.header.source, source_digests(store, selection)
    others = sorted(name for name in before.keys() | now.keys() if before and before.get(name) != now.get(name))
    if others:
        raise changed(store.url, folder, f"the type, attributes or values of {', '.join(others)}")
    if values and (differing := _differing(manifest, folder, store, selection)):
        raise changed(store.url, folder, differing)


def require_known_source(experiment: Experiment, folder: Path, manifest: Manifest) -> None:
    """Check that the experiment's source is still what all in `folder` was prepared from; nothing is written.

    One that cannot be reached is passed over, since nothing is to be read. Where the manifest does not say what the
    source was, as 0.1 did not, it is compared by its values.

    Raises
    ------
    UserError
        If it has changed, or is no store that could be prepared.
    """
    if experiment.data.source.url == EMBEDDED:
        return
    try:
        store = open_at(experiment)
    except CannotOpen as error:
        logger.warning("whether the source has changed is not known: %s", error)
        return
    require_same_source(manifest, folder, store, select(store, experiment), values=not manifest.header.source)


def _differing(manifest: Manifest, folder: Path, store: ReplayStore, selection: Selection) -> str | None:
    """What differs at the newest prepared stamp without missing values, if the store still has it; else None."""
    header = manifest.header
    same_grid = np.array_equal(header.latitude, store.latitude) and np.array_equal(header.longitude, store.longitude)
    if header.channels != selection.channels or not same_grid:
        return "its grid or its levels"
    for segment in reversed(manifest.segments):
        usable = [at for at, stamp in enumerate(segment.stamps) if text(stamp) not in segment.invalid]
        usable = [at for at in usable if segment.stamps[at] in store.times]
        if not usable or segment.damage(folder):
            continue
        stamp = segment.stamps[usable[-1]]
        frame = np.empty((1, len(header.channels), header.latitude.size, header.longitude.size), np.float32)
        read_places([PackedFrames(folder / SEGMENTS / segment.name)], np.array([[0, usable[-1]]]), frame)
        for name, channels in variable_slices(header.channels).items():
            found = store.read(name, np.array([stamp]), selection.levels.get(name)).reshape(frame[0, channels].shape)
            if header.storage == "int16":
                found = packing.rounded(found)
            if not np.array_equal(found, frame[0, channels], equal_nan=True):
                return f"the values of {name} at {text(stamp)}"
        return None
    return None


def changed(url: str, folder: Path, what: str) -> UserError:
    """What to say of a source at `url` in which something has changed since `folder` was prepared from it."""
    return UserError(
        f"the source {url} has changed since {folder} was prepared: {what}. Put the former store back, or remove that "
        "folder to prepare everything anew"
    )
