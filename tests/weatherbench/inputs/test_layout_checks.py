"""Defects of stores: each has one clear error, and names can be put right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from graphufs.errors import UserError
from graphufs.grid.grid import Grid
from graphufs.weatherbench.climatology.store import Climatology
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.inputs.forecasts import Forecasts
from graphufs.weatherbench.inputs.layout_checks import (
    check_climatology,
    grid_of,
    parse_renames,
    phase_mismatch,
    renamed,
)
from graphufs.weatherbench.inputs.truth import DatasetTruth
from graphufs.weatherbench.scoring.score import usable_initial_times
from tests.weatherbench.inputs.test_forecasts import LATITUDE, LONGITUDE, forecasts


def observations() -> xr.Dataset:
    return forecasts().isel(prediction_timedelta=0, drop=True)


def test_renames_are_read_as_pairs_or_as_weatherbench2s_json() -> None:
    expected = {"lead_time": "prediction_timedelta", "lat": "latitude"}
    assert parse_renames("lead_time=prediction_timedelta, lat=latitude") == expected
    assert parse_renames('{"lead_time": "prediction_timedelta", "lat": "latitude"}') == expected
    for text in ("lead_time", "a=b=c", "=x", "a=", "{", "a=c,b=c", "[1]"):
        with pytest.raises(UserError, match="old=new"):
            parse_renames(text)


def test_renamed_stores_are_read_like_others() -> None:
    other = forecasts().rename(prediction_timedelta="lead_time", latitude="lat", temperature="t")
    names = {"lead_time": "prediction_timedelta", "lat": "latitude", "t": "temperature"}
    xr.testing.assert_identical(renamed(other, names, "x"), forecasts())
    time = forecasts()["time"].values[0]
    np.testing.assert_array_equal(Forecasts(renamed(other, names, "x")).read(time), Forecasts(forecasts()).read(time))


def test_renames_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match="the store has no lead_time to rename; it has latitude"):
        renamed(forecasts(), {"lead_time": "prediction_timedelta"}, "the store")
    with pytest.raises(UserError, match="already has level, so time cannot"):
        renamed(forecasts(), {"time": "level"}, "the store")


def test_only_forecasts_may_be_an_ensemble() -> None:
    assert Forecasts(forecasts().expand_dims(number=3)).members == 3
    with pytest.raises(UserError, match="ensemble along realization.*mean or one member"):
        DatasetTruth(observations().expand_dims(realization=3))


def test_a_dimension_nobody_knows_is_named() -> None:
    with pytest.raises(UserError, match="temperature of .* has the dimension tile"):
        Forecasts(forecasts()[["temperature"]].expand_dims(tile=6))


@pytest.mark.parametrize("units", ["mm", "kg m**-2"])
def test_precipitation_in_millimetres_is_refused(units: str) -> None:
    rain = forecasts().rename(surface_pressure="total_precipitation_6hr")
    rain["total_precipitation_6hr"].attrs["units"] = units
    with pytest.raises(UserError, match="in metres: divide by 1000"):
        Forecasts(rain)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: d.assign_coords(time=[np.datetime64("NaT", "ns"), *d.time.values[1:]]), "no value at place 0"),
        (lambda d: d.assign_coords(prediction_timedelta=-d.prediction_timedelta), "has values below 0"),
        (lambda d: d.astype(complex), "temperature of .* holds complex128, not real numbers"),
        (lambda d: d > 0, "holds bool, not real numbers"),
        (lambda d: d.assign(temperature=d.temperature.assign_attrs(units="degC")), "is in degC; .* has it in K"),
        (lambda d: d.assign_coords(level=["a", "b"][: d.sizes["level"]]), "level of .* must hold finite numbers"),
        (lambda d: d.assign_coords(level=d.level * np.nan), "level of .* must hold finite numbers"),
    ],
)
def test_what_would_be_scored_wrongly_is_refused(change: Callable[[xr.Dataset], xr.Dataset], told: str) -> None:
    with pytest.raises(UserError, match=told):
        Forecasts(change(forecasts()))


def test_units_that_say_nothing_or_the_same_pass() -> None:
    for units in ("K", "kelvin", "", "unknown", "m of equivalent"):
        Forecasts(forecasts().assign(temperature=forecasts().temperature.assign_attrs(units=units)))


def test_coordinates_in_radians_are_refused_and_a_region_at_the_equator_is_not() -> None:
    dataset = xr.Dataset(coords={"latitude": np.linspace(-90, 90, 7), "longitude": np.arange(0, 360, 30.0)})
    assert grid_of(dataset, "x").shape == (7, 12)
    for name in ("latitude", "longitude"):
        with pytest.raises(UserError, match=f"the {name}s of x look like radians"):
            grid_of(dataset.assign_coords({name: np.deg2rad(dataset[name])}), "x")
    region = {"latitude": np.linspace(-1.5, 1.5, 7), "longitude": np.arange(3, 6, 0.5)}
    assert grid_of(dataset.drop_dims(list(region)).assign_coords(region), "x").shape == (7, 6)


def test_a_climatology_of_members_is_refused() -> None:
    dataset = forecasts().isel(prediction_timedelta=0, time=[0], drop=True).rename(time="hour")
    dataset = dataset.assign_coords(hour=[0]).expand_dims(dayofyear=[1], number=2)
    with pytest.raises(UserError, match="is an ensemble along number"):
        check_climatology(dataset, "the climatology")


def test_levels_in_pascal_are_refused() -> None:
    dataset = forecasts()
    dataset["level"].attrs["units"] = "Pa"
    with pytest.raises(UserError, match="hPa: divide by 100"):
        Forecasts(dataset)


def test_forecasts_given_for_truth_and_times_that_repeat_are_refused() -> None:
    with pytest.raises(UserError, match="holds forecasts, not observations"):
        DatasetTruth(forecasts())
    with pytest.raises(UserError, match="no dimension time with a coordinate; rename valid_time"):
        DatasetTruth(observations().rename(time="valid_time"))
    with pytest.raises(UserError, match="same time more than once"):
        DatasetTruth(observations().isel(time=[0, 1, 0]))
    with pytest.raises(UserError, match="not times"):
        DatasetTruth(observations().assign_coords(time=[0, 1]))


def climate() -> xr.Dataset:
    return xr.Dataset(
        {"t": (("hour", "dayofyear", "latitude", "longitude"), np.zeros((2, 366, 3, 4)))},
        {"hour": [0, 12], "dayofyear": np.arange(1, 367), "latitude": LATITUDE, "longitude": LONGITUDE},
    )


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (climate().rename(dayofyear="doy"), "rename doy"),
        (climate().isel(hour=0, drop=True), "no dimension hour"),
        (climate().assign_coords(dayofyear=np.arange(366)), "from 1 to 366"),
        (climate().assign_coords(hour=[0, 24]), "from 0 to 23"),
        (climate().isel(hour=[0, 0]), "same hour more than once"),
    ],
)
def test_a_climatology_off_the_layout_is_refused(dataset: xr.Dataset, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Climatology(dataset, [Channel("t")], Grid(LATITUDE, LONGITUDE))


LEADS = np.array([6, 12], "timedelta64[h]").astype("timedelta64[ns]")
STAMPS = np.arange(np.datetime64("2020-01-01T00", "ns"), np.datetime64("2020-01-10", "ns"), np.timedelta64(6, "h"))


def test_forecasts_between_the_truths_hours_are_an_error_and_not_nan() -> None:
    times = STAMPS[4:6] + np.timedelta64(3, "h")
    with pytest.raises(UserError, match="valid at 09, 15, 21 UTC, the truth only has 00, 06, 12, 18 UTC"):
        usable_initial_times(times, LEADS, STAMPS)
    assert phase_mismatch(times, STAMPS[:0]) is None and phase_mismatch(STAMPS[:1], STAMPS) is None


def test_truth_at_the_start_is_only_needed_by_baselines() -> None:
    stamps = np.delete(STAMPS, 8)
    usable, excluded = usable_initial_times(STAMPS[[8, 12]], LEADS, stamps, at_start=False)
    assert usable.tolist() == STAMPS[[8, 12]].tolist() and not excluded
    usable, excluded = usable_initial_times(STAMPS[[8, 12]], LEADS, stamps)
    assert usable.tolist() == STAMPS[[12]].tolist() and list(excluded) == [STAMPS[8]]
