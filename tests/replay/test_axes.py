"""Axes at the borders of what is let pass; whole stores are in tests/data/test_hostile_sources.py."""

from __future__ import annotations

import numpy as np
import pytest

from graphufs.errors import UserError
from graphufs.replay import axes
from tests.support.lookalike import gaussian_latitudes


@pytest.mark.parametrize(
    "degrees",
    [
        gaussian_latitudes(192),
        gaussian_latitudes(96)[::4],  # Replay's subsampled grid does not lie evenly about the equator
        gaussian_latitudes(8)[::-1],
        np.linspace(-90, 90, 181),
        np.linspace(-89.5, 89.5, 180),
        np.r_[-90, np.arange(-89.75, 90, 0.5), 90],  # half cells at the poles
        gaussian_latitudes(192).astype(np.float32),
    ],
    ids=lambda degrees: f"{degrees.size} rows from {degrees[0]:.2f}",
)
def test_grids_in_use_reach_from_pole_to_pole(degrees: np.ndarray) -> None:
    assert np.array_equal(axes.latitudes(degrees, "degrees_north", "x"), degrees.astype(np.float64))


@pytest.mark.parametrize("degrees", [np.linspace(-60, 60, 121), np.linspace(0.5, 89.5, 90), np.linspace(-1.5, 1.5, 32)])
def test_a_part_of_them_passes_only_where_it_is_meant(degrees: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"data\.region to limited"):
        axes.latitudes(degrees, "", "x")
    assert np.array_equal(axes.latitudes(degrees, "", "x", limited=True), degrees)


@pytest.mark.parametrize("count", [16, 384, 1536])
def test_rounding_keeps_longitudes_even(count: int) -> None:
    even = np.arange(count) * (360 / count)
    found, columns = axes.longitudes(even.astype(np.float32), "degrees_E", "x")
    assert columns is None and np.allclose(found, even, atol=1e-4)


def test_a_longitude_just_below_zero_is_zero_and_first() -> None:
    found, columns = axes.longitudes(np.r_[-1e-17, 90, 180, 270], "degrees", "x")
    assert columns is None and found[0] == 0


def test_columns_are_told_in_the_order_of_ascending_longitudes() -> None:
    given = np.array([-180.0, -90, 0, 90])
    found, columns = axes.longitudes(given, "degrees", "x")
    assert found.tolist() == [0, 90, 180, 270]
    assert columns is not None and np.array_equal(np.mod(given[columns], 360), found)


def test_stamps_that_are_none_are_named() -> None:
    stamps = np.array(["1994-01-01T00", "NaT", "1994-01-01T12"], "datetime64[ns]")
    with pytest.raises(UserError, match="no value at place 1"):
        axes.check_stamps(stamps, "x")
