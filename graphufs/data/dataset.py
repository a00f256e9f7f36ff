"""PreparedData: frames at any stamps, read fast into the caller's buffer, and the samples they make."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from graphufs.config.base import Period
from graphufs.data.channels import PreparedChannel, slice_of, variable_slices
from graphufs.data.manifest import SEGMENTS, STATIC, Manifest, Segment, places
from graphufs.data.static_fields import read_static
from graphufs.data.zarr_segment import PackedFrames, Part, Unreadable, read_places
from graphufs.errors import UserError
from graphufs.replay.times import listing, stamps_in
from graphufs.replay.variable_facts import VariableFacts
from graphufs.vocabulary.variables import PRESSURE_LEVEL


@dataclass(frozen=True, eq=False)
class Samples:
    """Initial times whose whole window can be used, and how many others cannot, by reason.

    `excluded` counts each unusable window once: under `missing` if one of its stamps is not there, else under
    `invalid` (a stamp in it has NaN where there must be none). `stamps` names those stamps.
    """

    initial: np.ndarray
    excluded: dict[str, int]
    stamps: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class PreparedData:
    """The frames `prepare` wrote. A snapshot: segments committed after opening are not seen. Safe across threads.

    Channels are sorted by variable, then level from small to large; coordinates are float64 degrees in the source's own
    order (Replay: latitude descending); the time step is in hours; static fields are float32 [lat, lon]; stamps are
    datetime64[ns], sorted.
    """

    folder: Path
    channels: tuple[PreparedChannel, ...]
    latitude: np.ndarray
    longitude: np.ndarray
    parent_latitude: np.ndarray
    """The full grid's latitudes if the source decimates one, else `latitude`."""
    time_step: int
    component: str
    facts: dict[str, VariableFacts]
    provenance: dict[str, object]
    mask: np.ndarray
    """bool [channel, lat, lon], True where values exist (False: land in an ocean store)."""
    static: dict[str, np.ndarray]
    stamps: np.ndarray
    valid: np.ndarray
    """bool, aligned with `stamps`; False where a field has NaN where it must not."""
    missing: np.ndarray
    """Stamps asked for that are missing from the source."""
    invalid: dict[str, list[str]]
    _where: np.ndarray = field(repr=False)
    _segments: tuple[PackedFrames, ...] = field(repr=False)
    _committed: tuple[Segment, ...] = field(repr=False)

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """Open a folder of prepared data.

        Raises
        ------
        UserError
            If nothing was prepared there, or a committed file was damaged since.
        """
        folder = Path(folder)
        manifest = Manifest.read(folder)
        if manifest is None or not manifest.segments:
            raise UserError(f"no prepared data in {folder}; run `graphufs prepare` with this experiment first")
        found = (manifest.static_damage(folder), *(segment.damage(folder) for segment in manifest.segments))
        for damage in filter(None, found):
            raise UserError(f"prepared data are damaged: {damage}; run `graphufs prepare` again, it repairs them")
        header = manifest.header
        mask, static = read_static(folder / STATIC)
        stamps, where = places(manifest.segments)
        invalid = manifest.invalid
        flawed = np.array(list(invalid), "datetime64[ns]")
        return cls(
            folder=folder,
            channels=header.channels,
            latitude=header.latitude,
            longitude=header.longitude,
            parent_latitude=header.parent_latitude,
            time_step=header.time_step,
            component=header.component,
            facts=header.facts,
            provenance=header.provenance,
            mask=mask,
            static=static,
            stamps=stamps,
            valid=~np.isin(stamps, flawed),
            missing=manifest.missing,
            invalid=invalid,
            _where=where,
            _segments=tuple(PackedFrames(folder / SEGMENTS / segment.name) for segment in manifest.segments),
            _committed=manifest.segments,
        )

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(channel, lat, lon) of a frame."""
        return len(self.channels), self.latitude.size, self.longitude.size

    @property
    def on_pressure_levels(self) -> bool:
        """Whether levels are surfaces of constant pressure."""
        return any(facts.vertical == PRESSURE_LEVEL for facts in self.facts.values())

    @property
    def variables(self) -> tuple[str, ...]:
        """The time-varying variables, in the channels' order."""
        return tuple(variable_slices(self.channels))

    def variable_slice(self, name: str) -> slice:
        """The channels of a variable.

        Raises
        ------
        UserError
            If there is no such time-varying variable.
        """
        return slice_of(variable_slices(self.channels), name)

    def read(self, stamps: np.ndarray, out: np.ndarray | None = None, part: Part | None = None) -> np.ndarray:
        """Frames at any stamps, datetime64 [n], in any order, repeats allowed; land stays NaN in ocean frames.

        `out` is a buffer to fill, C-contiguous float32 [n, channel, lat, lon]; filling one again and again is several
        times faster than a fresh one. With a `part` of the grid points, frames are [n, channel, 1, point].

        Raises
        ------
        UserError
            If a stamp is not there, or its frame is not what was written.
        """
        stamps = np.asarray(stamps, "datetime64[ns]")
        grid = self.frame_shape[1:] if part is None else (1, part.points.size)
        shape = (stamps.size, len(self.channels), *grid)
        if out is None:
            out = np.empty(shape, np.float32)
        elif out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous:
            raise UserError(f"read needs a C-contiguous float32 buffer of shape {shape}, got {out.dtype} {out.shape}")
        try:
            read_places(self._segments, self._where[self._indices(stamps)], out, part)
        except Unreadable as error:
            segment = self._committed[error.segment]
            segment.suspect(self.folder)
            raise UserError(
                f"prepared data are damaged: frames of {self.folder / SEGMENTS / segment.name} cannot be read ({error})"
                "; run `graphufs prepare` again, it repairs them"
            ) from error
        return out

    def _indices(self, stamps: np.ndarray) -> np.ndarray:
        indices = np.minimum(np.searchsorted(self.stamps, stamps), self.stamps.size - 1)
        absent = stamps[self.stamps[indices] != stamps]
        if absent.size:
            lacking = np.isin(absent, self.missing)
            reason = "missing in the source" if lacking.all() else "not prepared (run prepare with their period)"
            there = f"{self.stamps.size} stamps, {listing(self.stamps[:1])} to {listing(self.stamps[-1:])}"
            raise UserError(f"no frame at {listing(absent)}: {reason}. {self.folder} holds {there}")
        return indices

    def usable(self, stamps: np.ndarray) -> np.ndarray:
        """Whether each stamp is there and valid, bool [n]."""
        return np.isin(stamps, self.stamps[self.valid])

    def samples(self, period: Period, frames: int, rollout: int) -> Samples:
        """Initial times t whose window t-(frames-1)*step ... t+rollout*step lies in the period, is there and is valid.

        Both ends of the period are included; `frames` counts input frames, the initial time included, `rollout` target
        steps.
        """
        stamps = stamps_in(period, self.time_step)
        length = frames + rollout
        if stamps.size < length:
            return Samples(stamps[:0], {"missing": 0, "invalid": 0}, {"missing": stamps[:0], "invalid": stamps[:0]})
        present = np.isin(stamps, self.stamps)
        valid = self.usable(stamps)
        windows = np.lib.stride_tricks.sliding_window_view
        all_present = windows(present, length).all(axis=1)
        all_valid = windows(valid, length).all(axis=1)
        initial = stamps[frames - 1 : stamps.size - rollout]
        return Samples(
            initial[all_valid],
            {"missing": int((~all_present).sum()), "invalid": int((all_present & ~all_valid).sum())},
            {"missing": stamps[~present], "invalid": stamps[present & ~valid]},
        )
