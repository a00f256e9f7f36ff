"""The manifest of prepared data: which segments are committed, with which stamps. It is the only commit point.

A segment counts when the manifest lists it, and is listed only after it was written, read back and forced to disk. A
folder that is not listed is a leftover. The manifest itself is replaced in one step.

While segments are committed one after the other, a journal beside the manifest takes them (`graphufs.data.commits`), so
that the thousandth commit costs what the first did. The manifest then has format 2, which earlier versions refuse, and
names its journal; at rest it is of format 1 again.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from graphufs.data.channels import PreparedChannel
from graphufs.errors import UserError
from graphufs.replay.times import from_runs, text, to_runs, union
from graphufs.replay.variable_facts import VariableFacts
from graphufs.storage.checksums import Damaged, Files, differences, listed, read_checked, write_checked
from graphufs.storage.formats import FORMATS, require
from graphufs.storage.journal import entries

MANIFEST = "manifest.json"
SEGMENTS = "segments"
STATIC = "static.zarr"
COPY = ".manifest.copy.json"
"""The manifest once more: without one, all that is prepared would have to be read from the source again."""
JOURNALS = {MANIFEST: "commits.jsonl", COPY: ".commits.copy.jsonl"}
"""The journal of each of the two."""
JOURNALED = 2
"""The format of a manifest that has one."""
ATTEMPTS = 5
"""How often a manifest is read that is rewritten meanwhile."""


@dataclass(frozen=True, eq=False)
class Segment:
    """A committed stretch of frames: one folder, never changed again.

    `invalid` holds, by stamp, the variables with missing values where there must be none; `files` the size in bytes
    and CRC-32 of every file, by its path in the folder.
    """

    name: str
    stamps: np.ndarray
    invalid: dict[str, list[str]]
    files: dict[str, tuple[int, int]]

    def damage(self, folder: Path, *, thorough: bool = False) -> str | None:
        """What is wrong with the files on disk, or None.

        Sizes are compared, and what says how frames lie in files and what they mean; all checksums when `thorough`, or
        where somebody suspects the segment.
        """
        place = folder / SEGMENTS / self.name
        thorough = thorough or self._suspicion(folder).exists()
        said = ("frames/zarr.json", "scales/")
        small = {name: size for name, size in self.files.items() if name.startswith(said)}
        found = differences(place, small, thorough=True), differences(place, self.files, thorough=thorough)
        return next(itertools.chain(*found), None)

    def to_json(self, time_step: int) -> dict[str, Any]:
        """The segment as a manifest has it."""
        stamps = to_runs(self.stamps, time_step)
        return {"name": self.name, "stamps": stamps, "invalid": self.invalid, "files": self.files}

    @classmethod
    def of(cls, content: dict[str, Any], time_step: int) -> Segment:
        """The segment that `to_json` made this of."""
        files = {name: (size, checksum) for name, (size, checksum) in content["files"].items()}
        return cls(content["name"], from_runs(content["stamps"], time_step), content["invalid"], files)

    def suspect(self, folder: Path) -> None:
        """Have `prepare`, and whoever opens the data, compare all checksums, which takes long for all segments."""
        with contextlib.suppress(OSError):  # as where the reader may not write
            self._suspicion(folder).touch()

    def trust(self, folder: Path) -> None:
        """Take back what `suspect` did: the segment was found whole, or is to be written again."""
        self._suspicion(folder).unlink(missing_ok=True)

    def _suspicion(self, folder: Path) -> Path:
        return folder / f".{self.name}.suspect"


def places(segments: Sequence[Segment]) -> tuple[np.ndarray, np.ndarray]:
    """The stamps of all segments, sorted, once each, datetime64[ns] [frame]; and where each lies, int [frame, 2].

    That is the number of its segment and of its frame in there. A stamp that was read again lies in two segments: it is
    taken from where its values are whole.
    """
    stamps = np.concatenate([segment.stamps for segment in segments])
    where = np.concatenate(
        [
            np.stack([np.full(segment.stamps.size, number), np.arange(segment.stamps.size)], axis=1)
            for number, segment in enumerate(segments)
        ]
    )
    flawed = [np.isin(one.stamps, np.array(list(one.invalid), "datetime64[ns]")) for one in segments]
    order = np.lexsort((np.concatenate(flawed), stamps))
    order = order[np.unique(stamps[order], return_index=True)[1]]
    return stamps[order], where[order]


@dataclass(frozen=True, eq=False)
class Header:
    """What all segments have in common."""

    time_step: int
    component: str
    channels: tuple[PreparedChannel, ...]
    static: tuple[str, ...]
    facts: dict[str, VariableFacts]
    latitude: np.ndarray
    longitude: np.ndarray
    parent_latitude: np.ndarray
    provenance: dict[str, Any] = field(default_factory=dict)
    source: dict[str, str] = field(default_factory=dict)
    """Digests of the source's metadata by variable, see `graphufs.data.source_identity`; data of 0.1 have none."""
    storage: str = "float32"
    """How frames lie on disk: as `float32`, or packed to `int16` (graphufs.storage.packing)."""

    @property
    def frame_bytes(self) -> int:
        """What a frame takes on disk."""
        points = self.latitude.size * self.longitude.size
        return np.dtype(self.storage).itemsize * len(self.channels) * points

    def difference(self, other: Header) -> str | None:
        """What keeps frames of the two from lying side by side, or None."""
        for name in ("latitude", "longitude"):
            if not np.array_equal(getattr(self, name), getattr(other, name)):
                return f"its {name}s"
        for mine, theirs in zip(self.channels, other.channels, strict=False):
            if mine != theirs:
                return f"channel {mine.variable} at {mine.native} against {theirs.variable} at {theirs.native}"
        if (len(self.channels), self.static) != (len(other.channels), other.static):
            return "its variables"
        return None


