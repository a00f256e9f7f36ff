"""Mergeable sums of whole fields over initial times: what maps and spectra are kept in.

Unlike the spatial means of `graphufs.weatherbench.scoring.score_state`, fields are too large to keep for each initial
time. Their sum is kept, with the initial times in it, so that none is counted twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from graphufs.errors import UserError


class FieldSums:
    """The sum of fields of one shape over initial times; with `skipna`, NaN is left out, point by point."""

    def __init__(self, shape: tuple[int, ...], *, skipna: bool = False) -> None:
        self.skipna = skipna
        self._sum = np.zeros(shape)
        self._missing = np.zeros(shape, np.int64) if skipna else None
        self._times: set[np.datetime64] = set()

    @classmethod
    def restore(
        cls, initial_times: Iterable[np.datetime64], total: np.ndarray, missing: np.ndarray | None
    ) -> FieldSums:
        """Sums as `arrays` and `initial_times` gave them."""
        sums = cls(total.shape, skipna=missing is not None)
        sums._take_in(initial_times)
        sums._sum = np.array(total, np.float64)
        sums._missing = None if missing is None else np.array(missing, np.int64)
        return sums

    def arrays(self) -> dict[str, np.ndarray]:
        """What is to be kept besides the initial times: `sum`, and with `skipna` how many were `missing` at a point."""
        return {"sum": self._sum} | ({} if self._missing is None else {"missing": self._missing})

    def __contains__(self, initial_time: np.datetime64) -> bool:
        return initial_time.astype("datetime64[ns]") in self._times

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one field."""
        return self._sum.shape

    @property
    def initial_times(self) -> np.ndarray:
        """The initial times in the sum, datetime64[ns], ascending."""
        return np.array(sorted(self._times), "datetime64[ns]")

    def update(self, initial_time: np.datetime64, values: np.ndarray) -> None:
        """Add the field of an initial time.

        Raises
        ------
        UserError
            If it has another shape, or the initial time is there already.
        """
        if values.shape != self.shape:
            raise UserError(f"a field of shape {values.shape} does not fit sums of shape {self.shape}")
        self._take_in([initial_time.astype("datetime64[ns]")])
        if self._missing is not None:
            missing = np.isnan(values)
            self._missing += missing
            values = np.where(missing, 0.0, values)
        self._sum += values

    def merge(self, other: FieldSums) -> FieldSums:
        """The sum over the initial times of both.

        Raises
        ------
        UserError
            If they have different shapes or NaN rules, or share an initial time.
        """
        if (self.shape, self.skipna) != (other.shape, other.skipna):
            raise UserError(
                f"sums of shape {self.shape} (skipna={self.skipna}) and {other.shape} (skipna={other.skipna}) cannot "
                "be merged"
            )
        merged = FieldSums(self.shape, skipna=self.skipna)
        for part in (self, other):
            merged._take_in(part._times)
            merged._sum += part._sum
            if merged._missing is not None and part._missing is not None:
                merged._missing += part._missing
        return merged

    def mean(self) -> np.ndarray:
        """The mean over initial times, float64; with `skipna`, over those that are not NaN at a point.

        Raises
        ------
        UserError
            If there is no initial time.
        """
        if not self._times:
            raise UserError("no initial time has been added: there is nothing to average")
        count = len(self._times) - (0 if self._missing is None else self._missing)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self._sum / count)

    def checksum(self) -> str:
        """The SHA-256 of the initial times and sums, to find out a damaged copy."""
        digest = hashlib.sha256(self.initial_times.astype("<i8").tobytes())
        digest.update(self._sum.astype("<f8").tobytes())
        if self._missing is not None:
            digest.update(self._missing.astype("<i8").tobytes())
        return digest.hexdigest()

    def _take_in(self, times: Iterable[np.datetime64]) -> None:
        times = set(times)
        if twice := sorted(times & self._times):
            raise UserError(
                f"the initial time {twice[0].astype('datetime64[h]')} is in the sums already and must not count twice"
            )
        self._times |= times
