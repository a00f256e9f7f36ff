"""Opening stores in WeatherBench2's layout: what is read, and the defects that are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from graphufs.errors import UserError
from graphufs.grid.grid import Grid
from graphufs.storage.zarr_io import open_zarr, write_zarr
from graphufs.weatherbench.inputs.channels import Channel, channels_of, pack, unpack
from graphufs.weatherbench.inputs.forecasts import Forecasts
from graphufs.weatherbench.inputs.truth import DatasetTruth, FrameWindow

LATITUDE, LONGITUDE = np.array([-60.0, 0.0, 60.0]), np.array([0.0, 90.0, 180.0, 270.0])


def forecasts() -> xr.Dataset:
    rng = np.random.default_rng(0)
    dims = ("time", "prediction_timedelta", "level", "latitude", "longitude")
    return xr.Dataset(
        {
            "temperature": (dims, rng.normal(size=(2, 3, 2, 3, 4)).astype(np.float32)),
            "surface_pressure": (
                tuple(dim for dim in dims if dim != "level"),
                rng.normal(size=(2, 3, 3, 4)).astype(np.float32),
            ),
        },
        {
            "time": np.array(["2020-01-02T00", "2020-01-01T00"], "datetime64[ns]"),
            "prediction_timedelta": np.array([6, 12, 18]) * np.timedelta64(1, "h").astype("timedelta64[ns]"),
            "level": [850, 500],
            "latitude": LATITUDE,
            "longitude": LONGITUDE,
        },
    )


def test_channels_run_by_variable_and_level_whatever_the_stores_order() -> None:
    dataset = forecasts()
    opened = Forecasts(dataset.transpose("longitude", "level", ..., "latitude"))
    assert opened.channels == (Channel("surface_pressure"), Channel("temperature", 500), Channel("temperature", 850))
    read = opened.read(np.datetime64("2020-01-01T00"))
    assert read.shape == (3, 3, 3, 4) and read.dtype == np.float32
    np.testing.assert_array_equal(read[:, 0], dataset["surface_pressure"].values[1])
    np.testing.assert_array_equal(read[:, 1], dataset["temperature"].sel(level=500).values[1])
    np.testing.assert_array_equal(read[:, 2], dataset["temperature"].sel(level=850).values[1])


def test_a_store_written_and_read_is_the_same(tmp_path: Path) -> None:
    dataset = forecasts()
    write_zarr(tmp_path / "forecasts.zarr", {None: dataset}, {"temperature": {"time": 1}})
    opened = Forecasts.open(tmp_path / "forecasts.zarr", ["temperature"], [850])
    assert opened.channels == (Channel("temperature", 850),)
    np.testing.assert_array_equal(opened.leads, dataset["prediction_timedelta"])
    np.testing.assert_array_equal(
        opened.read(dataset["time"].values[0])[:, 0], dataset["temperature"].sel(level=850).values[0]
    )


def test_durations_are_stored_with_the_attribute_that_newer_readers_need(tmp_path: Path) -> None:
    write_zarr(tmp_path / "forecasts.zarr", {None: forecasts()})
    raw = xr.open_zarr(tmp_path / "forecasts.zarr", decode_times=False, chunks=None)["prediction_timedelta"]
    assert raw.attrs["units"] == "hours" and raw.attrs["dtype"] == "timedelta64[ns]"
    np.testing.assert_array_equal(raw.values, [6, 12, 18])


def test_leads_that_read_as_numbers_are_refused_with_the_cure() -> None:
    dataset = forecasts().assign_coords(prediction_timedelta=[6, 12, 18])
    with pytest.raises(UserError, match=r'units="hours" and dtype="timedelta64\[ns\]"'):
        Forecasts(dataset)


def test_the_name_lead_time_is_refused_with_the_right_one() -> None:
    with pytest.raises(
        UserError,
        match=r"no dimension prediction_timedelta .*rename lead_time \(lead_time=prediction_timedelta\)",
    ):
        Forecasts(forecasts().rename(prediction_timedelta="lead_time"))


def test_initial_times_that_read_as_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="not times"):
        Forecasts(forecasts().assign_coords(time=[0, 1]))


def test_repeated_initial_times_are_refused() -> None:
    with pytest.raises(UserError, match="same initial time more than once"):
        Forecasts(forecasts().isel(time=[0, 0]))


@pytest.mark.parametrize("longitude", [[-180.0, -90.0, 0.0, 90.0], [90.0, 180.0, 270.0, 360.0], [0.0, 270, 90, 180]])
def test_longitudes_not_ascending_within_0_to_360_are_refused(longitude: list[float]) -> None:
    with pytest.raises(UserError, match="ascending within 0 to 360"):
        Forecasts(forecasts().assign_coords(longitude=longitude))


def test_other_names_for_latitude_are_refused() -> None:
    with pytest.raises(UserError, match=r"no dimension latitude with a coordinate; rename lat \(lat=latitude\)"):
        Forecasts(forecasts().rename(latitude="lat"))


def test_a_variable_or_level_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match="no variable geopotential; there are surface_pressure, temperature"):
        Forecasts(forecasts(), variables=["geopotential"])
    with pytest.raises(UserError, match="temperature has no level 700; its levels are 500, 850"):
        Forecasts(forecasts(), levels=[700])


def test_a_missing_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot open .*nothing.zarr .*check the path"):
        open_zarr(tmp_path / "nothing.zarr")


def test_native_layers_are_never_called_pressure_levels() -> None:
    dataset = forecasts()
    assert Forecasts(dataset).vertical == "pressure levels"
    dataset["temperature"].attrs["vertical"] = "native model layers"
    assert Forecasts(dataset).vertical == "native model layers"
    assert Forecasts(dataset, ["surface_pressure"]).vertical == "surface only"


def test_truth_is_flipped_to_the_forecasts_latitudes() -> None:
    observed = forecasts().isel(prediction_timedelta=0, drop=True)
    ours = Grid(LATITUDE, LONGITUDE)
    upright = DatasetTruth(observed, grid=ours)
    flipped = DatasetTruth(observed.isel(latitude=slice(None, None, -1)), grid=ours)
    np.testing.assert_array_equal(flipped.read(upright.stamps), upright.read(upright.stamps))


def test_truth_on_another_grid_is_refused() -> None:
    observed = forecasts().isel(prediction_timedelta=0, drop=True)
    for other in (
        observed.isel(longitude=slice(3)),
        observed.assign_coords(latitude=LATITUDE + 0.01),
        observed.assign_coords(longitude=LONGITUDE + 0.01),
    ):
        with pytest.raises(UserError, match="another grid"):
            DatasetTruth(other, grid=Grid(LATITUDE, LONGITUDE))


def test_truth_is_read_at_unsorted_times_and_an_absent_one_is_named() -> None:
    truth = DatasetTruth(forecasts().isel(prediction_timedelta=0, drop=True))
    np.testing.assert_array_equal(truth.stamps, np.array(["2020-01-01T00", "2020-01-02T00"], "datetime64[ns]"))
    there = truth.read(truth.stamps)
    np.testing.assert_array_equal(truth.read(truth.stamps[[1, 0, 1]]), there[[1, 0, 1]])
    with pytest.raises(UserError, match="no fields at 2020-01-01T06"):
        truth.read(np.array(["2020-01-01T06"], "datetime64[ns]"))


def test_a_frame_window_reads_each_frame_once_while_it_slides() -> None:
    read: list[int] = []

    def frames(stamps: np.ndarray) -> np.ndarray:
        read.extend(stamps.tolist())
        return stamps.astype(np.float32)[:, None]

    window = FrameWindow(frames)
    for start in range(0, 20, 2):
        wanted = np.arange(start, start + 8)
        np.testing.assert_array_equal(window.read(wanted)[:, 0], wanted)
    assert read == list(range(26))
    np.testing.assert_array_equal(window.read(np.array([3, 3]))[:, 0], [3, 3])


def test_unpacking_undoes_packing_and_pads_levels_with_nan() -> None:
    dataset = forecasts()
    channels = channels_of(dataset)
    packed = pack(dataset, channels, ["time", "prediction_timedelta"])
    variables, level = unpack(packed, channels, ["time", "prediction_timedelta", "channel", "latitude", "longitude"])
    np.testing.assert_array_equal(level["level"], [500, 850])
    np.testing.assert_array_equal(variables["temperature"][1], dataset["temperature"].sel(level=[500, 850]).values)
    assert variables["surface_pressure"][0] == ("time", "prediction_timedelta", "latitude", "longitude")
    uneven = (Channel("a", 500.0), Channel("b", 850.0))
    padded, _ = unpack(np.ones((2, 5)), uneven, ["channel", "lead"])
    np.testing.assert_array_equal(np.isnan(padded["a"][1][:, 0]), [False, True])
    np.testing.assert_array_equal(np.isnan(padded["b"][1][:, 0]), [True, False])
