"""Weights of latitudes against exact integrals over the sphere, of levels, and factors of channels."""

from __future__ import annotations

import numpy as np
import pytest

from graphufs.errors import UserError
from graphufs.grid.areas import quadrature_weights
from graphufs.train.loss_weights import channel_factors, level_weights


def gaussian(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Latitudes, descending, and quadrature weights with mean 1."""
    sines, weights = np.polynomial.legendre.leggauss(count)
    return np.rad2deg(np.arcsin(sines))[::-1], weights[::-1] * count / 2


def mean_power(latitude: np.ndarray, weights: np.ndarray, power: int) -> float:
    """The weighted mean of sin(latitude)^power; over the sphere it is 1 / (power + 1)."""
    return float((weights * np.sin(np.deg2rad(latitude)) ** power).mean())


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("rows", [2, 36, 181])
def test_uniform_latitudes_without_poles_weigh_as_graphcast_has_it(rows: int, order: int) -> None:
    spacing = 180 / rows
    latitude = (-90 + spacing * (0.5 + np.arange(rows)))[::order]
    expected = np.cos(np.deg2rad(latitude))
    np.testing.assert_allclose(quadrature_weights(latitude), expected / expected.mean(), rtol=1e-12)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("rows", [3, 37, 181])
def test_uniform_latitudes_with_poles_weigh_as_graphcast_has_it(rows: int, order: int) -> None:
    latitude = np.linspace(-90, 90, rows)[::order]
    half = np.deg2rad(180 / (rows - 1) / 2)
    expected = np.cos(np.deg2rad(latitude)) * np.sin(half)
    expected[[0, -1]] = np.sin(half / 2) ** 2
    np.testing.assert_allclose(quadrature_weights(latitude), expected / expected.mean(), rtol=1e-10)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("count", [2, 32, 192])
def test_gaussian_latitudes_weigh_as_their_quadrature(count: int, order: int) -> None:
    latitude, quadrature = gaussian(count)
    stored = latitude.astype(np.float32)[::order]  # as a store may hold them
    np.testing.assert_allclose(quadrature_weights(stored), quadrature, rtol=1e-12)
    for power in (2, 2 * count - 2):
        assert mean_power(latitude, quadrature_weights(latitude), power) == pytest.approx(1 / (power + 1), rel=1e-9)


def test_rows_of_which_one_is_not_gaussian_have_bounds_half_way() -> None:
    latitude, quadrature = gaussian(192)
    latitude[100] += 0.01
    other = quadrature_weights(latitude)
    assert other[0] / quadrature[0] == pytest.approx(1.058, abs=1e-3)  # what the quadrature is there for
    np.testing.assert_allclose(other[1:90], quadrature[1:90], rtol=2e-3)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(("factor", "first"), [(4, 0), (4, 3), (2, 1)])
def test_decimated_gaussian_rows_keep_the_quadrature_weights_of_their_parent(
    factor: int, first: int, order: int
) -> None:
    parent, quadrature = gaussian(256)
    latitude, expected = parent[first::factor][::order], quadrature[first::factor][::order]
    ours = quadrature_weights(latitude, parent)
    np.testing.assert_allclose(ours, expected / expected.mean(), rtol=1e-12)
    # the picked rows reach closer to one pole than to the other, and alone would weigh otherwise
    assert np.abs(quadrature_weights(latitude) / ours - 1).max() > 0.05


@pytest.mark.parametrize("poles", [False, True])
def test_decimated_uniform_rows_keep_the_weights_of_their_parent(poles: bool) -> None:
    parent = np.linspace(-90, 90, 181) if poles else -90 + 0.5 + np.arange(180)
    ours = quadrature_weights(parent[::4], parent)
    cells = quadrature_weights(parent)[::4]
    np.testing.assert_allclose(ours, cells / cells.mean(), rtol=1e-12)
    if not poles:
        expected = np.cos(np.deg2rad(parent[::4]))
        np.testing.assert_allclose(ours, expected / expected.mean(), rtol=1e-10)


def test_a_grid_that_stops_short_of_the_poles_weighs_its_own_rows_only() -> None:
    latitude = np.arange(-60.0, 61.0, 2.0)
    expected = np.cos(np.deg2rad(latitude))
    np.testing.assert_allclose(quadrature_weights(latitude), expected / expected.mean(), rtol=1e-12)


def test_latitudes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UserError, match="ascend or descend"):
        quadrature_weights(np.array([0.0, 10.0, 5.0]))
    with pytest.raises(UserError, match="within -90 and 90"):
        quadrature_weights(np.array([0.0, 50.0, 100.0]))
    parent, _ = gaussian(64)
    with pytest.raises(UserError, match="not among the parent"):
        quadrature_weights(parent[::4] + 0.1, parent)


def test_level_weights_are_proportional_to_pressure_with_mean_one() -> None:
    np.testing.assert_allclose(level_weights(np.array([100, 500, 1000])), [0.1875, 0.9375, 1.875])


def test_channel_factors_go_by_wanted_level_and_are_one_elsewhere() -> None:
    levels = {"tmp": [100.0, 500.0, 1000.0], "pressfc": []}
    assert channel_factors({"tmp": {500.0: 2.0, 1000.0: 0.0}}, levels) == {"tmp": [1.0, 2.0, 0.0]}
    assert channel_factors({}, levels) == {}
    with pytest.raises(UserError, match=r"pressfc names level 500, but the levels of pressfc are: none; .*variable_we"):
        channel_factors({"pressfc": {500.0: 2.0}}, levels)
    with pytest.raises(UserError, match=r"names level 250, but the levels of tmp are: 100, 500, 1000"):
        channel_factors({"tmp": {250.0: 2.0}}, levels)
