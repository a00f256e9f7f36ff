"""Forecasts: WeatherBench2's layout, the right leads, and a kill -9 that costs at most a block."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from graphufs.config import loading
from graphufs.data.dataset import PreparedData
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.errors import UserError
from graphufs.steps import run_step
from graphufs.storage.paths import Paths
from tests.conftest import TINY


def test_the_store_has_weatherbench2s_layout(tiny, finished_root):
    with xr.open_zarr(Paths(tiny, finished_root).forecasts, chunks=None) as forecast:
        assert forecast.temperature.dims == ("time", "prediction_timedelta", "level", "latitude", "longitude")
        assert forecast.surface_pressure.dims == ("time", "prediction_timedelta", "latitude", "longitude")
        assert forecast.sizes == {"time": 10, "prediction_timedelta": 4, "level": 2, "latitude": 32, "longitude": 64}
        assert forecast.prediction_timedelta.dtype == np.dtype("timedelta64[ns]")
        np.testing.assert_array_equal(forecast.prediction_timedelta / np.timedelta64(1, "h"), [6, 12, 18, 24])
        assert list(forecast.level.values) == [500, 1000]
        assert forecast.native_level.values == pytest.approx([525, 955])
        assert forecast.temperature.dtype == np.float32
        assert np.isfinite(forecast.temperature.values).all()
        assert forecast.temperature.encoding["chunks"] == (1, 4, 2, 32, 64)
    raw = xr.open_zarr(Paths(tiny, finished_root).forecasts, chunks=None, decode_times=False)
    assert raw.prediction_timedelta.attrs["units"] == "hours"
    assert raw.prediction_timedelta.attrs["dtype"] == "timedelta64[ns]"
    assert (Paths(tiny, finished_root).forecasts / ".zmetadata").is_file()


def test_the_store_holds_what_the_emulator_predicts(tiny, finished_root):
    paths = Paths(tiny, finished_root)
    emulator = ReplayEmulator.from_checkpoint(paths.checkpoints / "00000016")
    times = np.array(tiny.initial_times[:3], "datetime64[ns]")
    again = emulator.forecast(PreparedData.open(paths.data), times, steps=4)
    with xr.open_zarr(paths.forecasts, chunks=None) as stored:
        for name in ("temperature", "surface_pressure"):
            np.testing.assert_allclose(stored[name].isel(time=slice(3)).values, again[name].values, rtol=1e-6)
    assert again.attrs["Conventions"] == "CF-1.11"
    standard = {name: again[name].attrs["standard_name"] for name in ("time", "prediction_timedelta", "temperature")}
    assert standard == {
        "time": "forecast_reference_time",
        "prediction_timedelta": "forecast_period",
        "temperature": "air_temperature",
    }
    axes = {name: again[name].attrs["axis"] for name in ("time", "level", "latitude", "longitude")}
    assert axes == {"time": "T", "level": "Z", "latitude": "Y", "longitude": "X"}
    assert all(again[name].attrs["units"] for name in ("level", "latitude", "longitude", *again))
    assert again["time"].encoding["calendar"] == "proleptic_gregorian"


@pytest.mark.long  # a part that is killed goes on in test_parts
@pytest.mark.parametrize("block", [1, 3])
def test_a_forecast_killed_and_repeated_equals_an_undisturbed_one(tiny, finished_root, copy_of_root, block):
    root = copy_of_root(finished_root)
    paths = Paths(tiny, root)
    undisturbed = xr.open_zarr(paths.forecasts, chunks=None).load()
    paths.forecasts.rename(paths.forecasts.with_name("undisturbed.zarr"))
    program = f"""
import os, signal, sys
from graphufs.forecast.store import ForecastWriter
write, count = ForecastWriter.write, iter(range(100))
def write_and_die(self, place, forecasts):
    if next(count) == {block}:
        self._group["temperature"][place.first] = 0.0  # half a block is on disk
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, place, forecasts)
ForecastWriter.write = write_and_die
from graphufs.cli.main import main
main(["forecast", {str(TINY)!r}, "--root", {str(root)!r}])
"""
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=300).returncode == -9
    assert not paths.forecasts.exists()
    with pytest.raises(UserError, match="forecast"):
        run_step("evaluate", loading.load(TINY, ["evaluation.climatology_window=7"]), root)
    command = [sys.executable, "-m", "graphufs.cli.main", "forecast", str(TINY), "--root", str(root)]
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    xr.testing.assert_identical(
        xr.open_zarr(paths.forecasts, chunks=None).load().drop_attrs(), undisturbed.drop_attrs()
    )


def test_forecasts_from_an_unfinished_training_are_refused(tiny, normalized_root, copy_of_root):
    root = copy_of_root(normalized_root)
    with pytest.raises(UserError, match="graphufs train"):
        run_step("forecast", tiny, root)
    run_step("train", tiny, root, should_stop=lambda: True)
    with pytest.raises(UserError, match="stands at 1 of 16 updates"):
        run_step("forecast", tiny, root)
