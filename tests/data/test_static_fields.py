"""What is land, by the masks of Replay and of analyses."""

from __future__ import annotations

import numpy as np
import pytest

from graphufs.data.static_fields import land_fraction


@pytest.mark.parametrize(
    ("name", "mask", "land"),
    [
        ("land_static", [0, 1, 2], [0, 1, 0]),  # 2 is sea ice
        ("land_sea_mask", [0, 1, 2], [0, 1, 0]),  # Replay by WeatherBench2's names
        ("land_sea_mask", [0, 0.25, 1], [0, 0.25, 1]),
        ("land_static", [0, 0.25, 1], [0, 0.25, 1]),  # an analysis by Replay's names
        ("land_sea_mask", [-1e-6, 0.5, 1 + 1e-6], [0, 0.5, 1]),  # as packing leaves it
    ],
)
def test_the_fraction_of_land_does_not_depend_on_names(name: str, mask: list[float], land: list[float]) -> None:
    found = land_fraction({"orography": np.ones((1, 3)), name: np.array([mask], np.float32)})
    assert found is not None and found.dtype == np.float64
    np.testing.assert_array_equal(found, [land])


def test_without_a_mask_nothing_is_known_of_land() -> None:
    assert land_fraction({"hgtsfc_static": np.ones((2, 3))}) is None
