"""The explicit climatology, against the rule written out day by day."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from graphufs.errors import Stopped, UserError
from graphufs.grid.grid import Grid
from graphufs.storage.zarr_io import open_zarr
from graphufs.weatherbench.climatology.compute import day_of_year, hour_of_day, triangular_sum
from graphufs.weatherbench.climatology.store import Climatology, days_per_block, write_store
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.inputs.truth import DailyMeans, DatasetTruth
from tests.support.climatology import in_memory

GRID = Grid(np.array([30.0, -30.0]), np.array([0.0, 120.0, 240.0]))


def daily(start: str, end: str, step: int = 12) -> np.ndarray:
    return np.arange(np.datetime64(start, "ns"), np.datetime64(end, "ns"), np.timedelta64(step, "h"))


def truth_of(stamps: np.ndarray, seed: int = 0) -> DatasetTruth:
    rng = np.random.default_rng(seed)
    season = 20 * np.cos(2 * np.pi * day_of_year(stamps) / 365.25)[:, None, None, None]
    temperature = 270 + season + rng.normal(size=(len(stamps), 2, *GRID.shape))
    pressure = 1e5 + 100 * rng.normal(size=(len(stamps), *GRID.shape))
    return DatasetTruth(
        xr.Dataset(
            {
                "temperature": (("time", "level", "latitude", "longitude"), temperature.astype(np.float32)),
                "surface_pressure": (("time", "latitude", "longitude"), pressure.astype(np.float32)),
            },
            {"time": stamps, "level": [500, 850], "latitude": GRID.latitude, "longitude": GRID.longitude},
        )
    )


def by_definition(truth: DatasetTruth, stamps: np.ndarray, hour: int, day: int, window: int) -> np.ndarray:
    """The mean at one hour and day, [channel, lat, lon], summed over years and days of the window one by one."""
    half = window // 2
    fields = {stamp: field.astype(np.float64) for stamp, field in zip(stamps, truth.read(stamps), strict=True)}
    total, norm = np.zeros(truth.read(stamps[:1])[0].shape), np.zeros(truth.read(stamps[:1])[0].shape)
    for year in np.unique(stamps.astype("datetime64[Y]")):
        for offset in range(-half, half + 1):
            weight = 1 - abs(offset) / half if half else 1.0
            wanted = (day - 1 + offset) % 366 + 1
            date = year.astype("datetime64[D]") + np.timedelta64(wanted - 1, "D")
            if date.astype("datetime64[Y]") != year:  # a day 366 in a year without one
                date -= np.timedelta64(1, "D")
            stamp = (date.astype("datetime64[h]") + np.timedelta64(hour, "h")).astype("datetime64[ns]")
            if stamp in fields and weight > 0:
                there = ~np.isnan(fields[stamp])
                total += weight * np.where(there, fields[stamp], 0)
                norm += weight * there
    return np.where(norm > 0, total / np.where(norm > 0, norm, 1), np.nan)


def packed(dataset: xr.Dataset, truth: DatasetTruth) -> Climatology:
    return Climatology(dataset, truth.channels, truth.grid)


def at(dataset: xr.Dataset, truth: DatasetTruth, hour: int, day: int) -> np.ndarray:
    # day 366 exists in a leap year
    stamp = np.datetime64("2020-01-01", "ns") + np.timedelta64(day - 1, "D") + np.timedelta64(hour, "h")
    return packed(dataset, truth).read(np.array([stamp]))[0]


DAYS = (1, 2, 15, 59, 60, 61, 182, 335, 364, 365, 366)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2019-01-01", "2020-01-01"),
        ("2020-01-01", "2021-01-01"),
        ("2018-01-01", "2021-01-01"),
        ("2018-10-05", "2020-03-07"),
        ("2019-03-01", "2019-12-20"),
    ],
    ids=["one year", "one leap year", "three years", "years with partial ends", "part of a year"],
)
@pytest.mark.parametrize("window", [61, 5, 1])
def test_it_is_the_weighted_mean_over_years_and_window(start: str, end: str, window: int) -> None:
    stamps = daily(start, end)
    truth = truth_of(stamps)
    dataset = in_memory(truth, stamps, window=window)
    for hour in (0, 12):
        covered = dataset["covered"].sel(hour=hour)
        for day in DAYS:
            expected = by_definition(truth, stamps, hour, day, window)
            assert bool(covered.sel(dayofyear=day)) == (not np.isnan(expected).any())
            if not np.isnan(expected).any():
                np.testing.assert_allclose(at(dataset, truth, hour, day), expected, rtol=3e-7)


def test_a_day_without_data_takes_the_nearest_days_mean_around_the_end_of_the_year() -> None:
    stamps = daily("2019-03-01", "2019-12-20")
    truth = truth_of(stamps)
    dataset = in_memory(truth, stamps, window=5)
    assert int((~dataset["covered"].sel(hour=0)).sum()) > 60
    last, first = day_of_year(np.array(["2019-12-20"], "M8[D]"))[0], day_of_year(np.array(["2019-02-28"], "M8[D]"))[0]
    np.testing.assert_array_equal(at(dataset, truth, 0, 366), at(dataset, truth, 0, last))
    np.testing.assert_array_equal(at(dataset, truth, 0, 50), at(dataset, truth, 0, first))
    assert np.isfinite(dataset["temperature"].values).all()


@pytest.mark.parametrize("gaps", ["skip", "day365"])
def test_nan_is_left_out_or_filled_with_day_365_as_asked(gaps: str) -> None:
    stamps = daily("2018-01-01", "2020-01-01", 24)
    truth = truth_of(stamps)
    values = truth._dataset["surface_pressure"].values
    values[39, 0, 0] = np.nan  # 2018, day 40
    dataset = in_memory(truth, stamps, window=61, gaps=gaps)
    filled = values.copy()
    if gaps == "day365":
        filled[39, 0, 0] = values[364, 0, 0]
        truth._dataset["surface_pressure"].values[...] = filled
    np.testing.assert_allclose(
        at(dataset, truth, 0, 45), by_definition(truth, stamps, 0, 45, 61), rtol=3e-7, equal_nan=False
    )


def test_points_without_any_value_stay_nan() -> None:
    stamps = daily("2019-01-01", "2020-01-01", 24)
    truth = truth_of(stamps)
    truth._dataset["temperature"].values[:, :, 1, 2] = np.nan
    values = in_memory(truth, stamps)["temperature"].values
    assert np.isnan(values[..., 1, 2]).all() and np.isfinite(values[..., 0, :]).all()


@pytest.mark.parametrize("half", [0, 1, 2, 7, 30, 183, 400])
def test_two_running_sums_make_a_triangle_that_wraps_around(half: int) -> None:
    values = np.random.default_rng(0).integers(0, 100, size=(366, 2))
    offsets = np.arange(1 - half, half) if half else np.array([0])
    weights = half - np.abs(offsets) if half else np.array([1])
    expected = sum(weight * np.roll(values, -offset, axis=0) for weight, offset in zip(weights, offsets, strict=True))
    np.testing.assert_array_equal(triangular_sum(values, half), expected)


def test_days_and_hours_are_the_calendars() -> None:
    stamps = np.array(["2019-12-31T18", "2020-12-31T06", "2020-02-29T00", "2021-01-01T23"], "datetime64[ns]")
    np.testing.assert_array_equal(day_of_year(stamps), [365, 366, 60, 1])
    np.testing.assert_array_equal(hour_of_day(stamps), [18, 6, 0, 23])


def test_the_store_holds_what_memory_holds_in_weatherbench2s_layout(tmp_path: Path) -> None:
    stamps = daily("2018-10-05", "2020-03-07")
    truth = truth_of(stamps)
    path = tmp_path / "climatology.zarr"
    write_store(path, truth, stamps, {"period": "2018-10..2020-03"}, window=31)
    stored, held = open_zarr(path), in_memory(truth, stamps, window=31)
    assert stored["temperature"].dims == ("hour", "dayofyear", "level", "latitude", "longitude")
    assert stored["surface_pressure"].dims == ("hour", "dayofyear", "latitude", "longitude")
    assert stored["level"].dtype == np.int32 and stored.attrs["period"] == "2018-10..2020-03"
    np.testing.assert_array_equal(stored["hour"], [0, 12])
    np.testing.assert_array_equal(stored["dayofyear"], np.arange(1, 367))
    for name in ("temperature", "surface_pressure", "covered"):
        np.testing.assert_array_equal(stored[name].values, held[name].values)


def test_channels_computed_in_several_passes_are_those_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    stamps = daily("2019-01-01", "2020-01-01", 24)
    truth = truth_of(stamps)
    whole = in_memory(truth, stamps)
    monkeypatch.setattr("graphufs.weatherbench.climatology.compute.MEMORY", 1)
    xr.testing.assert_identical(in_memory(truth, stamps), whole)


def test_a_stop_on_the_way_leaves_no_store(tmp_path: Path) -> None:
    stamps = daily("2019-01-01", "2020-01-01")

    def stop(done: int, total: int) -> None:
        if done < total:
            raise Stopped("stopped")

    with pytest.raises(Stopped):
        write_store(tmp_path / "climatology.zarr", truth_of(stamps), stamps, {}, progress=stop)
    assert not list(tmp_path.iterdir())


def test_reading_follows_valid_times_over_many_blocks_and_reads_each_block_once_in_order() -> None:
    stamps = daily("2019-01-01", "2020-01-01")
    truth = truth_of(stamps)
    reader = packed(in_memory(truth, stamps, window=1), truth)
    assert days_per_block(truth.grid) < 366 / 4
    wanted = stamps[np.random.default_rng(0).permutation(len(stamps))[:200]]
    np.testing.assert_allclose(reader.read(wanted), truth.read(wanted), rtol=1e-7)
    read = []
    for stamp in stamps:
        reader.read(np.array([stamp]))
        if not read or reader._block is not read[-1]:
            read.append(reader._block)
    assert len(read) == -(-365 // days_per_block(truth.grid))


def test_a_climatology_is_brought_to_the_order_of_the_grid() -> None:
    stamps = daily("2019-01-01", "2020-01-01")
    truth = truth_of(stamps)
    flipped = Climatology(in_memory(truth, stamps), truth.channels, Grid(GRID.latitude[::-1], GRID.longitude)).read(
        stamps[:3]
    )
    np.testing.assert_array_equal(flipped[:, :, ::-1], packed(in_memory(truth, stamps), truth).read(stamps[:3]))


def test_names_that_end_in_mean_are_read_too() -> None:
    stamps = daily("2019-01-01", "2020-01-01")
    truth = truth_of(stamps)
    dataset = in_memory(truth, stamps)
    renamed = dataset.rename(temperature="temperature_mean")
    np.testing.assert_array_equal(packed(renamed, truth).read(stamps[:2]), packed(dataset, truth).read(stamps[:2]))


def test_a_missing_hour_variable_or_level_is_named() -> None:
    stamps = daily("2019-01-01", "2020-01-01")
    truth = truth_of(stamps)
    dataset = in_memory(truth, stamps)
    with pytest.raises(UserError, match="no day 4 at 06 UTC"):
        packed(dataset, truth).read(np.array(["2020-01-04T06"], "datetime64[ns]"))
    with pytest.raises(UserError, match="has no geopotential"):
        Climatology(dataset, [Channel("geopotential", 500.0)], GRID)
    with pytest.raises(UserError, match="has no temperature 700"):
        Climatology(dataset, [Channel("temperature", 700.0)], GRID)


def test_an_empty_period_and_an_even_window_are_refused() -> None:
    stamps = daily("2019-01-01", "2019-01-04")
    truth = truth_of(stamps)
    with pytest.raises(UserError, match="holds no data"):
        in_memory(truth, stamps[:0])
    with pytest.raises(UserError, match="odd"):
        in_memory(truth, stamps, window=60)


@pytest.mark.parametrize("method", ["explicit", "fast"])
def test_the_standard_deviation_keeps_its_digits_far_from_zero(method: str) -> None:
    stamps = daily("2018-01-01", "2021-01-01", 24)
    truth = truth_of(stamps)
    near = in_memory(truth, stamps, window=11, std=True, method=method)["surface_pressure_std"].values
    truth._dataset["surface_pressure"].values[...] += 65536.0  # exact in float32
    far = in_memory(truth, stamps, window=11, std=True, method=method)["surface_pressure_std"].values
    np.testing.assert_allclose(far, near, rtol=3e-4)  # what float32 fields of 1.6e5 with sigma 100 carry
    assert 60 < near.mean() < 110


def test_the_standard_deviation_is_weighted_like_the_mean() -> None:
    stamps = daily("2019-01-01", "2021-01-01", 24)
    truth = truth_of(stamps)
    dataset = in_memory(truth, stamps, window=9, std=True)
    mean = by_definition(truth, stamps, 0, 200, 9)[0]
    deviation = truth._dataset["surface_pressure"].copy()
    deviation.values[...] = (deviation.values.astype(np.float64) - mean) ** 2
    squares = DatasetTruth(xr.Dataset({"surface_pressure": deviation}))
    expected = np.sqrt(by_definition(squares, stamps, 0, 200, 9)[0])
    np.testing.assert_allclose(dataset["surface_pressure_std"].sel(hour=0, dayofyear=200), expected, rtol=1e-5)


def test_the_fast_method_weighs_days_not_frames_and_takes_day_366_from_leap_years() -> None:
    stamps = daily("2018-01-01", "2021-01-01", 24)
    truth = truth_of(stamps)
    fields = truth._dataset["surface_pressure"].values.astype(np.float64)
    days = day_of_year(stamps)
    by_day = np.stack([fields[days == day].mean(axis=0) for day in range(1, 367)])
    np.testing.assert_array_equal(by_day[365], fields[-1])
    weights = {364: 1, 365: 2, 366: 3, 1: 2, 2: 1}
    expected = sum(weight * by_day[day - 1] for day, weight in weights.items()) / 9
    fast = in_memory(truth, stamps, window=7, method="fast")["surface_pressure"]
    np.testing.assert_allclose(fast.sel(hour=0, dayofyear=366), expected, rtol=1e-6)
    single = in_memory(truth, stamps, window=1, method="fast", std=True)["surface_pressure_std"]
    assert (single.sel(dayofyear=366) == 0).all() and (single.sel(dayofyear=100) > 0).all()


def rain(stamps: np.ndarray) -> DatasetTruth:
    rng = np.random.default_rng(3)
    amount = np.maximum(rng.gamma(0.5, 2e-3, size=(len(stamps), *GRID.shape)) - 2e-4, 0).astype(np.float32)
    amount[:, 0, 0] = 0.0  # a desert
    coordinates = {"time": stamps, "latitude": GRID.latitude, "longitude": GRID.longitude}
    return DatasetTruth(
        xr.Dataset({"total_precipitation_6hr": (("time", "latitude", "longitude"), amount)}, coordinates)
    )


def test_seeps_thresholds_of_a_single_day_are_plain_quantiles_and_fractions() -> None:
    stamps = daily("1990-01-01", "2020-01-01", 24)
    truth = rain(stamps)
    dataset = in_memory(truth, stamps, window=1, seeps=True).sel(hour=0, dayofyear=77)
    amounts = truth._dataset["total_precipitation_6hr"].values[day_of_year(stamps) == 77]
    dry = amounts < np.float32(1e-4)
    np.testing.assert_allclose(dataset["total_precipitation_6hr_seeps_dry_fraction"], dry.mean(axis=0), rtol=1e-6)
    expected = [np.quantile(amounts[:, 1, i][~dry[:, 1, i]], 2 / 3) for i in range(3)]
    np.testing.assert_allclose(dataset["total_precipitation_6hr_seeps_threshold"][1], expected, rtol=1e-5)
    assert np.isnan(dataset["total_precipitation_6hr_seeps_threshold"][0, 0])
    assert dataset["total_precipitation_6hr_seeps_dry_fraction"][0, 0] == 1


def test_seeps_thresholds_are_xarrays_weighted_quantile_and_nan_has_no_say() -> None:
    stamps = daily("2018-01-01", "2020-01-01", 24)
    truth = rain(stamps)
    amounts = truth._dataset["total_precipitation_6hr"].values
    amounts[5:9, 1, 1] = np.nan
    dataset = in_memory(truth, stamps, window=21, seeps=True).sel(hour=0, dayofyear=8)
    offsets = np.arange(-10, 11)
    weights = 1 - abs(offsets) / 10
    days = (7 + offsets) % 366
    years = [np.concatenate([part, part[-1:]])[days] for part in (amounts[:365, 1, 1], amounts[365:, 1, 1])]
    values = xr.DataArray(np.concatenate(years), dims="x")
    wet = values.where(~(values < np.float32(1e-4)))
    expected = wet.weighted(xr.DataArray(np.tile(weights, 2), dims="x")).quantile(2 / 3, dim="x")
    np.testing.assert_allclose(dataset["total_precipitation_6hr_seeps_threshold"][1, 1], expected, rtol=1e-5)
    fraction = float((values < np.float32(1e-4)).mean())
    assert float(dataset["total_precipitation_6hr_seeps_dry_fraction"][1, 1]) == pytest.approx(fraction)


def test_seeps_thresholds_computed_in_bands_are_those_of_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stamps = daily("2019-01-01", "2020-01-01")
    truth, told = rain(stamps), []
    whole = in_memory(truth, stamps, seeps=True, std=True)
    monkeypatch.setattr("graphufs.weatherbench.climatology.seeps_thresholds.MEMORY", 1)
    path = tmp_path / "climatology.zarr"
    write_store(path, truth, stamps, {}, seeps=True, std=True, progress=lambda done, total: told.append(done / total))
    stored = open_zarr(path)
    for name in whole:
        np.testing.assert_array_equal(stored[name].values, whole[name].values)
    assert {"total_precipitation_6hr_std", "total_precipitation_6hr_seeps_threshold"} < set(whole)
    assert told[-1] == 1


def test_seeps_thresholds_without_precipitation_are_refused() -> None:
    stamps = daily("2019-01-01", "2019-02-01")
    with pytest.raises(UserError, match="total_precipitation_24hr or total_precipitation_6hr"):
        in_memory(truth_of(stamps), stamps, seeps=True)


def test_daily_means_are_of_whole_days_only() -> None:
    stamps = daily("2019-01-01", "2019-01-06", 6)[:-1]
    truth = truth_of(stamps)
    days = DailyMeans(truth)
    np.testing.assert_array_equal(days.stamps, daily("2019-01-01", "2019-01-05", 24))
    np.testing.assert_allclose(days.read(days.stamps[2:])[0], truth.read(stamps[8:12]).mean(axis=0), rtol=1e-6)


def test_daily_means_leave_nan_out_where_it_lies() -> None:
    stamps = daily("2019-01-01", "2019-01-03", 6)[:-1]
    fields = truth_of(stamps).read(stamps)
    fields[0, 0, 0, 0] = fields[4:8, 0, 1, 1] = np.nan
    dims = ("time", "latitude", "longitude")
    grid = truth_of(stamps).grid
    places = {"time": stamps, "latitude": grid.latitude, "longitude": grid.longitude}
    dataset = xr.Dataset({"2m_temperature": (dims, fields[:, 0])}, places)
    days = DailyMeans(DatasetTruth(dataset))
    official = dataset["2m_temperature"].resample(time="D").mean()
    np.testing.assert_allclose(days.read(days.stamps)[:, 0], official.sel(time=days.stamps), rtol=1e-6)
    assert np.isnan(official).sum() == 1
