"""SEEPS: categories, penalties and where it is defined."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from graphufs.errors import UserError
from graphufs.grid.grid import Grid
from graphufs.weatherbench.climatology.seeps import SeepsClimatology
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.metrics.seeps import SeepsThresholds, penalties, seeps

P = 0.4
DRY, LIGHT, HEAVY = 1e-4, 1e-3, 1e-2
AT_POINT = SeepsThresholds(0.25e-3, np.full((1, 1), 5e-3), penalties(np.full((1, 1), P)))


def one(forecast: float, truth: float, at: SeepsThresholds = AT_POINT) -> float:
    return float(seeps(np.full((1, 1), forecast), np.full((1, 1), truth), at)[0, 0])


@pytest.mark.parametrize(
    ("forecast", "truth", "expected"),
    [
        (DRY, DRY, 0),
        (LIGHT, LIGHT, 0),
        (HEAVY, HEAVY, 0),
        (DRY, LIGHT, 0.5 / (1 - P)),
        (DRY, HEAVY, 2 / (1 - P)),
        (LIGHT, DRY, 0.5 / P),
        (LIGHT, HEAVY, 1.5 / (1 - P)),
        (HEAVY, DRY, 0.5 / P + 1.5 / (2 + P)),
        (HEAVY, LIGHT, 1.5 / (2 + P)),
    ],
)
def test_penalties_are_the_published_ones(forecast: float, truth: float, expected: float) -> None:
    assert one(forecast, truth) == pytest.approx(expected)


def test_a_constant_forecast_of_a_climate_scores_one() -> None:
    # the defining property: probabilities p dry, 2/3 of the rest light, 1/3 heavy
    climate = {DRY: P, LIGHT: (1 - P) * 2 / 3, HEAVY: (1 - P) / 3}
    for forecast in climate:
        assert sum(weight * one(forecast, truth) for truth, weight in climate.items()) == pytest.approx(1)


def test_the_dry_threshold_itself_is_in_no_category_or_in_weatherbench_x_dry() -> None:
    other = SeepsThresholds(AT_POINT.dry, AT_POINT.heavy, AT_POINT.penalties, "WeatherBench-X")
    assert one(AT_POINT.dry, HEAVY) == 0 and one(AT_POINT.dry, HEAVY, other) == pytest.approx(2 / (1 - P))
    assert one(5e-3, DRY) == pytest.approx(0.5 / P + 1.5 / (2 + P))


def test_nan_and_climates_without_three_categories_have_no_score() -> None:
    assert np.isnan(one(np.nan, DRY)) and np.isnan(one(DRY, np.nan))
    for p, defined in ((0.1, "WeatherBench-X"), (0.85, "WeatherBench-X"), (0.09, None), (0.86, None), (0.11, "all")):
        found = {name: not np.isnan(penalties(np.full((1, 1), p), name)).any() for name in CONVENTIONS}
        assert found == {name: defined in (name, "all") for name in CONVENTIONS}


CONVENTIONS = ("WeatherBench2", "WeatherBench-X")
GRID = Grid(np.array([-30.0, 30.0]), np.array([0.0, 180.0]))


def climate(latitude: np.ndarray) -> xr.Dataset:
    dims = ("hour", "dayofyear", "latitude", "longitude")
    hour, day, lat = np.meshgrid([0, 12], [1, 2, 3], latitude, indexing="ij")
    fraction = 0.3 + 0.1 * (hour / 12) + 0.1 * (lat > 0)
    threshold = 1e-3 * day + hour * 1e-5
    fields = {"seeps_dry_fraction": fraction, "seeps_threshold": threshold}
    return xr.Dataset(
        {
            f"total_precipitation_6hr_{name}": (dims, np.repeat(values[..., None], 2, axis=-1).astype(np.float32))
            for name, values in fields.items()
        },
        {"hour": [0, 12], "dayofyear": [1, 2, 3], "latitude": latitude, "longitude": GRID.longitude},
    )


@pytest.mark.parametrize("order", [1, -1])
def test_thresholds_are_read_by_valid_time_and_the_dry_fraction_is_one_for_all_times(order: int) -> None:
    channels = (Channel("temperature", 500.0), Channel("total_precipitation_6hr"))
    read = SeepsClimatology(climate(GRID.latitude[::order]), channels, GRID)
    found = read.read(np.array(["2020-01-02T12", "2020-01-03T00"], "datetime64[ns]"))
    assert list(found) == [1] and found[1].dry == 0.1e-3
    np.testing.assert_allclose(found[1].heavy[:, 0, 0], [2e-3 + 12e-5, 3e-3])
    np.testing.assert_allclose(found[1].penalties, penalties(np.array([[0.35] * 2, [0.45] * 2])), rtol=1e-6)


def test_what_is_missing_for_seeps_is_named() -> None:
    with pytest.raises(UserError, match="total_precipitation_24hr"):
        SeepsClimatology(climate(GRID.latitude), (Channel("temperature"),), GRID)
    whole, channels = climate(GRID.latitude), (Channel("total_precipitation_6hr"),)
    for name in whole:
        with pytest.raises(UserError, match=f"has no {name}"):
            SeepsClimatology(whole.drop_vars(name), channels, GRID)
