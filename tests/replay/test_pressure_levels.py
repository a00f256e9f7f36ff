"""The pressure of native layers, and interpolation to pressure levels."""

from __future__ import annotations

import numpy as np
import pytest

from graphufs.errors import UserError
from graphufs.replay.pressure_levels import replay_layers, sigma_layers, to_pressure_levels

PFULL = {0: 0.0127814, 34: 47.8105, 43: 97.8232650756836, 75: 505.6520690917969, 99: 847.7832, 126: 998.7807006835938}
"""Some of the reference pressures that Replay's stores hold, hPa."""


def test_the_tables_layers_have_the_reference_pressures_of_the_store() -> None:
    layers = replay_layers()
    assert layers.reference.shape == (127,)
    np.testing.assert_allclose(layers.reference[list(PFULL)], list(PFULL.values()), rtol=3e-5)
    assert layers.find(list(PFULL.values())).tolist() == list(PFULL)
    with pytest.raises(UserError, match="500 hPa is not a layer of this vertical coordinate, whose 127 layers run"):
        layers.find([500.0])


def test_layers_follow_the_ground_below_and_are_at_constant_pressure_above() -> None:
    low, high = replay_layers().pressure(np.array([600.0, 1020.0])).T
    np.testing.assert_allclose(low[:35], high[:35], rtol=1e-6)
    np.testing.assert_allclose([low[126], high[126]], [600 - 0.73, 1020 - 1.24], atol=0.05)
    assert (np.diff(low) > 0).all() and (np.diff(high) > 0).all() and low[-1] < 600


def test_sigma_layers_are_fractions_of_the_surface_pressure() -> None:
    np.testing.assert_allclose(sigma_layers(np.array([250.0, 900.0])).pressure(np.array([800.0]))[:, 0], [200, 720])


def column(surface: np.ndarray) -> np.ndarray:
    return replay_layers().pressure(surface)


def test_a_profile_linear_in_the_logarithm_of_pressure_is_interpolated_exactly() -> None:
    surface = np.linspace(520, 1040, 24).reshape(4, 6)
    pressure = column(surface)
    values = 300 + 25 * np.log(pressure / 1000) + np.arange(6)
    levels = [50.0, 200.0, 500.0]
    found = to_pressure_levels(values, pressure, levels)
    assert found.shape == (3, 4, 6) and found.dtype == np.float32
    expected = (300 + 25 * np.log(np.array(levels) / 1000))[:, None, None] + np.broadcast_to(np.arange(6), (4, 6))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_neighbours_are_those_around_the_level_and_no_others() -> None:
    pressure = np.array([100.0, 200.0, 400.0, 800.0])[:, None]
    values = np.array([1.0, 5.0, -3.0, 7.0])[:, None]
    halfway = np.sqrt(200.0 * 400.0)
    found = to_pressure_levels(values, pressure, [100, 200, halfway, 400, 800])[:, 0]
    np.testing.assert_allclose(found, [1, 5, 1, -3, 7], rtol=1e-6)


def test_below_the_lowest_layer_and_above_the_uppermost_there_is_nothing() -> None:
    pressure = column(np.array([1010.0, 700.0]))
    found = to_pressure_levels(np.ones_like(pressure), pressure, [0.001, 500.0, 850.0, 1013.0])
    np.testing.assert_array_equal(np.isnan(found), [[True, True], [False, False], [False, True], [True, True]])


def test_nan_stays_where_it_is() -> None:
    pressure = np.array([100.0, 200.0, 400.0, 800.0])[:, None]
    values = np.array([np.nan, 5.0, 6.0, 7.0])[:, None]
    np.testing.assert_array_equal(np.isnan(to_pressure_levels(values, pressure, [150, 300])[:, 0]), [True, False])


def test_layers_that_do_not_descend_or_do_not_match_are_refused() -> None:
    pressure = np.array([100.0, 200.0, 150.0])
    with pytest.raises(UserError, match="must rise from the first layer to the last"):
        to_pressure_levels(pressure, pressure, [120])
    with pytest.raises(UserError, match=r"at least two layers .* shapes \(1,\)"):
        to_pressure_levels(pressure[:1], pressure[:1], [120])
    with pytest.raises(UserError, match="their pressures, got shapes"):
        to_pressure_levels(pressure[:2], pressure, [120])
