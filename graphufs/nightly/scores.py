"""Where a model's nightly scores lie, and how they grow: a new store each time, shown by moving one link.

What of the statistics is in full parts (`graphufs.weatherbench.results.parts`) is not written again: versions share it.

<run folder>/nightly/<checkpoint>/scores.zarr                link to the newest version
                                  scores-<key>.zarr, .csv    a version; the one before is kept for readers
                                  holes.json                 initial times without data, as the last plan saw them
                                  latest.json                what the last night came to, for those without xarray
                                  report.html
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphufs import reading
from graphufs.errors import UserError
from graphufs.storage import run_files
from graphufs.storage.atomic import fsync, remove_folder
from graphufs.storage.paths import digest
from graphufs.weatherbench.results.scores import Scores

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NightlyScores:
    """The nightly scores of one model, in their folder (`Paths.nightly`)."""

    folder: Path

    @property
    def store(self) -> Path:
        """The store, as others name it."""
        return self.folder / "scores.zarr"

    @property
    def report(self) -> Path:
        """The report on it."""
        return self.folder / "report.html"

    @property
    def _holes(self) -> Path:
        return self.folder / "holes.json"

    def open(self) -> Scores | None:
        """The scores so far, None before the first night. What is opened stays whole while the store grows.

        Where the newest version is gone or damaged, it is the one before, and the loss is said: a plan finds the
        initial times of the lost nights again. Of full parts the files' sizes alone are looked at, so that this takes
        the same however many there are; `graphufs check --thorough` reads them.

        Raises
        ------
        UserError
            If no version is whole, or something else is in the link's place.
        """
        if not self.store.is_symlink():
            if self.store.exists():
                raise UserError(
                    f"{self.store} is no link, as after a copy that follows links; put the link to the newest of "
                    f"{', '.join(sorted(path.name for path in self.folder.glob('scores-*.zarr')))} in its place"
                )
            return None
        version = self.store.resolve()
        try:
            return Scores.open(version, finished_parts=False)
        except UserError as error:
            for other in sorted(self.folder.glob("scores-*.zarr")):
                if other != version:
                    with suppress(UserError):
                        scores = Scores.open(other, finished_parts=False)
                        logger.warning("%s. Those of the nights before it are used; later ones are scored again", error)
                        return scores
            raise UserError(
                f"{error}. These are the scores of all nights, and no others are whole: restore {version.name}, or "
                f"remove {self.store}, and `graphufs nightly` scores all nights again"
            ) from None

    def write(self, scores: Scores) -> None:
        """Show these scores from now on, in one step. Call with the folder's lock held."""
        key = digest({"states": scores.checksums, "holes": scores.dataset.attrs["holes"]})
        version = self.folder / f"scores-{key}.zarr"
        before = self.store.resolve()
        scores.write(version)
        link = self.folder / ".scores.zarr.tmp"
        link.unlink(missing_ok=True)
        link.symlink_to(version.name)
        os.replace(link, self.store)
        fsync(self.folder)
        for leftover in self.folder.glob(".scores-*.zarr.*"):  # of processes that were killed
            shutil.rmtree(leftover)
        for other in self.folder.glob("scores-*.zarr"):
            if other not in (version, before):
                remove_folder(other)
                other.with_suffix(".csv").unlink(missing_ok=True)

    def holes(self) -> dict[str, str]:
        """Why the last plan could not take some initial times, by initial time.

        Raises
        ------
        UserError
            If the note of them is damaged or gone.
        """
        if wrong := run_files.damage(self._run, self._name(self._holes)):
            raise UserError(wrong)
        known: dict[str, str] = self._read(self._holes) or {}
        return known

    def note_holes(self, holes: Mapping[str, str]) -> None:
        """Keep what a plan found, for the report."""
        if holes or self._holes.exists():
            self._note(self._holes, dict(holes))

    def note_latest(self, found: dict[str, Any]) -> None:
        """Keep what a night came to where it can be read without opening the store."""
        self._note(self.folder / "latest.json", found)

    @property
    def _run(self) -> Path:
        return self.folder.parents[1]

    def _name(self, path: Path) -> str:
        return path.relative_to(self._run).as_posix()

    def _note(self, path: Path, content: dict[str, Any]) -> None:
        """Write a note unless it is there and whole."""
        same = self._read(path) == json.loads(json.dumps(content))
        if not same or run_files.damage(self._run, self._name(path)) is not None:
            run_files.keep(self._run, self._name(path), json.dumps(content, indent=2) + "\n")

    def _read(self, path: Path) -> Any:
        """The content of a note; None where there is none, or it is damaged."""
        try:
            return json.loads(reading.read_file(path))
        except (OSError, ValueError, RecursionError):
            return None
