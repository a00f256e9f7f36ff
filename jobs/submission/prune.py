"""Retention: job folders that are long over, and data that no run and no job refers to any more."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from graphufs.config import loading
from graphufs.config.base import MOST_DAYS
from graphufs.errors import UserError
from graphufs.storage import run_files
from graphufs.storage.atomic import set_aside
from graphufs.storage.paths import Paths
from jobs.job.folder import JobFolder
from jobs.job.reading import Broken
from jobs.job.status import Status, survey_root

SHARED = ("worlds", "data", "statistics", "climatology")
"""Folders below the root whose contents several experiments may use."""


@dataclass(frozen=True)
class Waste:
    """A folder that may go, its size, and why."""

    path: Path
    size: int
    reason: str


def find(
    root: Path, days: float, broken: list[Broken] | None = None, among: Collection[Path] | None = None
) -> list[Waste]:
    """Folders older than `days` that are not needed: jobs that are over, and shared data out of use.

    Only those `among` some folders, where such are given. Jobs whose folders cannot be read stay; they are added to
    `broken`. Of data, the age is that of the last change; data in use is what the experiment of any run or kept job
    leads to.

    Raises
    ------
    UserError
        If `days` is negative, absurd or no number.
    """
    if not 0 <= days <= MOST_DAYS:
        raise UserError(f"--days {days:g}: give 0 to {MOST_DAYS:,} days")
    waste, kept = [], []
    needed: set[str] = set()

    def keep(status: Status) -> None:
        kept.append(status.job.path / "experiment.yaml")
        needed.update(status.intent.needs)

    statuses, unread = survey_root(root)
    if broken is not None:
        broken += unread
    # what cannot be read may be at work, and its experiment's data in use
    kept += [root / "jobs" / error.folder / "experiment.yaml" for error in unread]
    for status in statuses:
        if among is not None and status.job.path not in among:
            keep(status)
            continue
        changed = max((path.lstat().st_mtime for path in status.job.path.rglob("*")), default=0.0)
        if status.over and time.time() - changed > 86400 * days:
            reason = f"job {status.state.lower()}, unchanged for {_age(changed)}"
            waste.append(Waste(status.job.path, _size(status.job.path), reason))
        else:
            keep(status)
    kept += [root / "jobs" / key / "experiment.yaml" for key in needed if (root / "jobs" / key).exists()]
    waste = [one for one in waste if one.path.name not in needed]
    used: set[Path] = set()
    for path in [*kept, *(root / "runs").glob("*/*/experiment.yaml")]:
        try:
            if (wrong := run_files.damage(path.parent, path.name)) is not None:
                raise UserError(wrong)
            paths = Paths(loading.load(path), root)
        except UserError:
            # damaged, or written by another version: what it leads to cannot be told, so nothing shared may go
            return waste
        used |= {paths.world, paths.data, paths.moments.parent, paths.climatology}
    for kind in SHARED:
        for path in sorted((root / kind).glob("[0-9a-f]*")):
            if among is not None and path not in among:
                continue
            changed = max(part.stat().st_mtime for part in [path, *path.rglob("*")])
            if path not in used and time.time() - changed > 86400 * days:
                waste.append(Waste(path, _size(path), f"{kind} of no run or job, unchanged for {_age(changed)}"))
    return waste


def remove(root: Path, days: float, waste: Sequence[Waste]) -> list[Waste]:
    """Remove what `find` has found and would find again; what was removed.

    Nobody submits, starts or cancels a job of the root between this second look and the removal.
    """
    with JobFolder.alone(root):
        still = find(root, days, among={one.path for one in waste})
        trash = [set_aside(one.path) for one in still]
    for folder in trash:
        shutil.rmtree(folder)
    return still


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _age(changed: float) -> str:
    return f"{(time.time() - changed) / 86400:.0f} days"
