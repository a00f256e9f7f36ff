"""Results in the official layouts, and stores scored from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from graphufs.cli.main import app
from graphufs.errors import UserError
from graphufs.storage.zarr_io import write_zarr
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.inputs.truth import DatasetTruth
from graphufs.weatherbench.metrics.metrics import STATISTICS
from graphufs.weatherbench.results.official_files import weatherbench2_results, weatherbench_x_results, write_netcdf
from graphufs.weatherbench.score_request import ScoreRequest
from graphufs.weatherbench.score_stores import evaluate
from graphufs.weatherbench.scoring.score_state import Axes, ScoreState
from tests.support.climatology import in_memory

LEADS = np.array([6, 12], "timedelta64[h]").astype("timedelta64[ns]")
CHANNELS = (
    Channel("temperature", 500.0),
    Channel("temperature", 850.0),
    Channel("total_precipitation_6hr"),
    Channel("10m_wind_vector"),
)
TIMES = np.datetime64("2020-01-01", "ns") + np.arange(3) * np.timedelta64(12, "h")
RNG = np.random.default_rng(0)


def state(convention: str = "WeatherBench2") -> ScoreState:
    made = ScoreState(Axes(tuple(STATISTICS), tuple(LEADS), CHANNELS, ("global", "tropics"), convention))  # type: ignore[arg-type]
    for time in TIMES:
        made.update(time, RNG.uniform(1, 2, size=made.axes.shape))
    return made


def test_results_have_weatherbench2s_names_dimensions_and_seeps_by_accumulation() -> None:
    made = state()
    results, scores = weatherbench2_results(made), made.finalize()
    assert results["temperature"].dims == ("metric", "region", "lead_time", "level")
    assert results["temperature"].dtype == np.float64 and results["level"].dtype == np.int32
    assert list(results["metric"].values) == sorted([*(set(scores) - {"seeps"}), "seeps_6hr"])
    rmse = results["temperature"].sel(metric="rmse", region="tropics", level=850)
    np.testing.assert_array_equal(rmse, scores["rmse"][:, 1, 1])
    seeps = results.sel(metric="seeps_6hr", region="global")
    np.testing.assert_array_equal(seeps["total_precipitation_6hr"], scores["seeps"][:, 2, 0])
    assert seeps["temperature"].isnull().all()
    assert results.attrs["convention"] == "WeatherBench2" and "bar(<f-o>)" in results.attrs["metric_bias"]


def test_results_by_initial_time_have_their_valid_times() -> None:
    made = state()
    results = weatherbench2_results(made, by_initial_time=True)
    assert results["10m_wind_vector"].dims == ("metric", "region", "init_time", "lead_time")
    np.testing.assert_array_equal(results["valid_time"], TIMES[:, None] + LEADS)
    mean = results["temperature"].sel(metric="mse").mean("init_time").values
    np.testing.assert_allclose(mean, weatherbench2_results(made)["temperature"].sel(metric="mse").values, rtol=1e-12)


def test_results_in_weatherbench_x_have_a_variable_for_each_metric() -> None:
    made = state("WeatherBench-X")
    results, scores = weatherbench_x_results(made), made.finalize()
    assert results["acc.temperature"].dims == ("lead_time", "level", "region")
    np.testing.assert_array_equal(results["vector_rmse.10m_wind"].values, scores["rmse"][:, 3])
    assert "prediction_activity.temperature" in results and "seeps.total_precipitation_6hr" in results
    assert "seeps.temperature" not in results and "mae.10m_wind_vector" not in results


def test_a_written_file_is_whole_and_its_leads_are_durations(tmp_path: Path) -> None:
    results = weatherbench2_results(state(), by_initial_time=True)
    write_netcdf(tmp_path / "out" / "deterministic.nc", results, {"truth": "a test"})
    with xr.open_dataset(tmp_path / "out" / "deterministic.nc") as read:
        assert read.attrs["truth"] == "a test"
        xr.testing.assert_equal(read, results)
    with xr.open_dataset(tmp_path / "out" / "deterministic.nc", decode_times=False) as raw:
        assert raw["lead_time"].attrs["units"] == "hours" and raw["lead_time"].values.tolist() == [6, 12]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["deterministic.nc"]


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deterministic.nc"
    write_netcdf(path, weatherbench2_results(state()))
    before = path.read_bytes()

    def half(self: xr.Dataset, target: Path, **options: object) -> None:
        target.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", half)
    with pytest.raises(OSError, match="no space"):
        write_netcdf(path, weatherbench2_results(state()))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


LATITUDE, LONGITUDE = np.linspace(-75, 75, 6), np.arange(8) * 45.0
STAMPS = np.arange(np.datetime64("2020-01-01", "ns"), np.datetime64("2020-01-06", "ns"), np.timedelta64(6, "h"))


def stores() -> tuple[xr.Dataset, xr.Dataset, xr.Dataset]:
    """Forecast, truth and climatology with wind, temperature and a land-sea mask."""
    dims = ("time", "latitude", "longitude")
    names = ("10m_u_component_of_wind", "10m_v_component_of_wind", "2m_temperature")
    fields = {name: (dims, RNG.normal(size=(len(STAMPS), 6, 8)).astype(np.float32)) for name in names}
    truth = xr.Dataset(fields, {"time": STAMPS, "latitude": LATITUDE, "longitude": LONGITUDE})
    truth["land_sea_mask"] = (dims[1:], RNG.uniform(size=(6, 8)).astype(np.float32))
    at = xr.DataArray(TIMES[:, None] + LEADS, dims=("init", "prediction_timedelta"))
    forecast = truth.drop_vars("land_sea_mask").sel(time=at).drop_vars("time").rename(init="time")
    forecast = (forecast + 0.5).astype(np.float32).assign_coords(time=TIMES, prediction_timedelta=LEADS)
    return forecast, truth, in_memory(DatasetTruth(truth.drop_vars("land_sea_mask")), STAMPS, window=5)


def test_stores_are_scored_with_all_that_applies_to_them() -> None:
    forecast, truth, climatology = stores()
    outcome = evaluate(forecast, truth, climatology, ScoreRequest(baselines=("persistence",)))
    assert set(outcome.states) == {"emulator", "persistence"} and not outcome.excluded
    axes = outcome.states["emulator"].axes
    assert len(axes.regions) == 26 and "tropics_land" in axes.regions and Channel("10m_wind_vector") in axes.channels
    scores = outcome.states["emulator"].finalize()
    np.testing.assert_allclose(scores["bias"][:, :3, 0], 0.5, rtol=1e-5)
    np.testing.assert_allclose(scores["mse"][:, 3, 0], 0.5, rtol=1e-5)
    without = evaluate(forecast, truth.drop_vars("land_sea_mask"), climatology, ScoreRequest())
    assert len(without.states["emulator"].axes.regions) == 13


def test_a_missing_initial_truth_matters_to_baselines_only() -> None:
    forecast, truth, climatology = stores()
    gap = truth.sel(time=STAMPS[STAMPS != TIMES[0]])
    assert len(evaluate(forecast, gap, climatology, ScoreRequest()).states["emulator"]) == 3
    with_baseline = evaluate(forecast, gap, climatology, ScoreRequest(baselines=("persistence",)))
    assert len(with_baseline.states["emulator"]) == 2 and list(with_baseline.excluded) == [TIMES[0]]


def test_derived_variables_are_made_of_both_or_taken_from_the_truth() -> None:
    forecast, truth, climatology = stores()
    wanted = ScoreRequest(("2m_temperature",), derived=("10m_wind_speed",), regions=("global",))
    with pytest.raises(UserError, match="the climatology has no 10m_wind_speed"):
        evaluate(forecast, truth, climatology, wanted)
    speed = {"10m_wind_speed": np.hypot(truth["10m_u_component_of_wind"], truth["10m_v_component_of_wind"])}
    climatology = in_memory(DatasetTruth(truth.assign(speed).drop_vars("land_sea_mask")), STAMPS, window=5)
    made, taken = (
        evaluate(forecast, observed, climatology, wanted).states["emulator"].finalize()["rmse"]
        for observed in (truth, truth.assign(speed))
    )
    np.testing.assert_allclose(made, taken, rtol=1e-5)


def test_an_unknown_baseline_or_an_empty_period_is_refused() -> None:
    forecast, truth, climatology = stores()
    with pytest.raises(UserError, match="no baseline damped; there are persistence, climatology"):
        evaluate(forecast, truth, climatology, ScoreRequest(baselines=("damped",)))
    with pytest.raises(UserError, match="no initial time from 2021"):
        evaluate(forecast, truth, climatology, ScoreRequest(period=(np.datetime64("2021"), np.datetime64("2022"))))


def test_the_command_scores_stores_with_other_names_over_whole_days(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forecast, truth, climatology = stores()
    other = forecast.rename(prediction_timedelta="lead_time", latitude="lat", longitude="lon")
    for name, dataset in (("forecast", other), ("truth", truth), ("climatology", climatology)):
        write_zarr(tmp_path / name, {None: dataset})
    paths = [str(tmp_path / name) for name in ("forecast", "truth", "climatology", "out")]
    renames = "lead_time=prediction_timedelta,lat=latitude,lon=longitude"
    options = ["--regions", "global", "europe", "--baselines", "climatology", "--stop", "2020-01-01"]
    app(["score", *paths, "--rename", renames, *options], result_action="return_value")
    assert "results of 2 initial times" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{prefix}deterministic{suffix}.nc" for prefix in ("", "climatology_") for suffix in ("", "_temporal")
    }
    with xr.open_dataset(tmp_path / "out" / "deterministic.nc") as results:
        assert results.attrs["initial_times"] == 2 and list(results["region"].values) == ["global", "europe"]
        np.testing.assert_allclose(results["2m_temperature"].sel(metric="bias", region="global"), 0.5, rtol=1e-5)
    with pytest.raises(UserError, match="rename lead_time"):
        app(["score", *paths], result_action="return_value")
