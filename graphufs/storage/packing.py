"""Fields in 16 bits: whole multiples of a step, a power of two, away from a middle which is one as well.

    value = middle + step * code        code from -32766 to 32766, or NONE for a value that is missing

The step is the smallest with which the range of the field fits, or the least that a float32 of its size can tell. So an
error is at most a 65,000th of the field's range, half of what 14 bits leave, as the UFS rounds its output. What was
packed once comes out the same however often it is packed again.
"""

from __future__ import annotations

import math

import numpy as np

CODES = 32766
"""The largest code."""
MOST = 2 * CODES - 1
"""Steps that the range of a field may have, and one more, by which rounding may widen it."""
NONE = np.int16(-32768)
"""The code of a value that is missing."""
BITS = 14
"""Of a field that was rounded already to so many, less is lost here than there."""
DIGITS = 23
"""Binary digits of a float32 behind its first."""
LEAST = -126
"""The least exponent of a step: that of the smallest float32 of full precision."""


def pack(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes, int16 [..., lat, lon], and scales, float32 [..., 2] (step, middle), of fields, float32 [..., lat, lon].

    What is not finite is missing.
    """
    codes, scales = np.empty(values.shape, np.int16), np.empty((*values.shape[:-2], 2), np.float32)
    for at in np.ndindex(*values.shape[:-2]):
        codes[at], scales[at] = _packed(values[at])
    return codes, scales


def _packed(field: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Codes [lat, lon] of a field, with its step and middle."""
    finite = np.isfinite(field)
    known = field[finite].astype(np.float64)
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    exponent = max(_exponent((high - low) / MOST), _exponent(max(-low, high)) - 1 - DIGITS, LEAST)
    if round(math.ldexp(high, -exponent)) - round(math.ldexp(low, -exponent)) >= MOST:
        exponent += 1
    middle = round(math.ldexp((low + high) / 2, -exponent))
    codes = np.full(field.shape, NONE)
    codes[finite] = np.rint(np.ldexp(known, -exponent)) - middle
    return codes, (math.ldexp(1.0, exponent), math.ldexp(middle, exponent))


def _exponent(value: float) -> int:
    """The least exponent of a power of two above a value."""
    return math.frexp(value)[1] if value > 0 else LEAST


def unpack(codes: np.ndarray, scales: np.ndarray, out: np.ndarray) -> None:
    """Fill `out`, float32 [..., lat, lon], with what was packed to these codes and scales."""
    np.multiply(codes, scales[..., 0, None, None], out=out, dtype=np.float32, casting="same_kind")
    out += scales[..., 1, None, None]
    if (missing := codes == NONE).any():
        out[missing] = np.nan


def rounded(values: np.ndarray) -> np.ndarray:
    """Fields, float32 [..., lat, lon], as they come back when they were packed."""
    out = np.empty_like(values)
    unpack(*pack(values), out)
    return out