@dataclass(frozen=True, eq=False)
class Manifest:
    """The header and the committed segments of one folder of prepared data.

    `static` has size and checksum of the files of the static fields; None in manifests of earlier versions. `retired`
    has the segments that were merged into others, and since when [s since the epoch]: readers that opened the data
    before may still use them (see `graphufs.data.merge`).
    """

    header: Header
    segments: tuple[Segment, ...] = ()
    missing: np.ndarray = field(default_factory=lambda: np.empty(0, "datetime64[ns]"))
    static: Files | None = None
    retired: dict[str, float] = field(default_factory=dict)
    journal: tuple[str, int] = ("", 0)
    """The name of the journal that it was read with, if any, and how many commits that has."""

    @property
    def stamps(self) -> np.ndarray:
        """All committed stamps [frame], sorted, once each; datetime64[ns]."""
        return union(segment.stamps for segment in self.segments)

    @property
    def invalid(self) -> dict[str, list[str]]:
        """By stamp, the variables with missing values; not of stamps that another segment has without (see `late`)."""
        invalid = {stamp: names for segment in self.segments for stamp, names in segment.invalid.items()}
        flawed = np.array(sorted(invalid), "datetime64[ns]")
        for segment in self.segments if invalid else ():
            for stamp in map(text, np.intersect1d(segment.stamps, flawed)):
                if stamp not in segment.invalid:
                    invalid.pop(stamp, None)
        return invalid

    def with_segments(self, segments: Iterable[Segment]) -> Manifest:
        """The same with other segments, in order of time."""
        segments = tuple(sorted(segments, key=lambda segment: segment.stamps[0]))
        names = {segment.name for segment in segments}
        retired = {name: since for name, since in self.retired.items() if name not in names}
        return replace(self, segments=segments, retired=retired)

    def static_damage(self, folder: Path) -> str | None:
        """What is wrong with the static fields on disk, or None."""
        if self.static is not None:
            return next(differences(folder / STATIC, self.static, thorough=True), None)
        return None if (folder / STATIC).is_dir() else f"{folder / STATIC} is missing"

    def write(self, folder: Path, *, journal: str | None = None) -> None:
        """Replace the manifest on disk, and then its copy; `journal` is the name of one that goes on from there."""
        for name, beside in JOURNALS.items():
            self._write(folder / name, journal)
            if journal is None:
                (folder / beside).unlink(missing_ok=True)

    def _write(self, path: Path, journal: str | None) -> None:
        header, step = self.header, self.header.time_step
        write_checked(
            path,
            {
                "format": FORMATS["data"] if journal is None else JOURNALED,
                **({} if journal is None else {"journal": journal}),
                "time_step_hours": step,
                "component": header.component,
                "channels": [[channel.variable, channel.level, channel.native] for channel in header.channels],
                "static": list(header.static),
                "variables": {name: facts.to_json() for name, facts in header.facts.items()},
                "latitude": header.latitude.tolist(),
                "longitude": header.longitude.tolist(),
                "parent_latitude": header.parent_latitude.tolist(),
                "provenance": header.provenance,
                "source": header.source,
                **({} if header.storage == "float32" else {"storage": header.storage}),
                **({} if self.static is None else {"static_files": self.static}),
                "missing": [text(stamp) for stamp in self.missing],
                **({"retired": self.retired} if self.retired else {}),
                "segments": [segment.to_json(step) for segment in self.segments],
            },
        )

    @classmethod
    def read(cls, folder: Path) -> Manifest | None:
        """The manifest of a folder, or None where there is none yet.

        Raises
        ------
        UserError
            If the file is not what this version of the package writes.
        """
        try:
            return cls._read(folder / MANIFEST)
        except Damaged as error:
            raise UserError(
                f"the prepared data are damaged: {error}; run `graphufs prepare`, it repairs them"
            ) from None

    @classmethod
    def damage(cls, folder: Path) -> str | None:
        """What is wrong with the manifest of a folder that has one, or with its copy; None if nothing is."""
        read: list[tuple[str, int]] = []
        for name in (MANIFEST, COPY):
            try:
                manifest = cls._read(folder / name)
            except Damaged as error:
                return str(error)
            except UserError:  # another version's: no damage, and no copy to look for
                return None
            if manifest is None:
                return f"{folder / name} is missing"
            if manifest.static is None:
                return None  # earlier versions kept no copy
            read.append(manifest.journal)
        return f"{folder / JOURNALS[MANIFEST]} has lost commits that its copy has" if _fewer(*read) else None

    @classmethod
    def recover(cls, folder: Path) -> Manifest | None:
        """The manifest of a folder, or where it is damaged or gone its copy; None where there is neither.

        Raises
        ------
        UserError
            If it is of another version's format.
        """
        found: list[Manifest] = []
        for name in (MANIFEST, COPY):
            with contextlib.suppress(Damaged):
                if (manifest := cls._read(folder / name)) is not None:
                    found.append(manifest)
        if len(found) > 1 and _fewer(found[0].journal, found[1].journal):
            return found[1]
        return found[0] if found else None

    @classmethod
    def _read(cls, path: Path) -> Manifest | None:
        for _ in range(ATTEMPTS):
            try:
                content = read_checked(path)
            except FileNotFoundError:
                return None
            found = content.get("format", 1)
            if found != JOURNALED:
                require(path, found, "data")
            try:
                manifest = cls._of(content)
                if found != JOURNALED:
                    return manifest
                commits = entries(path.with_name(JOURNALS[path.name]), content["journal"])
                if commits is not None:
                    return manifest._after(content["journal"], commits)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                if isinstance(error, Damaged):
                    raise
                raise Damaged(f"{path} is no manifest ({error!r})") from None
            # the journal was put into the manifest between the two reads, which is then another
        raise Damaged(f"{path.with_name(JOURNALS[path.name])} is missing")

    def _after(self, journal: str, commits: Sequence[dict[str, Any]]) -> Manifest:
        """The manifest with what its journal has."""
        segments, retired, step = {one.name: one for one in self.segments}, dict(self.retired), self.header.time_step
        for commit in commits:
            for name, since in commit.get("retire", {}).items():
                segments.pop(name)
                retired[name] = since
            for content in commit["add"]:
                segments[content["name"]] = Segment.of(content, step)
        after = replace(self, retired=retired, journal=(journal, len(commits)))
        return after.with_segments(segments.values())

    @classmethod
    def _of(cls, content: dict[str, Any]) -> Manifest:
        step = content["time_step_hours"]
        header = Header(
            step,
            content["component"],
            tuple(PreparedChannel(*channel) for channel in content["channels"]),
            tuple(content["static"]),
            {name: VariableFacts.from_json(facts) for name, facts in content["variables"].items()},
            np.array(content["latitude"], np.float64),
            np.array(content["longitude"], np.float64),
            np.array(content["parent_latitude"], np.float64),
            content["provenance"],
            content.get("source", {}),
            content.get("storage", "float32"),
        )
        segments = tuple(Segment.of(segment, step) for segment in content["segments"])
        missing = np.array(content["missing"], "datetime64[ns]")
        retired = {str(name): float(since) for name, since in content.get("retired", {}).items()}
        return cls(header, segments, missing, listed(content, "static_files"), retired)


def _fewer(one: tuple[str, int], other: tuple[str, int]) -> bool:
    """Whether of two journals, that are the same, one has fewer commits."""
    return one[0] == other[0] and one[1] < other[1]
