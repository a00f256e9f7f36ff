"""Forecasts converted for other tools: the values of the store, what MET and CF ask for, and bad input refused."""

from __future__ import annotations

import sys
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr

from graphufs.cli.main import app
from graphufs.errors import UserError
from graphufs.grid.areas import gaussian_latitudes
from graphufs.products import convert as products
from graphufs.products import netcdf, zarr_store
from graphufs.replay.pressure_levels import replay_layers
from graphufs.storage.zarr_io import store_damage, write_zarr
from graphufs.vocabulary import cf
from graphufs.weatherbench.inputs.forecasts import Forecasts

TIMES = np.array(["1995-01-01T06", "1995-01-01T18"], "datetime64[ns]")
LEADS = np.arange(6, 25, 6) * np.timedelta64(1, "h").astype("timedelta64[ns]")
LAYERS = {500: 75, 1000: 126}
"""Of Replay's 127, by what they are called."""


def forecast(vertical: str = cf.LAYERS, members: int = 0, latitude: np.ndarray | None = None) -> xr.Dataset:
    """A small forecast store: a variable on levels, two at the surface and one that is added up."""
    latitude = gaussian_latitudes(8) if latitude is None else latitude
    sizes = {"time": 2, "prediction_timedelta": 4, "level": 2, "latitude": len(latitude), "longitude": 16}
    leading = ["time", "prediction_timedelta", *(["number"] if members else [])]
    sizes["number"] = members
    rng = np.random.default_rng(22)

    def field(dims: list[str], low: float, high: float) -> xr.DataArray:
        return xr.DataArray(rng.uniform(low, high, [sizes[dim] for dim in dims]).astype(np.float32), dims=dims)

    flat = [*leading, "latitude", "longitude"]
    dataset = xr.Dataset(
        {
            "temperature": field([*leading, "level", "latitude", "longitude"], 220, 310),
            "surface_pressure": field(flat, 95_000, 103_000),
            "2m_temperature": field(flat, 250, 310),
            "total_precipitation_3hr": field(flat, 0, 0.01),
        },
        coords={
            "time": TIMES,
            "prediction_timedelta": LEADS,
            "level": ("level", list(LAYERS), {"units": "hPa"}),
            "latitude": latitude,
            "longitude": np.arange(16) * 22.5,
        },
        attrs={"experiment": "small", "source": "gs://somewhere"},
    )
    dataset["temperature"].attrs = {"units": "K", "vertical": vertical}
    if vertical == cf.LAYERS:
        dataset = dataset.assign_coords(native_level=("level", replay_layers().reference[list(LAYERS.values())]))
    return dataset


def convert(dataset: xr.Dataset, to: products.Format, output: Path, **options) -> products.Conversion:
    return products.convert(Forecasts(dataset, origin="the store"), to, output, **options)


