from __future__ import annotations

import numpy as np

from graphufs.grid.areas import gaussian_latitudes, parent_latitudes, row_areas


def test_the_one_degree_grid_has_the_published_latitudes() -> None:
    found = gaussian_latitudes(192)
    assert np.allclose(found[:4], [89.28422753, 88.35700352, 87.42430375, 86.49036677], atol=1e-8)
    assert found[96] < 0 < found[95]


def test_a_symmetric_grid_is_its_own_parent() -> None:
    latitude = gaussian_latitudes(32)
    assert parent_latitudes(latitude) is latitude


def test_every_fourth_row_of_a_gaussian_grid_finds_its_parent_in_either_order() -> None:
    full = gaussian_latitudes(64)
    assert np.array_equal(parent_latitudes(full[::4]), full)
    assert np.array_equal(parent_latitudes(full[::4][::-1].copy()), full[::-1])


def test_rows_of_a_decimated_grid_keep_their_area_on_the_parent() -> None:
    full = gaussian_latitudes(64)
    areas = row_areas(full[::4], full)
    expected = row_areas(full, full)[::4]
    assert np.allclose(areas, expected / expected.mean())
    # On its own the northernmost row would be a cap that reaches far down from the pole.
    assert areas[0] < 0.85 * row_areas(full[::4], full[::4])[0]


def test_areas_of_a_gaussian_grid_follow_the_quadrature_weights() -> None:
    _, weights = np.polynomial.legendre.leggauss(192)
    areas = row_areas(gaussian_latitudes(192), gaussian_latitudes(192))
    assert np.allclose(areas[2:-2], (weights / weights.mean())[2:-2], rtol=2e-3)


def test_a_regular_grid_that_is_no_decimation_is_left_alone() -> None:
    latitude = np.linspace(60, -30, 10)
    assert np.array_equal(parent_latitudes(latitude), latitude)
