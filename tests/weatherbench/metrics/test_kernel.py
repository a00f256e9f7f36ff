"""The compiled loop against plain numpy: any regions, any statistic."""

from __future__ import annotations

import numpy as np
import pytest

from graphufs.vocabulary.regions import all_regions
from graphufs.weatherbench.metrics.kernel import ORDER, Tiles
from graphufs.weatherbench.metrics.metrics import STATISTICS, Fields
from graphufs.weatherbench.metrics.region_weights import region_weights

RNG = np.random.default_rng(0)
LATITUDE, LONGITUDE = np.linspace(-87.5, 87.5, 12), np.arange(18) * 20.0
FIELDS = [RNG.normal(size=(3, 2, 12, 18)).astype(np.float32) for _ in range(3)]
LAND = np.where(RNG.uniform(size=(12, 18)) < 0.4, 0.0, RNG.uniform(size=(12, 18)))


def regional() -> np.ndarray:
    return region_weights(LATITUDE, LONGITUDE, all_regions(land=True), land_sea_mask=LAND)


def masked() -> np.ndarray:
    mask = RNG.uniform(size=(12, 18)) < 0.7
    return region_weights(LATITUDE, LONGITUDE, all_regions(land=True), land_sea_mask=LAND, mask=mask)


def unrelated() -> np.ndarray:
    """Regions that weigh the same points in different ways, with holes; one of them empty."""
    weights = RNG.uniform(size=(5, 12, 18)) * (RNG.uniform(size=(5, 12, 18)) < 0.6)
    weights[3] = 0
    return weights


@pytest.mark.parametrize("weights", [regional(), masked(), unrelated()], ids=["regions", "masked", "unrelated"])
def test_sums_over_tiles_are_the_sums_over_regions(weights: np.ndarray) -> None:
    nowhere = ~(weights > 0).any(axis=0)
    fields = [np.where(nowhere, np.float32(np.nan), field) for field in FIELDS]  # such points must not matter
    sums = Tiles(weights).sums(*fields, channel=1)
    plain = Fields(*(np.where(nowhere, 0.0, field[:, 1].astype(np.float64)) for field in fields))
    expected = [np.einsum("lji,rji->lr", STATISTICS[name](plain), weights) for name in ORDER]
    np.testing.assert_allclose(sums, expected, rtol=1e-12, atol=1e-12 * np.abs(weights).sum())


def test_land_versions_share_one_more_look_however_many_there_are() -> None:
    tiles = Tiles(regional())
    assert len(tiles.patterns) == 2


def test_a_nan_shows_in_the_sums_of_its_lead_and_only_there() -> None:
    forecast = FIELDS[0].copy()
    forecast[1, 1, 4, 4] = np.nan
    sums = Tiles(regional()).sums(forecast, *FIELDS[1:], channel=1)
    np.testing.assert_array_equal(np.isnan(sums[2]).any(axis=-1), [False, True, False])
