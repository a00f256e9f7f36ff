"""Area weights."""

from __future__ import annotations

import numpy as np
import pytest

from graphufs.errors import UserError
from graphufs.grid.areas import cell_weights, latitude_weights

GAUSSIAN = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(32)[0]))


def test_weights_are_the_areas_of_rows_that_reach_the_poles() -> None:
    weights = latitude_weights(np.array([-45.0, 0.0, 30.0]))
    bounds = np.sin(np.deg2rad([-90, -22.5, 15, 90]))
    np.testing.assert_allclose(weights, np.diff(bounds) / 2 * 3, rtol=1e-14)


def test_weights_of_a_gaussian_grid_are_weatherbench2s_and_not_weatherbench_xs() -> None:
    assert latitude_weights(GAUSSIAN)[0] == pytest.approx(0.11876, abs=5e-6)


def test_weatherbench_xs_outermost_rows_reach_half_a_cell_further_but_not_beyond_the_poles() -> None:
    weights = latitude_weights(np.array([-60.0, -20.0, 20.0, 70.0]), "WeatherBench-X")
    bounds = np.sin(np.deg2rad([-80, -40, 0, 45, 90]))
    np.testing.assert_allclose(weights, np.diff(bounds) / np.diff(bounds).mean(), rtol=1e-14)


def test_weights_have_mean_one_and_follow_the_order_of_latitudes() -> None:
    weights = latitude_weights(GAUSSIAN)
    assert weights.mean() == pytest.approx(1, abs=1e-15)
    np.testing.assert_array_equal(latitude_weights(GAUSSIAN[::-1]), weights[::-1])


def test_a_pole_row_has_the_small_area_of_its_cap() -> None:
    weights = latitude_weights(np.linspace(-90, 90, 121))
    np.testing.assert_allclose(weights[0] / weights.sum(), (1 - np.sin(np.deg2rad(89.25))) / 2, rtol=1e-10)


def test_masked_points_weigh_nothing() -> None:
    mask = np.array([[True, False], [True, True]])
    weights = cell_weights(np.array([10.0, -10.0]), 2, mask)
    np.testing.assert_array_equal(weights > 0, mask)


@pytest.mark.parametrize(
    "latitude", [[10.0, 5.0, 7.0], [0.0, 0.0], [-95.0, 0.0], [0.0, 1.5, 100.0], [[1.0, 2.0]], [], [0.0, np.nan]]
)
def test_impossible_latitudes_are_refused(latitude: list[float]) -> None:
    with pytest.raises(UserError, match="latitude"):
        latitude_weights(np.array(latitude))