def test_a_netcdf_file_has_what_met_documents_and_the_values_of_the_store(tmp_path):
    made = convert(forecast(), "netcdf", tmp_path / "out")
    assert made.initial_times == made.files == 2
    assert sorted(path.name for path in made.path.iterdir()) == ["1995010106.nc", "1995010118.nc"]
    with netCDF4.Dataset(made.path / "1995010106.nc") as file:
        file.set_auto_mask(False)
        assert file.Conventions == "CF-1.11"  # begins with "CF-"
        time, reference = file["time"], file["forecast_reference_time"]
        assert (time.dimensions, reference.dimensions) == (("time",), ())
        assert time.standard_name == "time" and time.axis == "T" and time.calendar == "proleptic_gregorian"
        assert time.units == reference.units == "hours since 1970-01-01"
        assert reference.standard_name == "forecast_reference_time"
        # MET takes the last variable with the axis T, or the standard name time, for the valid time
        assert [name for name, v in file.variables.items() if getattr(v, "axis", "") == "T"] == ["time"]
        np.testing.assert_array_equal(time[:] - reference[:], [6, 12, 18, 24])
        np.testing.assert_array_equal(file["forecast_period"][:], [6, 12, 18, 24])
        assert file["forecast_period"].standard_name == "forecast_period" and file["forecast_period"].units == "hours"
        places = (("latitude", "degrees_north", "Y"), ("longitude", "degrees_east", "X"))
        for name, units, axis in places:
            found = file[name]
            assert (found.dimensions, found.units, found.standard_name, found.axis) == ((name,), units, name, axis)
            spacing = np.diff(found[:])
            assert np.abs(spacing - spacing[0]).max() <= 0.05 * np.abs(spacing[0])  # MET's own check
        level = file["level"]
        assert (level.axis, level.units, level.positive) == ("Z", "hPa", "down")
        for name in ("temperature", "surface_pressure", "2m_temperature", "total_precipitation_3hr"):
            listed = set(file[name].coordinates.split())
            assert (
                {"forecast_reference_time", "forecast_period", "latitude", "longitude"} <= listed <= {*file.variables}
            )
            assert ("height_2m" in listed) == (name == "2m_temperature")
            assert file[name].units and file[name].standard_name
            assert file[name].dimensions[-2:] == ("latitude", "longitude")
            assert file[name].chunking()[-2:] == [8, 16]
        assert file["temperature"].dimensions == ("time", "level", "latitude", "longitude")
        assert file["total_precipitation_3hr"].cell_methods.startswith("time: sum")
        np.testing.assert_array_equal(file["temperature"][:], forecast().temperature.values[0])
    with xr.open_dataset(made.path / "1995010118.nc") as back:
        assert back["forecast_reference_time"].values == TIMES[1]
        xr.testing.assert_equal(back["surface_pressure"].variable[2], forecast()["surface_pressure"].variable[1, 2])


def test_native_layers_keep_their_coefficients_and_pressure_levels_are_pressures(tmp_path):
    convert(forecast(), "netcdf", tmp_path / "layers")
    with xr.open_dataset(tmp_path / "layers" / "1995010106.nc") as file:
        assert "standard_name" not in file["level"].attrs
        p = file["ap_bounds"] + file["b_bounds"] * 1e5
        mean = (p[:, 1] - p[:, 0]) / np.log(p[:, 1] / p[:, 0]) / 100
        np.testing.assert_allclose(mean, file["native_level"], rtol=1e-5)
        assert file["ap"].attrs["bounds"] == "ap_bounds" and file["ap"].units == "Pa"
    convert(forecast(cf.PRESSURE), "netcdf", tmp_path / "levels")
    with xr.open_dataset(tmp_path / "levels" / "1995010106.nc") as file:
        assert file["level"].standard_name == "air_pressure" and "ap" not in file


def test_members_come_first_and_are_numbered(tmp_path):
    made = forecast(members=3)
    convert(made, "netcdf", tmp_path / "one.nc", period=(TIMES[1], TIMES[1]))
    with xr.open_dataset(tmp_path / "one.nc") as file:
        assert file["temperature"].dims == ("realization", "time", "level", "latitude", "longitude")
        assert file["realization"].standard_name == "realization"
        expected = made.temperature.isel(time=1).transpose("number", ...)
        np.testing.assert_array_equal(file["temperature"], expected)


@pytest.mark.parametrize("members", [0, 2])
def test_a_zarr_store_has_consolidated_metadata_and_can_be_converted_again(tmp_path, members):
    made = forecast(members=members)
    convert(made, "zarr", tmp_path / "out.zarr")
    assert store_damage(tmp_path / "out.zarr") is None
    with xr.open_zarr(tmp_path / "out.zarr", chunks=None, consolidated=True) as found:
        assert found["time"].standard_name == "forecast_reference_time"
        assert found["valid_time"].dims == ("time", "prediction_timedelta")
        assert (found["valid_time"] == found["time"] + found["prediction_timedelta"]).all()
        for name in made:
            np.testing.assert_array_equal(found[name], made[name])
        convert(found, "zarr", tmp_path / "again.zarr")
    with xr.open_zarr(tmp_path / "again.zarr", chunks=None) as again:
        np.testing.assert_array_equal(again["temperature"], made["temperature"])


