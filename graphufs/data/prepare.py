"""The step `prepare`: a source becomes training-ready data, segment by segment, with a manifest.

Stamps that are committed are never read again, but for those with missing values (graphufs.data.late); a new day is a
new segment. Killed at any moment, the step goes on with the next segment when it is repeated. Segments are independent
of each other; where the caller gave dask workers (graphufs.parallel), those read and write them, and this process alone
commits them.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from graphufs import parallel
from graphufs.config.data import EMBEDDED
from graphufs.config.experiment import Experiment
from graphufs.data import late
from graphufs.data.commits import Commits, left
from graphufs.data.manifest import SEGMENTS, STATIC, Header, Manifest, Segment
from graphufs.data.sample import check_sample
from graphufs.data.segments import Order, costs, put_in_place, reading_pool, remove_hidden, write_ordered, write_segment
from graphufs.data.selection import Selection, check, select
from graphufs.data.source_identity import changed, require_known_source, require_same_source, source_digests
from graphufs.data.static_fields import present_mask, read_static, read_static_fields, write_static
from graphufs.errors import Stopped, UserError
from graphufs.grid.areas import parent_latitudes
from graphufs.replay.layer_means import with_layers
from graphufs.replay.source import ReplayStore
from graphufs.replay.synthetic.outline import embedded_outline
from graphufs.replay.times import listing, text, wanted_stamps
from graphufs.sources.experiment_source import open_at, open_source
from graphufs.steps import Event, Progress, ShouldStop
from graphufs.storage.atomic import new_folder, remove_folder
from graphufs.storage.checksums import files_of
from graphufs.storage.in_flight import TRAFFIC
from graphufs.storage.lock import locked
from graphufs.storage.paths import Paths
from graphufs.storage.provenance import provenance
from graphufs.storage.zarr_io import is_remote

SPARE_BYTES = 64 * 2**20
STAMPS_REPORTED = 20


def run(experiment: Experiment, root: Path, *, progress: Progress, should_stop: ShouldStop) -> dict[str, Any]:
    """Prepare all stamps of the experiment's periods; see graphufs.steps.Run.

    Raises
    ------
    UserError
        For everything wrong with the experiment against its source, and for a full disk.
    Stopped
        After a polite stop; committed segments are kept.
    """
    paths = Paths(experiment, root)
    folder = paths.data
    wanted = wanted_stamps(experiment)
    embedded = experiment.data.source.url == EMBEDDED  # what it is follows from its seed
    listed = Manifest.recover(folder)
    if listed is not None and _complete(listed, folder, wanted) and not late.due(experiment, folder, listed).size:
        require_known_source(experiment, folder, listed)
        return _result(folder, listed, wanted, new=0)

    waiting = Event("waiting for another process that prepares the same data", 0, wanted.size, "stamps")
    with locked(folder, should_stop=should_stop, waiting=lambda: progress(waiting)):
        listed, manifest = Manifest.recover(folder), _cleaned(folder)
        done = manifest.stamps if manifest else np.empty(0, "datetime64[ns]")
        todo = np.setdiff1d(wanted, done)
        again = late.due(experiment, folder, manifest, listed) if manifest is not None else todo[:0]

        def source() -> ReplayStore:
            return open_source(experiment, root, wanted[-1], progress=progress, should_stop=should_stop)

        if manifest is not None and _complete(manifest, folder, wanted):
            require_known_source(experiment, folder, manifest)
            larger, warnings = late.read_again(experiment, folder, manifest, source, again, should_stop=should_stop)
            return _result(folder, larger, wanted, new=0, before=manifest, warnings=warnings)
        if embedded:
            _check_embedded(paths, wanted[-1])  # before minutes go into making the world
        store = source()
        selection = check(store, experiment)
        present = np.intersect1d(todo, store.times)
        if manifest is not None and manifest.segments and not embedded:
            require_same_source(manifest, folder, store, selection, values=True)
        elif not embedded:  # later reads look at each value anyway
            check_sample(store, selection, present, experiment.data.targets)
        manifest = _with_header(folder, manifest, store, selection, experiment, wanted)
        # What other experiments found missing stays on record until it is there.
        missing = np.setdiff1d(np.union1d(manifest.missing, np.setdiff1d(todo, present)), store.times)
        if not np.array_equal(missing, manifest.missing):
            manifest = replace(manifest, missing=missing)
            manifest.write(folder)
        _check_room(folder, manifest.header, present.size)
        mask, _ = read_static(folder / STATIC)
        begun = wanted.size - todo.size
        tally = _Tally(progress, begun, wanted.size - (todo.size - present.size))
        header, committed = manifest.header, len(manifest.segments)
        failed: list[BaseException] = []

        def write_here(stamps: np.ndarray) -> Segment:
            try:
                return write_segment(
                    folder, store, selection, header, mask, stamps, advance=tally.advance,
                    should_stop=lambda: bool(failed) or should_stop(), pool=pool,
                )  # fmt: skip
            except BaseException as error:
                failed.append(error)  # another segment that is written ends, and says the same
                raise failed[0] from None

        written = parallel.map_unordered(
            partial(write_ordered, Order.of(folder, store, experiment)),
            costs(store, selection).pieces(present),
            should_stop=should_stop,
            stopped=lambda: f"stopped after {committed} segments; repeat the command to go on",
            here=write_here,
            # two months of a store far away are read, so that no late request is waited for, while one is written
            threads=3 if is_remote(store.url) else None,
        )
        with ExitStack() as stack:
            pool = stack.enter_context(reading_pool(store, selection))
            commits = stack.enter_context(Commits(folder, manifest))
            stack.enter_context(closing(written))
            stack.callback(failed.append, Stopped("stopped: the rest is not needed"))
            for _, segment in written:
                segment = put_in_place(folder, segment)
                commits.add(segment)
                committed += 1
                tally.invalid += len(segment.invalid)
                if parallel.current() is not None:  # they tell nothing while they read
                    tally.advance(segment.stamps.size)
        manifest = commits.manifest
        if parallel.current() is not None:
            remove_hidden(folder)  # of workers that died
        larger, warnings = late.read_again(experiment, folder, manifest, lambda: store, again, should_stop=should_stop)
    return _result(folder, larger, wanted, new=present.size, before=manifest, warnings=warnings)


def _check_embedded(paths: Paths, until: np.datetime64) -> None:
    """Check the experiment against the world's store if there is one of any length, else against its outline."""
    from graphufs.replay.synthetic.store import STORE, present

    if present(paths.world) is not None:
        select(open_at(paths.experiment, str(paths.world / STORE)), paths.experiment)
    else:
        check(with_layers(embedded_outline(until), paths.experiment.data.interfaces), paths.experiment)


