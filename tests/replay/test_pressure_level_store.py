"""Replay on pressure levels, from whole columns, scored as what it then is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from graphufs.cli.main import app
from graphufs.errors import UserError
from graphufs.replay.pressure_levels import replay_layers
from graphufs.storage.zarr_io import write_zarr
from graphufs.weatherbench.inputs.truth import DatasetTruth
from tests.support.climatology import in_memory
from tests.support.idealised import LATITUDE, LONGITUDE

STAMPS = np.datetime64("1994-01-01", "ns") + np.arange(5) * np.timedelta64(3, "h")
SHAPE = (len(STAMPS), len(LATITUDE), len(LONGITUDE))
SURFACE = np.random.default_rng(0).uniform(6e4, 1.03e5, SHAPE).astype(np.float32)
LAYERS = replay_layers()


def profile(pressure: np.ndarray) -> np.ndarray:
    """A temperature that is linear in the logarithm of pressure, hPa."""
    return 288 + 15 * np.log(pressure / 1000)


def source(path: Path, layers: slice = slice(None)) -> Path:
    horizontal = ("grid_yt", "grid_xt")
    temperature = profile(np.moveaxis(LAYERS.pressure(SURFACE / 100), 0, 1)).astype(np.float32)
    dataset = xr.Dataset(
        {
            "tmp": (("time", "pfull", *horizontal), temperature),
            "pressfc": (("time", *horizontal), SURFACE),
            "prateb_ave": (("time", *horizontal), SURFACE * 1e-9),
            "land_static": (horizontal, (SURFACE[0] > 8e4).astype(np.int32)),
        },
        {
            "time": STAMPS,
            "pfull": LAYERS.reference.astype(np.float32),
            "grid_yt": LATITUDE,
            "grid_xt": LONGITUDE,
        },
    )
    dataset.isel(pfull=layers).to_zarr(path, zarr_format=2, consolidated=True)
    return path


def written(folder: Path, *options: str, layers: slice = slice(None)) -> xr.Dataset:
    store = source(folder / "source.zarr", layers)
    app(["pressure-levels", str(store), str(folder / "levels.zarr"), *options], result_action="return_value")
    return xr.open_zarr(folder / "levels.zarr", chunks=None).load()


def test_whole_columns_come_to_lie_on_pressure_levels_with_nothing_below_the_ground(tmp_path: Path) -> None:
    options = ["--variables", "temperature", "surface_pressure", "total_precipitation_3hr", "--levels", "850", "500"]
    dataset = written(tmp_path, *options)
    np.testing.assert_array_equal(dataset["time"], STAMPS[::2])
    assert dataset["level"].values.tolist() == [500, 850] and dataset["level"].attrs["vertical"] == "pressure levels"
    np.testing.assert_allclose(dataset["temperature"].sel(level=500), profile(np.array(500.0)), rtol=1e-6)
    lowest = LAYERS.pressure(SURFACE[::2] / 100)[-1]
    at_850 = dataset["temperature"].sel(level=850).values
    np.testing.assert_array_equal(np.isnan(at_850), lowest < 850)
    np.testing.assert_allclose(at_850[lowest >= 850], profile(np.array(850.0)), rtol=1e-6)
    np.testing.assert_array_equal(dataset["surface_pressure"], SURFACE[::2])
    np.testing.assert_allclose(dataset["total_precipitation_3hr"], SURFACE[::2] * 1e-9 * 10.8, rtol=1e-6)
    np.testing.assert_array_equal(dataset["land_sea_mask"], SURFACE[0] > 8e4)


def test_replay_on_pressure_levels_is_scored_against_an_analysis_as_a_forecast_of_itself(tmp_path: Path) -> None:
    replay = written(tmp_path, "--variables", "temperature", "--levels", "500", "850", "--every", "3")
    era5 = replay.map(lambda field: field + np.float32(0.5) if "time" in field.dims else field)
    write_zarr(tmp_path / "era5.zarr", {None: era5})
    filled = era5[["temperature"]].fillna(250)
    write_zarr(tmp_path / "climatology.zarr", {None: in_memory(DatasetTruth(filled), STAMPS, window=5)})
    paths = [str(tmp_path / name) for name in ("levels.zarr", "era5.zarr", "climatology.zarr", "out")]
    app(["score", *paths, "--analyses", "--skipna", "--regions", "global"], result_action="return_value")
    with xr.open_dataset(tmp_path / "out" / "deterministic.nc") as results:
        np.testing.assert_allclose(results["temperature"].sel(metric="bias"), -0.5, rtol=1e-4)


def test_a_part_of_the_layers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has 60 of Replay's 127 layers: a part of them cannot be interpolated"):
        written(tmp_path, "--variables", "temperature", "--levels", "500", layers=slice(60))
    assert not (tmp_path / "levels.zarr").exists()


def test_sigma_layers_lie_at_fractions_of_the_surface_pressure(tmp_path: Path) -> None:
    horizontal = ("grid_yt", "grid_xt")
    sigma = np.array([0.1, 0.4, 0.7, 0.95])
    pressure = sigma[:, None, None] * SURFACE[:1, None] / 100
    dataset = xr.Dataset(
        {
            "tmp": (("time", "pfull", *horizontal), profile(pressure).astype(np.float32)),
            "pressfc": (("time", *horizontal), SURFACE[:1]),
        },
        {"time": STAMPS[:1], "pfull": 1000 * sigma, "grid_yt": LATITUDE, "grid_xt": LONGITUDE},
    )
    dataset.to_zarr(tmp_path / "sigma.zarr", zarr_format=2, consolidated=True)
    options = ["--variables", "temperature", "--levels", "300", "--sigma"]
    paths = [str(tmp_path / name) for name in ("sigma.zarr", "levels.zarr")]
    app(["pressure-levels", *paths, *options], result_action="return_value")
    found = xr.open_zarr(tmp_path / "levels.zarr", chunks=None)["temperature"]
    np.testing.assert_allclose(found, profile(np.array(300.0)), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--variables", "delz", "--levels", "500"], "delz is not a variable that Replay and WeatherBench2 share"),
        (["--variables", "temperature"], "temperature has layers: name the pressure levels"),
        (["--variables", "specific_humidity", "--levels", "500"], "no variable 'spfh'"),
        (["--variables", "temperature", "--levels", "500", "--start", "2001-01"], "no stamp in this period"),
    ],
)
def test_what_cannot_be_interpolated_is_named(options: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        written(tmp_path, *options)