def test_chunks_are_whole_fields_of_bounded_size():
    large = xr.DataArray(
        np.broadcast_to(np.float32(0), (40, 13, 721, 1440)),
        dims=("prediction_timedelta", "level", "latitude", "longitude"),
    )
    lengths = zarr_store.chunks(large.expand_dims("time"))
    assert lengths == (1, 1, 4, 721, 1440) and 4 * np.prod(lengths) <= zarr_store.CHUNK
    assert zarr_store.chunks(large[:, :, :32, :64].expand_dims("time")) == (1, 40, 13, 32, 64)


def test_fields_are_brought_to_an_even_grid_on_request(tmp_path):
    assert convert(forecast(), "netcdf", tmp_path / "a").displacement > 0.1
    assert convert(forecast(), "netcdf", tmp_path / "b", grid="12x7").displacement < 1e-9
    with xr.open_dataset(tmp_path / "b" / "1995010106.nc") as file:
        np.testing.assert_allclose(file["latitude"], np.linspace(-90, 90, 7))
        assert np.isfinite(file["temperature"]).all()


def test_what_an_earlier_conversion_made_is_replaced_and_nothing_else(tmp_path):
    for to, path in (("netcdf", "a"), ("netcdf", "b.nc"), ("zarr", "c")):
        for start in TIMES:
            convert(forecast(), to, tmp_path / path, period=(start, start))
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["1995010118.nc"]
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b.nc", "c"}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    for to in ("netcdf", "zarr"):
        with pytest.raises(UserError, match="mine is there already and no earlier conversion"):
            convert(forecast(), to, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_conversion_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    convert(forecast(), "netcdf", tmp_path / "out")
    before = (tmp_path / "out" / "1995010106.nc").read_bytes()
    write = netcdf.write

    def fail_at_the_second(path, run):
        if path.name == "1995010118.nc":
            raise OSError("no space")
        write(path, run)

    monkeypatch.setattr(netcdf, "write", fail_at_the_second)
    with pytest.raises(OSError, match="no space"):
        convert(forecast() + 1, "netcdf", tmp_path / "out")
    assert (tmp_path / "out" / "1995010106.nc").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_command_converts_a_store_and_says_where_met_would_move_rows(tmp_path, capsys):
    write_zarr(tmp_path / "in.zarr", {None: forecast()})
    command = ["convert", str(tmp_path / "in.zarr"), "--to", "netcdf", "--output", str(tmp_path / "out")]
    assert app([*command, "--variables", "temperature", "--stop", "1995-01-01T06"], result_action="return_value") == 0
    printed = capsys.readouterr()
    assert "1 initial times in" in printed.out and "MET takes them to be" in printed.err
    with xr.open_dataset(tmp_path / "out" / "1995010106.nc") as file:
        assert list(file) == ["temperature"]


@pytest.mark.parametrize(
    ("to", "output", "options", "words"),
    [
        ("netcdf", "one.nc", {}, "one file, and there are 2 initial times"),
        ("zarr", "out", {"period": (TIMES[1] + 1, TIMES[1] + 2)}, "no initial time in this period"),
        ("zarr", "out", {"grid": "fine"}, "there is no grid fine"),
    ],
)
def test_bad_input_is_refused_in_one_line(tmp_path, to, output, options, words):
    with pytest.raises(UserError, match=words):
        convert(forecast(), to, tmp_path / output, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.isel(prediction_timedelta=slice(0)), "has 0 leads"),
        (lambda d: d.isel(latitude=[0]), "two longitudes and latitudes"),
        (lambda d: d.assign_coords(time=d.time + np.timedelta64(1, "s")), "between whole minutes"),
        (
            lambda d: d.assign_coords(prediction_timedelta=d.prediction_timedelta + np.timedelta64(1, "s")),
            "between whole minutes",
        ),
    ],
)
def test_forecasts_that_no_format_can_hold_are_refused(tmp_path, change, words):
    with pytest.raises(UserError, match=words):
        convert(change(forecast()), "netcdf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_eccodes_grib2_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "eccodes", None)
    with pytest.raises(UserError, match=r"graphufs\[grib\]"):
        convert(forecast(), "grib2", tmp_path / "out")