class _Tally:
    """Counts what was read and tells the progress."""

    def __init__(self, progress: Progress, done: float, total: float) -> None:
        self.progress, self.done, self.total = progress, done, total
        self.invalid = 0
        self._lock = Lock()  # several segments may be read at once
        self._received, self._since = TRAFFIC.received, time.monotonic()

    def advance(self, stamps: float) -> None:
        with self._lock:
            self.done = min(self.done + stamps, self.total)
            metrics: dict[str, float] = {"invalid": self.invalid}
            if received := TRAFFIC.received - self._received:
                metrics["MB/s"] = round(received / 1e6 / max(time.monotonic() - self._since, 1e-6), 1)
            self.progress(Event("reading the source", self.done, self.total, "stamps", metrics))


def _complete(manifest: Manifest | None, folder: Path, wanted: np.ndarray) -> bool:
    """Whether every wanted stamp is committed, every file is there, and nobody's journal beside the manifest."""
    if manifest is None or not np.isin(wanted, manifest.stamps).all() or Manifest.damage(folder) is not None:
        return False
    if left(folder):
        return False
    return not any((manifest.static_damage(folder), *(segment.damage(folder) for segment in manifest.segments)))


def _cleaned(folder: Path) -> Manifest | None:
    """The manifest without damaged segments, after removing what no manifest lists. Call with the lock held."""
    manifest = Manifest.recover(folder)
    if manifest is not None:
        whole = [segment for segment in manifest.segments if segment.damage(folder) is None]
        if len(whole) < len(manifest.segments) or Manifest.damage(folder) is not None or left(folder):
            manifest.with_segments(whole).write(folder)
        for segment in manifest.segments:
            segment.trust(folder)
        manifest = manifest.with_segments(whole)
    listed = {segment.name for segment in manifest.segments} | manifest.retired.keys() if manifest else set()
    segments = folder / SEGMENTS
    for path in segments.iterdir() if segments.is_dir() else ():
        if path.name not in listed:
            shutil.rmtree(path, ignore_errors=True) if path.name.startswith(".") else remove_folder(path)
    for leftover in (*folder.glob(".*.tmp"), *folder.glob(".*.trash")):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    return manifest


