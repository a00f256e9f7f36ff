"""Committing segments one after the other: each is a line in a journal beside the manifest, not all of it anew.

In the end the journal is put into the manifest. Where a kill left one, whoever reads the manifest reads it, too, and
the next that commits puts it there first.
"""

from __future__ import annotations

import contextlib
from bisect import insort
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from time import time
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from graphufs.data.manifest import JOURNALS, Manifest, Segment
from graphufs.storage.journal import Journal


def left(folder: Path) -> bool:
    """Whether there is a journal: somebody commits, or was killed."""
    return any((folder / name).exists() for name in JOURNALS.values())


class Commits:
    """Adds segments to the manifest of a folder. Call with the folder's lock held.

    Each is committed when `add` returns. Killed at any moment, what was committed stays so.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder, self._before = folder, manifest
        self._segments = list(manifest.segments)
        self._retired = dict(manifest.retired)
        self._journals: list[Journal] = []

    def __enter__(self) -> Self:
        return self

    def add(self, segment: Segment, *, instead_of: Iterable[Segment] = ()) -> None:
        """Commit a segment; those it was merged of are kept on disk as `retired` from now on."""
        replaced, now = [one.name for one in instead_of], time()
        entry: dict[str, Any] = {"add": [segment.to_json(self._before.header.time_step)]}
        if replaced:
            entry["retire"] = dict.fromkeys(replaced, now)
            self._segments = [one for one in self._segments if one.name not in replaced]
            self._retired |= entry["retire"]
        for journal in self._journals or self._begin():
            journal.append(entry)
        insort(self._segments, segment, key=lambda one: one.stamps[0])
        self._retired.pop(segment.name, None)

    def _begin(self) -> list[Journal]:
        if left(self._folder):  # by one that was killed: the manifest was read with it
            self._before.write(self._folder)
        name = uuid4().hex
        self._journals = [Journal.begin(self._folder / place, name) for place in JOURNALS.values()]
        self._before.write(self._folder, journal=name)
        return self._journals

    @property
    def manifest(self) -> Manifest:
        """The manifest with all that was added."""
        return replace(self._before, segments=tuple(self._segments), retired=self._retired)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for journal in self._journals:
            journal.close()
        if self._journals:
            # where there is no room for that, the journal stays beside it
            with contextlib.suppress(OSError) if kind is not None else contextlib.nullcontext():
                self.manifest.write(self._folder)
