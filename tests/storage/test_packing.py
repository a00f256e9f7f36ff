"""Fields in 16 bits: within half of what 14 bits leave, the same when packed again, and missing where missing."""

from __future__ import annotations

import numpy as np
import pytest

from graphufs.storage import packing

RANDOM = np.random.default_rng(0)
SHAPE = (40, 60)
FIELDS = {
    "temperature": 280 + 40 * RANDOM.standard_normal(SHAPE),
    "pressure": 1e5 + 2e4 * RANDOM.uniform(-1, 1, SHAPE),
    "humidity": 1e-3 * RANDOM.exponential(size=SHAPE),
    "rain": np.maximum(0, 1e-5 * RANDOM.standard_normal(SHAPE)),
    "constant": np.full(SHAPE, 273.15),
    "nothing": np.zeros(SHAPE),
    "nearly constant": 1e6 + RANDOM.uniform(0, 1, SHAPE),
    "negative": -RANDOM.uniform(18, 527, SHAPE),
    "two values": np.where(RANDOM.uniform(size=SHAPE) > 0.5, 1.0, 0.0),
    "whole numbers": RANDOM.integers(0, packing.MOST, SHAPE),
    "tiny": 1e-40 * RANDOM.uniform(size=SHAPE),
    "huge": 1e38 * RANDOM.uniform(-1, 1, SHAPE),
}


@pytest.mark.parametrize("name", FIELDS)
def test_an_error_is_at_most_a_65_000th_of_the_range_and_packing_again_changes_nothing(name: str) -> None:
    field = FIELDS[name].astype(np.float32)[None]
    found = packing.rounded(field)
    low, high = float(field.min()), float(field.max())
    assert found.dtype == np.float32 and np.isfinite(found).all()
    assert np.abs(found.astype(np.float64) - field).max() <= max((high - low) / 65000, 2.0**-126)
    assert np.array_equal(packing.rounded(found), found)


def test_ranges_of_any_kind_come_out_the_same_when_packed_again() -> None:
    for _ in range(300):
        scale, middle = np.exp(RANDOM.uniform(-20, 20)), RANDOM.uniform(-1000, 1000)
        ends = np.float32([middle - scale, middle + scale * RANDOM.uniform(0.9, 1.1)])
        field = np.linspace(*ends, 257, dtype=np.float32).reshape(1, 1, -1)
        found = packing.rounded(field)
        assert np.array_equal(packing.rounded(found), found)
        assert np.abs(found.astype(np.float64) - field).max() <= np.ptp(field.astype(np.float64)) / 65000


def test_missing_values_stay_missing_and_others_are_not_touched_by_them() -> None:
    fields = np.stack([FIELDS["temperature"], FIELDS["rain"], FIELDS["rain"]]).astype(np.float32).reshape(1, 3, *SHAPE)
    fields[0, 1, 3:5] = np.nan
    fields[0, 2] = np.inf
    codes, scales = packing.pack(fields)
    assert codes.dtype == np.int16 and scales.shape == (1, 3, 2)
    out = np.empty_like(fields)
    packing.unpack(codes, scales, out)
    assert np.array_equal(np.isnan(out[0, 1]), np.isnan(fields[0, 1])) and np.isnan(out[0, 2]).all()
    assert np.array_equal(out[0, 0], packing.rounded(fields[:, 0])[0])
