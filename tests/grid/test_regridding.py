"""Regridding: what must hold for any field, NaN, and scores on another grid."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import xarray as xr

from graphufs.errors import UserError
from graphufs.grid.areas import latitude_weights
from graphufs.grid.grid import Grid
from graphufs.grid.regridding import Method, Regridder, named_grid
from graphufs.weatherbench.inputs.forecasts import Forecasts
from graphufs.weatherbench.inputs.truth import DatasetTruth
from graphufs.weatherbench.on_grid import RegriddedTruth

GAUSSIAN = Grid(np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(24)[0])), np.arange(48) * 7.5)
COARSE, FINE = named_grid("16x8"), named_grid("96x49")
RNG = np.random.default_rng(0)
METHODS = get_args(Method)


def area_mean(field: np.ndarray, grid: Grid) -> float:
    return float((field.mean(axis=-1) * latitude_weights(grid.latitude)).mean())


def turned(grid: Grid) -> Grid:
    return Grid(grid.latitude[::-1], grid.longitude)


def test_named_grids_are_weatherbench2s() -> None:
    assert named_grid("64x32").latitude[[0, -1]].tolist() == [-87.1875, 87.1875]
    with_poles = named_grid("240x121")
    assert with_poles.latitude[[0, 1, -1]].tolist() == [-90, -88.5, 90] and with_poles.longitude[1] == 1.5
    for name in ("64", "64x32x3", "ax3", "2x2", "0x10"):
        with pytest.raises(UserError, match="64x32 or 240x121"):
            named_grid(name)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", [COARSE, FINE])
def test_a_constant_stays_constant(method: Method, target: Grid) -> None:
    np.testing.assert_allclose(Regridder(GAUSSIAN, target, method)(np.full(GAUSSIAN.shape, 7.25)), 7.25, rtol=1e-6)


@pytest.mark.parametrize("target", [COARSE, FINE])
def test_conservative_regridding_keeps_the_area_mean(target: Grid) -> None:
    field = RNG.normal(size=GAUSSIAN.shape) + 3
    assert area_mean(Regridder(GAUSSIAN, target)(field), target) == pytest.approx(area_mean(field, GAUSSIAN), rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_grid_changes_nothing(method: Method) -> None:
    field = RNG.normal(size=(2, *GAUSSIAN.shape)).astype(np.float32)
    np.testing.assert_allclose(Regridder(GAUSSIAN, GAUSSIAN, method)(field), field, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_latitudes_on_either_side_does_not_matter(method: Method) -> None:
    field = RNG.normal(size=(2, 3, *GAUSSIAN.shape))
    expected = Regridder(GAUSSIAN, COARSE, method)(field)
    descending = field[..., ::-1, :]
    np.testing.assert_array_equal(Regridder(turned(GAUSSIAN), COARSE, method)(descending), expected)
    np.testing.assert_array_equal(Regridder(GAUSSIAN, turned(COARSE), method)(field), expected[..., ::-1, :])


def test_bilinear_interpolation_is_exact_for_a_plane_and_crosses_the_meridian() -> None:
    shifted = Grid(GAUSSIAN.latitude, GAUSSIAN.longitude + 3.0)  # 0 to 3 degrees lie between the last and the first
    field = np.broadcast_to(GAUSSIAN.latitude[:, None], GAUSSIAN.shape)
    inside = np.clip(FINE.latitude, GAUSSIAN.latitude[0], GAUSSIAN.latitude[-1])
    found = Regridder(shifted, FINE, "bilinear")(field)
    np.testing.assert_allclose(found, np.broadcast_to(inside[:, None], FINE.shape), rtol=1e-6, atol=1e-5)
    wave = np.cos(np.deg2rad(shifted.longitude)) * np.ones(GAUSSIAN.shape)
    np.testing.assert_allclose(
        Regridder(shifted, FINE, "bilinear")(wave)[3], np.cos(np.deg2rad(FINE.longitude)), atol=3e-3
    )


def test_bilinear_interpolation_gives_nan_where_the_source_ends_before_the_pole() -> None:
    tropics = Grid(np.arange(-30.0, 31.0, 5.0), GAUSSIAN.longitude)
    found = Regridder(tropics, FINE, "bilinear")(np.ones(tropics.shape))
    np.testing.assert_array_equal(np.isnan(found), np.broadcast_to(np.abs(FINE.latitude)[:, None] > 30, FINE.shape))


def test_beyond_the_outermost_row_the_next_row_has_no_say() -> None:
    field = np.ones(COARSE.shape)
    field[[1, -2]] = np.nan
    made = Regridder(COARSE, FINE, "bilinear")(field)
    beyond = np.abs(FINE.latitude) > np.abs(COARSE.latitude[0])
    assert (made[beyond] == 1).all() and beyond.sum() == 6
    assert np.isnan(made[4]).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_limited_area_is_refused_where_it_would_be_stretched(method: Method) -> None:
    sector = Grid(FINE.latitude, FINE.longitude[:48])
    belt = Grid(FINE.latitude[8:-8], FINE.longitude)
    with pytest.raises(UserError, match="source grid covers longitudes 0 to 176.25 alone"):
        Regridder(sector, COARSE, method)
    if method == "bilinear":
        assert np.isnan(Regridder(belt, FINE, method)(np.ones(belt.shape))[[0, -1]]).all()
    else:
        with pytest.raises(UserError, match="source grid covers latitudes -60 to 60 alone"):
            Regridder(belt, COARSE, method)
    for target in (sector, belt):
        if method == "conservative":
            with pytest.raises(UserError, match="target grid covers"):
                Regridder(FINE, target, method)
        else:
            np.testing.assert_allclose(Regridder(FINE, target, method)(np.ones(FINE.shape)), 1)


def test_conservative_means_are_over_the_valid_part_of_a_cell() -> None:
    source, target = named_grid("16x8"), named_grid("8x4")
    field = RNG.normal(size=source.shape)
    field[0, 1] = np.nan
    field[4:6, 3:6] = np.nan  # a whole target cell, as cells of the target are centred on every second column
    found = Regridder(source, target)(field)
    whole = Regridder(source, target)(np.nan_to_num(field))
    assert np.isnan(found).sum() == 1 and np.isnan(found[2, 2])
    untouched = Regridder(source, target)(np.isnan(field).astype(float)) == 0
    np.testing.assert_array_equal(found[untouched], whole[untouched])
    weights = latitude_weights(source.latitude)[:2, None] * [0.5, 1.0, 0.5]
    part = field[:2, [15, 0, 1]]
    expected = np.nansum(weights * part) / weights[~np.isnan(part)].sum()
    assert found[0, 0] == pytest.approx(expected, rel=1e-6)


def test_bad_requests_are_refused() -> None:
    with pytest.raises(UserError, match="conservative, bilinear, nearest"):
        Regridder(GAUSSIAN, COARSE, "cubic")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="at least three"):
        Regridder(Grid(np.array([0.0, 1.0]), GAUSSIAN.longitude), COARSE)


TIMES = np.array(["2020-01-01", "2020-01-02"], "datetime64[ns]")


def test_forecasts_and_truth_are_read_on_the_new_grid_and_say_so() -> None:
    values = RNG.normal(size=(2, 1, *GAUSSIAN.shape)).astype(np.float32)
    coordinates = {"latitude": GAUSSIAN.latitude, "longitude": GAUSSIAN.longitude, "time": TIMES}
    leads = np.array([6], "timedelta64[h]").astype("timedelta64[ns]")
    dims = ("time", "prediction_timedelta", "latitude", "longitude")
    dataset = xr.Dataset({"2m_temperature": (dims, values)}, {**coordinates, "prediction_timedelta": leads})
    regridder = Regridder(GAUSSIAN, COARSE)
    forecasts = Forecasts(dataset)
    moved = forecasts.regridded(regridder)
    np.testing.assert_array_equal(moved.read(TIMES[1]), regridder(values[1, :, None]))
    assert moved.grid.description == "16x8, latitude -78.7500 to 78.7500, regridded from 48x24, conservative"
    assert forecasts.read(TIMES[0]).shape[-2:] == GAUSSIAN.shape and "no regridding" in forecasts.grid.description
    truth = RegriddedTruth(DatasetTruth(dataset.isel(prediction_timedelta=0, drop=True)), regridder)
    np.testing.assert_array_equal(truth.read(TIMES), regridder(values))
    np.testing.assert_array_equal(truth.stamps, TIMES)
    assert truth.mask.all() and truth.grid is regridder.target


def test_land_in_ocean_fields_is_left_out_of_a_cell_and_masked_where_there_is_nothing_else() -> None:
    values = np.full((1, *GAUSSIAN.shape), 5.0, np.float32)
    coordinates = {"latitude": GAUSSIAN.latitude, "longitude": GAUSSIAN.longitude, "time": TIMES[:1]}
    truth = DatasetTruth(xr.Dataset({"sst": (("time", "latitude", "longitude"), values)}, coordinates))
    truth.mask = np.ones((1, *GAUSSIAN.shape), bool)
    truth.mask[0, :8, :9] = False
    values[0, :8, :9] = 1e20
    ocean = RegriddedTruth(truth, Regridder(GAUSSIAN, COARSE))
    fields = ocean.read(TIMES[:1])[0]
    assert 0 < (~ocean.mask).sum() < 12
    np.testing.assert_array_equal(np.isnan(fields), ~ocean.mask)
    np.testing.assert_allclose(fields[ocean.mask], 5.0, rtol=1e-6)
