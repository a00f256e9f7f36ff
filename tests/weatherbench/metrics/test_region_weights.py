"""Regions, their land versions and their weights."""

from __future__ import annotations

import numpy as np
import pytest

from graphufs.errors import UserError
from graphufs.grid.areas import latitude_weights
from graphufs.vocabulary.regions import all_regions
from graphufs.weatherbench.metrics.region_weights import region_weights

LATITUDE, LONGITUDE = np.arange(-90, 91, 10.0), np.arange(0, 360, 2.5)
AREA = latitude_weights(LATITUDE)[:, None] * np.ones(len(LONGITUDE))


def inside(name: str, **options: object) -> tuple[set[float], set[float]]:
    weights = region_weights(LATITUDE, LONGITUDE, [name], **options)[0]  # type: ignore[arg-type]
    rows, columns = np.nonzero(weights)
    return set(LATITUDE[rows]), set(LONGITUDE[columns])


def test_the_global_region_is_every_cell_by_its_area() -> None:
    np.testing.assert_array_equal(region_weights(LATITUDE, LONGITUDE, ["global"])[0], AREA)


def test_borders_belong_to_a_box() -> None:
    latitude, longitude = inside("north-america")
    assert latitude == {30, 40, 50, 60} and min(longitude) == 240 and max(longitude) == 285


def test_the_extra_tropics_and_the_tropics_share_their_border_rows() -> None:
    assert inside("extra-tropics")[0] == set(LATITUDE[abs(LATITUDE) >= 20])
    assert inside("tropics")[0] == set(LATITUDE[abs(LATITUDE) <= 20])


def test_europe_reaches_over_the_meridian() -> None:
    latitude, longitude = inside("europe")
    assert latitude == {40, 50, 60, 70}
    assert longitude == {lon for lon in LONGITUDE if lon >= 347.5 or lon <= 42.5}


def test_weights_are_relative_to_the_whole_grid_and_follow_descending_latitudes() -> None:
    names = all_regions(land=False)
    weights = region_weights(LATITUDE, LONGITUDE, names)
    assert all(np.isin(weights[i][weights[i] > 0], AREA).all() for i in range(len(names)))
    np.testing.assert_array_equal(region_weights(LATITUDE[::-1], LONGITUDE, names), weights[:, ::-1])


def test_land_counts_by_its_fraction_or_in_weatherbench_x_fully() -> None:
    fraction = np.zeros(AREA.shape)
    fraction[5, 7], fraction[6, 8] = 0.25, 1.0
    weights = {
        name: region_weights(LATITUDE, LONGITUDE, ["global_land"], land_sea_mask=fraction, convention=name)[0]
        for name in ("WeatherBench2", "WeatherBench-X")
    }
    np.testing.assert_array_equal(weights["WeatherBench2"], AREA * fraction)
    np.testing.assert_array_equal(weights["WeatherBench-X"], AREA * (fraction > 0))


def test_masked_points_are_in_no_region() -> None:
    mask = np.ones(AREA.shape, bool)
    mask[9] = False
    assert 0.0 not in inside("tropics", mask=mask)[0]


def test_a_region_without_a_point_on_the_grid_has_no_weight() -> None:
    assert not region_weights(np.array([-30.0, 30.0]), LONGITUDE, ["arctic"]).any()


def test_an_unknown_region_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"no region europa in WeatherBench2 \(did you mean europe\?\)"):
        region_weights(LATITUDE, LONGITUDE, ["global", "europa"])
    with pytest.raises(UserError, match="no region extra-tropics in WeatherBench-X"):
        region_weights(LATITUDE, LONGITUDE, ["extra-tropics"], convention="WeatherBench-X")
    with pytest.raises(UserError, match="global is named more than once"):
        region_weights(LATITUDE, LONGITUDE, ["global", "global"])


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (None, "needs a land-sea mask"),
        (np.ones((3, 4)), "shape"),
        (100 * np.ones(AREA.shape), "0 to 1"),
        (np.full(AREA.shape, np.nan), "NaN"),
        (np.where(AREA > 1, np.nan, 0.5), "NaN"),
    ],
)
@pytest.mark.filterwarnings("ignore:All-NaN")
def test_a_land_region_without_a_usable_mask_is_refused(mask: np.ndarray | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        region_weights(LATITUDE, LONGITUDE, ["tropics_land"], land_sea_mask=mask)