def _with_header(
    folder: Path,
    manifest: Manifest | None,
    store: ReplayStore,
    selection: Selection,
    experiment: Experiment,
    wanted: np.ndarray,
) -> Manifest:
    """The manifest with its header, written together with the static fields when the folder is new."""
    header = Header(
        time_step=experiment.data.time_step,
        component=experiment.data.source.component,
        channels=selection.channels,
        static=selection.static,
        facts=selection.facts,
        latitude=store.latitude,
        longitude=store.longitude,
        parent_latitude=parent_latitudes(store.latitude),
        provenance=_provenance(experiment),
        source={} if experiment.data.source.url == EMBEDDED else source_digests(store, selection),
        storage=experiment.data.storage,
    )
    whole = manifest is not None and manifest.static_damage(folder) is None
    if manifest is not None and (whole or manifest.segments):
        difference = manifest.header.difference(header)
        if difference:
            raise changed(store.url, folder, difference)
        known = manifest.header.source or header.source
        if whole:
            return replace(manifest, header=replace(manifest.header, source=known))
        header = replace(header, source=known)
    mask = present_mask(store, selection, np.intersect1d(wanted, store.times))
    fields = read_static_fields(store, selection)
    with new_folder(folder / STATIC) as temporary:
        write_static(temporary, header, mask, fields)
    manifest = Manifest(header) if manifest is None else replace(manifest, header=header)
    manifest = replace(manifest, static=files_of(folder / STATIC))
    manifest.write(folder)
    return manifest


def _provenance(experiment: Experiment) -> dict[str, Any]:
    data = experiment.data.model_dump(mode="json")
    data["source"].pop("storage_options")  # may hold keys
    return {
        "source": experiment.data.source.url,
        "configuration": {"data": data, "normalization": {"weights": experiment.normalization.weights}},
        "created_by": "graphufs prepare",
        **provenance(),
    }


def _check_room(folder: Path, header: Header, stamps: int) -> None:
    size = header.frame_bytes * stamps
    free = shutil.disk_usage(folder).free
    if size + SPARE_BYTES > free:
        raise UserError(
            f"preparing {stamps} stamps needs {size / 2**30:.2f} GiB in {folder}, but only {free / 2**30:.2f} GiB are "
            "free there; free some space or choose another --root"
        )


def _result(
    folder: Path,
    manifest: Manifest,
    wanted: np.ndarray,
    *,
    new: int,
    before: Manifest | None = None,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """What the step says; `before` is the manifest before stamps were read again."""
    again = 0 if before is None else len(before.invalid) - len(manifest.invalid)
    asked = {text(stamp) for stamp in wanted}
    invalid = {stamp: names for stamp, names in manifest.invalid.items() if stamp in asked}
    missing = np.setdiff1d(wanted, manifest.stamps)
    by_variable = Counter(name for names in invalid.values() for name in names)
    warnings = list(warnings)
    if invalid:
        warnings.append(
            f"{len(invalid)} stamps hold missing values and are never used: "
            + ", ".join(f"{name} at {count}" for name, count in sorted(by_variable.items()))
            + f" ({', '.join(list(invalid)[:5])}{', ...' if len(invalid) > 5 else ''})"
        )
    if missing.size:
        warnings.append(f"{missing.size} stamps are missing in the source: {listing(missing)}")
    return {
        "status": "completed" if new or again else "unchanged",
        "folder": str(folder),
        "stamps": int(wanted.size - missing.size),
        "new": int(new),
        "read_again": again,
        "segments": len(manifest.segments),
        "channels": len(manifest.header.channels),
        "invalid": {
            "count": len(invalid),
            "by_variable": dict(sorted(by_variable.items())),
            "stamps": sorted(invalid)[:STAMPS_REPORTED],
        },
        "missing": {"count": int(missing.size), "stamps": [text(stamp) for stamp in missing[:STAMPS_REPORTED]]},
        "warnings": warnings,
    }
