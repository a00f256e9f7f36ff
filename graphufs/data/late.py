"""Stamps whose values come late: the time axis of a store that grows may be ahead of its chunks.

Such a stamp reads as missing values and is committed so. It is read again for a set time after that, and once its
values are whole, a segment of its own holds them: no committed segment is changed under those who read it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from graphufs.config.experiment import Experiment
from graphufs.data.channels import variable_slices
from graphufs.data.manifest import SEGMENTS, STATIC, Manifest
from graphufs.data.segments import costs, free_name, missing_values, write_segment
from graphufs.data.selection import select
from graphufs.data.source_identity import changed
from graphufs.data.static_fields import read_static
from graphufs.errors import UserError
from graphufs.replay.source import ReplayStore
from graphufs.replay.times import listing, text, wanted_stamps
from graphufs.steps import ShouldStop

logger = logging.getLogger(__name__)

READ_AGAIN_FOR = 14 * 24
"""Hours, from when a stamp was found with missing values: stores that grow are behind by hours or some days."""
AT_MOST = 128
"""How many stamps are looked at again at once, the newest: in some records a variable is missing for years."""


def due(experiment: Experiment, folder: Path, manifest: Manifest, before: Manifest | None = None) -> np.ndarray:
    """The stamps [time] of the experiment to read again: found with missing values in the last READ_AGAIN_FOR hours.

    When that was is when their segment was written. What was whole in the manifest `before`, ahead of repairs, is due
    at any time.
    """
    flawed = manifest.invalid
    youngest = time.time() - 3600 * READ_AGAIN_FOR
    found: set[str] = set()
    for segment in manifest.segments:
        path = folder / SEGMENTS / segment.name
        if segment.invalid and path.is_dir() and path.stat().st_mtime > youngest:
            found.update(segment.invalid)
    if before is not None:
        found.update(stamp for stamp in flawed if stamp not in before.invalid)
    stamps = np.array(sorted(found & flawed.keys()), "datetime64[ns]")
    return np.intersect1d(stamps, wanted_stamps(experiment))[-AT_MOST:]


def come(
    store: ReplayStore, experiment: Experiment, folder: Path, manifest: Manifest, stamps: np.ndarray
) -> np.ndarray:
    """Which of the stamps [time] with missing values have all of them now.

    Raises
    ------
    UserError
        If the store cannot be read, or is not what was prepared.
    """
    selection, invalid, header = select(store, experiment), manifest.invalid, manifest.header
    same = np.array_equal(store.latitude, header.latitude) and np.array_equal(store.longitude, header.longitude)
    if selection.channels != header.channels or not same:
        raise changed(store.url, folder, "its grid or its levels")
    slices, (mask, _) = variable_slices(selection.channels), read_static(folder / STATIC)

    def whole(stamp: np.datetime64) -> bool:
        for name in invalid[text(stamp)]:
            values = store.read(name, np.array([stamp]), selection.levels.get(name))
            there = mask[slices[name]]
            if missing_values(values.reshape(1, *there.shape), there).any():
                return False
        return True

    stamps = np.intersect1d(stamps, store.times)
    with ThreadPoolExecutor(costs(store, selection).readers, "late-stamps") as pool:
        return stamps[np.array(list(pool.map(whole, stamps)), bool)]


def come_since(experiment: Experiment, folder: Path, manifest: Manifest, store: ReplayStore) -> np.ndarray:
    """The stamps [time] that a `prepare` now would find whole; none where the store cannot tell, which is logged."""
    stamps = due(experiment, folder, manifest)
    try:
        return come(store, experiment, folder, manifest, stamps) if stamps.size else stamps
    except UserError as error:
        logger.warning("stamps with missing values could not be looked at again: %s", error)
        return stamps[:0]


def read_again(
    experiment: Experiment,
    folder: Path,
    manifest: Manifest,
    open_source: Callable[[], ReplayStore],
    stamps: np.ndarray,
    *,
    should_stop: ShouldStop,
) -> tuple[Manifest, list[str]]:
    """Commit those of the stamps [time] whose values have come: the manifest after it, and warnings.

    A source that cannot be read is a warning, since all else is done. Call with the folder's lock held.

    Raises
    ------
    Stopped
        If `should_stop()` turned true; what is committed stays.
    """
    if not stamps.size:
        return manifest, []
    try:
        store = open_source()
        there = come(store, experiment, folder, manifest, stamps)
        selection, (mask, _) = select(store, experiment), read_static(folder / STATIC)
        for part in costs(store, selection).pieces(there):
            segment = write_segment(
                folder,
                store,
                selection,
                manifest.header,
                mask,
                part,
                advance=lambda _: None,
                should_stop=should_stop,
                name=free_name(manifest, part),
            )
            manifest = manifest.with_segments([*manifest.segments, segment])
            manifest.write(folder)
    except UserError as error:
        return manifest, [f"{listing(stamps)} had missing values and could not be looked at again: {error}"]
    return manifest, []
