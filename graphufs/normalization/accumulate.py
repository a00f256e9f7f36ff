"""Sums over frames in one pass: a compiled kernel that releases the interpreter lock, and the state around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np

from graphufs.config.data import Transform
from graphufs.normalization.moments import FieldMoments, Moments
from graphufs.normalization.transforms import forward


# Not plain fastmath: that would let the compiler assume that there are no NaN.
@numba.njit(nogil=True, fastmath={"reassoc", "contract", "nsz"}, cache=True)
def _add_values(x: Any, thickness: Any, layer: Any, area: Any, shift: Any, sums: Any) -> None:
    """Add one frame's values; x [P, lat, lon], layer [P] the thickness channel or -1, area [lat], sums [P, 3]."""
    for p in range(x.shape[0]):
        k, t = shift[p], layer[p]
        weight, first, second = 0.0, 0.0, 0.0
        for j in range(x.shape[1]):
            n, a, b = 0.0, 0.0, 0.0
            for i in range(x.shape[2]):
                value = np.float64(x[p, j, i])
                w = 1.0
                if t >= 0:
                    w = abs(np.float64(thickness[t, j, i]))
                u = value - k
                if not (u == u and w == w):
                    u = 0.0
                    w = 0.0
                n += w
                a += w * u
                b += w * u * u
            weight += area[j] * n
            first += area[j] * a
            second += area[j] * b
        sums[p, 0] += weight
        sums[p, 1] += first
        sums[p, 2] += second


@numba.njit(nogil=True, fastmath={"reassoc", "contract", "nsz"}, cache=True)
def _add_differences(
    x: Any, before: Any, thickness: Any, thickness_before: Any, layer: Any, area: Any, shift: Any, sums: Any
) -> None:
    """Add the differences of two frames, weighted by the mean thickness of the two; shapes as above."""
    for p in range(x.shape[0]):
        k, t = shift[p], layer[p]
        weight, first, second = 0.0, 0.0, 0.0
        for j in range(x.shape[1]):
            n, a, b = 0.0, 0.0, 0.0
            for i in range(x.shape[2]):
                w = 1.0
                if t >= 0:
                    w = 0.5 * (abs(np.float64(thickness[t, j, i])) + abs(np.float64(thickness_before[t, j, i])))
                u = np.float64(x[p, j, i]) - np.float64(before[p, j, i]) - k
                if not (u == u and w == w):
                    u = 0.0
                    w = 0.0
                n += w
                a += w * u
                b += w * u * u
            weight += area[j] * n
            first += area[j] * a
            second += area[j] * b
        sums[p, 0] += weight
        sums[p, 1] += first
        sums[p, 2] += second


class Accumulator:
    """Moments of the channels of a stream of frames, and of their differences.

    `area`, float64 [lat], weighs each row, ones count grid points; `layer`, int64 [channel], has for each channel the
    one that holds the thickness of its layer [m, either sign], or -1 to weight by area alone. Channels with a transform
    are transformed before they are added up; thickness is taken as it is in the frame.
    """

    def __init__(self, area: np.ndarray, layer: np.ndarray, transforms: Sequence[tuple[slice, Transform]] = ()) -> None:
        self._transforms = tuple(transforms)
        self._area = np.ascontiguousarray(area, np.float64)
        self._layer = np.ascontiguousarray(layer, np.int64)
        count = self._layer.size
        self._values, self._differences = np.zeros((count, 3)), np.zeros((count, 3))
        self._shift: np.ndarray | None = None
        self._difference_shift: np.ndarray | None = None

    def update(self, frame: np.ndarray, before: np.ndarray | None = None) -> None:
        """Add a frame, float32 [channel, lat, lon], and its difference to the frame `before` it where there is one.

        NaN (land in an ocean frame) counts nothing.
        """
        values = self._transformed(frame)
        if self._shift is None:
            self._shift = _rough_mean(values)
        _add_values(values, frame, self._layer, self._area, self._shift, self._values)
        if before is not None:
            earlier = self._transformed(before)
            if self._difference_shift is None:
                self._difference_shift = _rough_mean(values.astype(np.float64) - earlier)
            _add_differences(
                values, earlier, frame, before, self._layer, self._area, self._difference_shift, self._differences
            )

    def _transformed(self, frame: np.ndarray) -> np.ndarray:
        """The frame itself, or a copy in float64 with some channels transformed."""
        if not self._transforms:
            return frame
        values = frame.astype(np.float64)
        for channels, transform in self._transforms:
            values[channels] = forward(transform, values[channels])
        return values

    def moments(self) -> FieldMoments:
        """The moments of all frames added so far, [channel]."""
        nothing = np.zeros(self._layer.size)
        parts = []
        for sums, shift in ((self._values, self._shift), (self._differences, self._difference_shift)):
            weight, first, second = sums.T
            parts.append(Moments.from_shifted_sums(weight, first, second, nothing if shift is None else shift))
        return FieldMoments(*parts)


def _rough_mean(frame: np.ndarray) -> np.ndarray:
    """A float32 value near each channel's mean, as float64 [channel]: see Moments.reference."""
    flat = frame.reshape(frame.shape[0], -1).astype(np.float64)
    finite = np.isfinite(flat)
    mean = np.where(finite, flat, 0.0).sum(axis=1) / np.maximum(finite.sum(axis=1), 1)
    return mean.astype(np.float32).astype(np.float64)
