"""The manifest of prepared data: which segments are committed, with which stamps. It is the only commit point.

A segment counts when the manifest lists it, and is listed only after it was written, read back and forced to disk. A
folder that is not listed is a leftover. The manifest itself is replaced in one step.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from graphufs.data.channels import PreparedChannel
from graphufs.errors import UserError
from graphufs.replay.times import from_runs, text, to_runs, union
from graphufs.replay.variable_facts import VariableFacts
from graphufs.storage.atomic import write_json
from graphufs.storage.paths import FORMATS

MANIFEST = "manifest.json"
SEGMENTS = "segments"
STATIC = "static.zarr"
CRC_BLOCK = 1 << 22


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
        """What is wrong with the files on disk, or None. Sizes are compared; checksums too when `thorough`."""
        for name, (size, checksum) in self.files.items():
            path = folder / SEGMENTS / self.name / name
            try:
                found = path.stat().st_size
            except FileNotFoundError:
                return f"{path} is missing"
            if found != size:
                return f"{path} has {found} bytes instead of {size}"
            if thorough and crc32(path) != checksum:
                return f"{path} has changed since it was written"
        return None


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
    """The header and the committed segments of one folder of prepared data."""

    header: Header
    segments: tuple[Segment, ...] = ()
    missing: np.ndarray = field(default_factory=lambda: np.empty(0, "datetime64[ns]"))

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
        return replace(self, segments=tuple(sorted(segments, key=lambda segment: segment.stamps[0])))

    def write(self, folder: Path) -> None:
        """Replace the manifest on disk."""
        header, step = self.header, self.header.time_step
        write_json(
            folder / MANIFEST,
            {
                "format": FORMATS["data"],
                "time_step_hours": step,
                "component": header.component,
                "channels": [[channel.variable, channel.level, channel.native] for channel in header.channels],
                "static": list(header.static),
                "variables": {name: facts.to_json() for name, facts in header.facts.items()},
                "latitude": header.latitude.tolist(),
                "longitude": header.longitude.tolist(),
                "parent_latitude": header.parent_latitude.tolist(),
                "provenance": header.provenance,
                "missing": [text(stamp) for stamp in self.missing],
                "segments": [
                    {
                        "name": segment.name,
                        "stamps": to_runs(segment.stamps, step),
                        "invalid": segment.invalid,
                        "files": segment.files,
                    }
                    for segment in self.segments
                ],
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
        path = folder / MANIFEST
        try:
            content = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise UserError(f"{path} is not JSON ({error}); remove the folder {folder} and run prepare") from error
        if content.get("format") != FORMATS["data"]:
            raise UserError(
                f"{path} has format {content.get('format')}, this version writes {FORMATS['data']}; "
                f"remove the folder {folder} and run prepare"
            )
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
        )
        segments = tuple(
            Segment(
                segment["name"],
                from_runs(segment["stamps"], step),
                segment["invalid"],
                {name: (size, checksum) for name, (size, checksum) in segment["files"].items()},
            )
            for segment in content["segments"]
        )
        missing = np.array(content["missing"], "datetime64[ns]")
        return cls(header, segments, missing)


def crc32(path: Path) -> int:
    """The CRC-32 of a file."""
    checksum = 0
    with open(path, "rb") as file:
        while block := file.read(CRC_BLOCK):
            checksum = zlib.crc32(block, checksum)
    return checksum
