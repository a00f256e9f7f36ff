"""What `graphufs clean` finds: what of a root nobody needs any more, kind by kind, and nothing else.

Checkpoints, the registry, reports, the evidence of comparisons, prepared data and what a training, an evaluation by
hand or a registered model made are of no kind. What cannot be read stays: `graphufs check --thorough` names it. Old job
folders, and shared data that no run and no job leads to, are `graphufs-jobs prune`'s.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from graphufs.config import loading
from graphufs.config.base import MOST_DAYS
from graphufs.data import merge
from graphufs.data.manifest import SEGMENTS, Manifest
from graphufs.errors import Stopped, UserError
from graphufs.housekeeping.retention import Retention
from graphufs.nightly.scores import NightlyScores
from graphufs.registry import registry
from graphufs.storage import run_files
from graphufs.storage.atomic import remove_folder
from graphufs.storage.checksums import Damaged, read_checked
from graphufs.storage.lock import locked
from graphufs.storage.paths import PUBLISHED, Paths
from graphufs.storage.zarr_io import open_zarr
from graphufs.weatherbench.results.scores import GROUP

OURS = ("worlds", "data", "statistics", "climatology", "runs", "jobs", "registry", "cache", PUBLISHED)
"""Folders of the root in which files are ours."""
LEFTOVER = re.compile(r"\..+\.(tmp|trash)")
"""Names of what is being written or removed; of processes that were killed they stay (graphufs.storage.atomic)."""


@dataclass(frozen=True)
class Removable:
    """Something that may go: its kind, size in bytes, files, and the rule that says so."""

    kind: str
    path: Path
    size: int
    files: int
    reason: str
    remove: Callable[[], None] = field(repr=False)
    """Removes it, or raises Stopped where somebody holds it."""


def find(root: Path, keep: Retention, now: float | None = None) -> list[Removable]:
    """What may go of a root, in the order in which it may; `now` is the time [s since the epoch].

    Raises
    ------
    UserError
        If a number of days is negative, absurd or no number, or the registry cannot be read.
    """
    for name, days in vars(keep).items():
        if not 0 <= days <= MOST_DAYS:
            raise UserError(f"--{name.removesuffix('s')}-days {days:g}: give 0 to {MOST_DAYS:,} days")
    now = time.time() if now is None else now
    before = {name: now - 86400 * days for name, days in vars(keep).items()}
    found = [*_of_runs(root, before["forecasts"], keep.forecasts), *_merged(root, before["merged"], keep.merged)]
    found += _published(root, before["published"], keep.published)
    found += _unused(root / "cache", before["caches"], keep.caches)
    return [*found, *_leftovers(root, before["leftovers"], keep.leftovers)]


def to_merge(root: Path) -> dict[Path, list[merge.Group]]:
    """By folder of prepared data, the segments that would be merged."""
    found = {folder: merge.groups(manifest) for folder, manifest in _manifests(root)}
    return {folder: groups for folder, groups in found.items() if groups}


# Forecasts and scores


@dataclass(frozen=True)
class _Use:
    """What the forecasts and scores of one run were for."""

    nights: tuple[np.ndarray, ...]
    """The initial times [time] that each of its models has in its nightly scores."""
    rounds: tuple[tuple[np.ndarray, int], ...]
    """The initial times [time] of each comparison whose outcome is there, and the hours of its long rollout."""
    own: frozenset[Path]
    """The stores of the experiments that the run and its models were made with."""

    def recorded(self, times: np.ndarray) -> bool:
        """Whether one of the models has all these initial times [time] in its nightly scores."""
        return times.size > 0 and any(np.isin(times, night).all() for night in self.nights)

    def compared(self, times: np.ndarray) -> bool:
        """Whether these are the initial times [time] of a comparison, but for those that could not be used."""
        return times.size > 0 and any(np.isin(times, those).all() for those, _ in self.rounds)

    def rolled_out(self, times: np.ndarray, hours: int) -> bool:
        """Whether this is the long rollout of a comparison, by its initial times [time] and longest lead [h]."""
        return any(times.size == 1 and times[0] == those[0] and hours == lead for those, lead in self.rounds)


def _of_runs(root: Path, before: float, days: float) -> Iterator[Removable]:
    uses = _uses(root)
    for run, use in uses.items():
        scores = dict(_scores(run))
        scored = {forecasts for forecasts, _ in scores.values()}
        stores = {path: _forecast(path) for path in sorted((run / "forecasts").glob("[!.]*.zarr"))}
        for path, (times, hours) in stores.items():
            reason = ""
            if path.stem in scored and path not in use.own and use.recorded(times):
                reason = "of a night that is scored and recorded"
            elif (path.stem in scored and use.compared(times)) or use.rolled_out(times, hours):
                reason = "of a comparison whose outcome is there"
            if reason and (one := _sized("forecasts", path, before, f"{reason}, older than {days:g} days")):
                yield one(partial(_remove_forecasts, path))
        for path in sorted((run / "forecasts").glob("[!.]*.part")):
            reason = f"unfinished, unchanged for {days:g} days"
            if one := _sized("forecasts", path, before, reason):
                yield one(partial(_remove_forecasts, path))
        for path, (forecasts, times) in scores.items():
            if path in use.own or use.compared(times) or not use.recorded(times):
                continue
            reason = f"those of a night are part of its model's scores, older than {days:g} days"
            if one := _sized("scores of one night", path, before, reason):
                yield one(partial(_remove_scores, path, run / "forecasts" / f"{forecasts}.zarr"))


def _uses(root: Path) -> dict[Path, _Use]:
    """By run, what its forecasts and scores were for; not of runs of which that cannot be told."""
    runs = [path for path in sorted((root / "runs").glob("*/*")) if path.is_dir()]
    models = registry.models(root)
    experiments: dict[Path, list[str]] = {run: [] for run in runs}
    for model in models:
        experiments.setdefault(root / model.run_folder, []).append(model.experiment)
    folders = {model.id: root / model.run_folder for model in models}
    rounds: dict[Path, list[tuple[np.ndarray, int]]] = {}
    for run in runs:
        for path in sorted((run / "comparisons").glob("[!.]*.json")):
            try:
                evidence = read_checked(path)
                times = np.sort(np.array(evidence["initial_times"], "datetime64[ns]"))
                one = times, int(str(evidence["rollout_hours"]).removesuffix("h"))
            except (Damaged, KeyError, TypeError, ValueError, OSError):
                continue
            for place in {run, folders.get(str(evidence.get("champion")), run)}:
                rounds.setdefault(place, []).append(one)
    found = {}
    for run in runs:
        try:
            if run_files.damage(run, run_files.EXPERIMENT) is not None:
                continue
            written = (run / "experiment.yaml").read_text() if (run / "experiment.yaml").exists() else None
            texts = filter(None, [written, *experiments[run]])
            known = [Paths(loading.parse(text, origin=str(run)), root) for text in texts]
            own = frozenset(path for paths in known for path in _stores_of(paths))
            scores = [NightlyScores(folder).open() for folder in sorted((run / "nightly").glob("[!.]*"))]
        except (UserError, OSError, UnicodeDecodeError):
            continue
        nights = tuple(one.initial_times for one in scores if one is not None)
        found[run] = _Use(nights, tuple(rounds.get(run, ())), own)
    return found


def _stores_of(paths: Paths) -> list[Path]:
    return [paths.forecasts, *(paths.scores_against(name) for name in paths.experiment.evaluation.truths)]


def _scores(run: Path) -> Iterator[tuple[Path, tuple[str, np.ndarray]]]:
    """The stores of scores of a run, each with the hash of its forecasts and its initial times [time]."""
    for path in sorted((run / "scores").glob("[!.]*.zarr")):
        try:
            hashes: Mapping[str, str] = open_zarr(path).attrs["hashes"]
            yield path, (hashes["forecasts"], open_zarr(path, GROUP)["init_time"].values)
        except (UserError, KeyError):
            continue


def _forecast(path: Path) -> tuple[np.ndarray, int]:
    """The initial times [time] of a store of forecasts, and its longest lead [h]; none where it cannot be read."""
    try:
        store = open_zarr(path)
        hours = store["prediction_timedelta"].values.max() / np.timedelta64(1, "h")
        return store["time"].values, round(float(hours))
    except (UserError, KeyError, ValueError):
        return np.empty(0, "datetime64[ns]"), 0


def _remove_forecasts(path: Path) -> None:
    name = f"{path.name.partition('.zarr')[0]}.zarr"
    lock = f".{name}.lock"
    with locked(path.parent, should_stop=lambda: True, waiting=lambda: None, name=lock):
        remove_folder(path)
        if not (path.parent / name).exists() and not any(path.parent.glob(f"{name}.*part")):
            (path.parent / lock).unlink(missing_ok=True)


def _remove_scores(path: Path, forecasts: Path) -> None:
    if forecasts.exists():
        raise Stopped(f"{path} stays as long as its forecasts, {forecasts}")
    path.with_suffix(".csv").unlink(missing_ok=True)  # first: without its store nothing would find it again
    remove_folder(path)


# What is published


def _published(root: Path, before: float, days: float) -> Iterator[Removable]:
    """The folders of single initial times; their files are written once, all together."""
    reason = f"published more than {days:g} days ago; `graphufs publish` makes it again"
    for path in sorted((root / PUBLISHED).glob("*/[0-9]*/[0-9]*")):
        if one := _sized("published forecasts", path, before, reason):
            yield one(partial(_remove_published, path))


def _remove_published(path: Path) -> None:
    with locked(path.parents[1], should_stop=lambda: True, waiting=lambda: None):
        remove_folder(path)
        with suppress(OSError):  # other initial times of the day
            path.parent.rmdir()


# Segments, caches, leftovers


def _manifests(root: Path) -> Iterator[tuple[Path, Manifest]]:
    for folder in sorted((root / "data").glob("[!.]*")):
        try:
            manifest = Manifest.read(folder)
        except (UserError, NotADirectoryError):
            continue
        if manifest is not None:
            yield folder, manifest


def _merged(root: Path, before: float, days: float) -> Iterator[Removable]:
    for folder, manifest in _manifests(root):
        for name in merge.expired(manifest, before):
            size, files, _ = _measure(folder / SEGMENTS / name)
            reason = f"its frames were merged into another segment more than {days:g} days ago"
            remove = partial(merge.remove_expired, folder, before)
            yield Removable("merged segments", folder / SEGMENTS / name, size, files, reason, remove)


def _unused(folder: Path, before: float, days: float) -> Iterator[Removable]:
    """What of a cache was not used lately, by folder. Where the file system notes no reading: not written lately."""
    for place in sorted({folder, *folder.glob("*/")}):
        old = [path for path in sorted(place.glob("*")) if path.is_file() and _last_used(path) < before]
        if old:
            size = sum(path.stat().st_size for path in old)
            reason = f"not used for {days:g} days; made again when needed"
            yield Removable("caches", place, size, len(old), reason, partial(_unlink, old))


def _last_used(path: Path) -> float:
    told = path.stat()
    return max(told.st_mtime, told.st_atime)


def _unlink(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _leftovers(root: Path, before: float, days: float) -> Iterator[Removable]:
    reason = f"of a process that was killed, unchanged for {days:g} days"
    for kind in OURS:
        for folder, names, files in os.walk(root / kind):
            for path in (Path(folder, name) for name in [*names, *files] if LEFTOVER.fullmatch(name)):
                with suppress(FileNotFoundError):
                    if path.lstat().st_ctime >= before:  # what is renamed to be removed keeps its mtime
                        continue
                if one := _sized("leftovers", path, before, reason):
                    yield one(partial(_remove_leftover, path))
            names[:] = [name for name in names if not LEFTOVER.fullmatch(name)]


def _remove_leftover(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    elif path.name.endswith(".trash"):
        shutil.rmtree(path, ignore_errors=True)  # whoever else removes it may be faster
    else:
        remove_folder(path)


def _measure(path: Path) -> tuple[int, int, float]:
    """The size in bytes and the files of a file or folder, and when anything of it changed last."""
    top = path.lstat()
    size, files, changed = 0, 0, top.st_mtime
    if path.is_symlink() or not path.is_dir():
        return top.st_size, 1, changed
    for folder, _, names in os.walk(path):
        for name in names:
            told = os.lstat(os.path.join(folder, name))
            size, files, changed = size + told.st_size, files + 1, max(changed, told.st_mtime)
    return size, files, changed


def _sized(kind: str, path: Path, before: float, reason: str) -> Callable[[Callable[[], None]], Removable] | None:
    """A removable without its way to go, if nothing of it changed since `before`, else None."""
    try:
        size, files, changed = _measure(path)
    except FileNotFoundError:
        return None
    return partial(Removable, kind, path, size, files, reason) if changed < before else None
