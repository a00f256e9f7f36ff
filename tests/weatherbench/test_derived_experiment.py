"""Derived variables, wind vectors and precipitation in experiments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.data import prepare
from graphufs.errors import UserError
from graphufs.steps import never_stop, no_progress, run_step
from graphufs.storage.paths import Paths
from graphufs.storage.zarr_io import write_zarr
from graphufs.vocabulary.conventions import DRY_METRES
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.inputs.derived_truth import DerivedTruth
from graphufs.weatherbench.inputs.truth import DatasetTruth
from graphufs.weatherbench.results.scores import Scores
from tests.support.idealised import LATITUDE, LONGITUDE

STEP = np.timedelta64(3, "h")
STAMPS = np.arange(np.datetime64("1994-01-01", "ns"), np.datetime64("1994-01-22", "ns"), STEP)
LEADS = (STEP * np.arange(1, 17)).astype("timedelta64[ns]")
DAY_RAIN, SPEED, VECTOR = "total_precipitation_24hr", "10m_wind_speed", "10m_wind_vector"
DERIVED = "[10m_wind_speed, total_precipitation_24hr_from_3hr]"
TEXT = """
name: rain
data:
  source: {url: %s}
  inputs: [ugrd10m, vgrd10m, prateb_ave]
  targets: [ugrd10m, vgrd10m, prateb_ave]
  time_step: 3h
  training: {start: 1994-01-01T00, end: 1994-01-10T21}
  validation: {start: 1994-01-20T00, end: 1994-01-21T00}
  evaluation: {start: 1994-01-11T00, end: 1994-01-19T21}
training:
  batch_size: 2
  stages: [{name: only, updates: 5}]
forecast: {every: 24h, lead_time: 48h}
evaluation: {derived: %s, vectors: true, climatology_window: 31}
"""


def replay() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shape = (len(STAMPS), len(LATITUDE), len(LONGITUDE))
    winds = {name: rng.normal(0, 5, shape).astype(np.float32) for name in ("ugrd10m", "vgrd10m")}
    return winds | {"prateb_ave": np.maximum(rng.normal(-1.2e-4, 8e-5, shape), 0).astype(np.float32)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Path, Scores, xr.Dataset]:
    """An experiment scored with rain, speed and vectors; and its forecasts."""
    folder = tmp_path_factory.mktemp("rain")
    source, root = folder / "source.zarr", folder / "root"
    data = replay()
    units = {"ugrd10m": "m/s", "vgrd10m": "m/s", "prateb_ave": "kg/m**2/s"}
    dims = ("time", "grid_yt", "grid_xt")
    variables = {name: (dims, values, {"units": units[name]}) for name, values in data.items()}
    store = xr.Dataset(variables, {"time": STAMPS, "grid_yt": LATITUDE, "grid_xt": LONGITUDE})
    store.to_zarr(source, zarr_format=2, consolidated=True)
    experiment = loading.parse(TEXT % (source, DERIVED))
    prepare.run(experiment, root, progress=no_progress, should_stop=never_stop)
    times = np.array(experiment.initial_times, "datetime64[ns]")
    at = np.searchsorted(STAMPS, times[:, None] + LEADS)
    dims = ("time", "prediction_timedelta", "latitude", "longitude")
    forecasts = xr.Dataset(
        {
            "10m_u_component_of_wind": (dims, data["ugrd10m"][at] + 3, {"units": "m s-1"}),
            "10m_v_component_of_wind": (dims, data["vgrd10m"][at] + 4, {"units": "m s-1"}),
            "total_precipitation_3hr": (dims, data["prateb_ave"][at] * np.float32(10.8) * 2, {"units": "m"}),
        },
        {"time": times, "prediction_timedelta": LEADS, "latitude": LATITUDE, "longitude": LONGITUDE},
    )
    write_zarr(Paths(experiment, root).forecasts, {None: forecasts})
    run_step("evaluate", experiment, root)
    return experiment, root, Scores.open(Paths(experiment, root).scores), forecasts


def area_mean(field: np.ndarray) -> np.ndarray:
    areas = -np.diff(np.sin(np.deg2rad([90, 69, 46, 23, 0, -23, -46, -69, -90])))
    return field.astype(np.float64).mean(axis=-1) @ areas / areas.sum()


def test_a_wind_vectors_error_is_that_of_both_components(
    made: tuple[Experiment, Path, Scores, xr.Dataset],
) -> None:
    scores = made[2]
    np.testing.assert_allclose(scores.values("rmse", "emulator", Channel(VECTOR)), 5.0, rtol=1e-5)
    assert scores.dataset[VECTOR].attrs["units"] == "m s-1"


def test_wind_speed_is_made_of_forecast_and_truth_alike(made: tuple[Experiment, Path, Scores, xr.Dataset]) -> None:
    _, _, scores, forecasts = made
    data = replay()
    truth = np.hypot(data["ugrd10m"], data["vgrd10m"])
    mine = np.hypot(forecasts["10m_u_component_of_wind"], forecasts["10m_v_component_of_wind"]).values
    at = np.searchsorted(STAMPS, scores.initial_times[:, None] + LEADS)
    there = np.isin(forecasts["time"].values, scores.initial_times)
    expected = area_mean(mine[there] - truth[at]).mean(axis=0)
    np.testing.assert_allclose(scores.values("bias", "emulator", Channel(SPEED)), expected, rtol=1e-4, atol=1e-5)
    with_initial = truth[np.searchsorted(STAMPS, scores.initial_times)][:, None]
    expected = np.sqrt(area_mean((with_initial - truth[at]) ** 2).mean(axis=0))
    np.testing.assert_allclose(scores.values("rmse", "persistence", Channel(SPEED)), expected, rtol=1e-5)


def test_a_days_rain_is_the_sum_of_eight_rates_in_metres(made: tuple[Experiment, Path, Scores, xr.Dataset]) -> None:
    _, _, scores, _ = made
    rates = replay()["prateb_ave"].astype(np.float64) * 3 * 3600 / 1000
    daily = np.stack([rates[i - 7 : i + 1].sum(axis=0) for i in range(7, len(rates))])
    valid = scores.initial_times[:, None] + LEADS[7:]
    truth = daily[np.searchsorted(STAMPS, valid) - 7]
    bias = scores.values("bias", "emulator", Channel(DAY_RAIN))
    assert np.isnan(bias[:7]).all(), "the first day's rain is not all in the forecast"
    np.testing.assert_allclose(bias[7:], area_mean(truth).mean(axis=0), rtol=1e-4)  # forecasts rain twice as much
    persistence = daily[np.searchsorted(STAMPS, scores.initial_times) - 7][:, None]
    expected = np.sqrt(area_mean((persistence - truth) ** 2).mean(axis=0))
    np.testing.assert_allclose(scores.values("rmse", "persistence", Channel(DAY_RAIN))[7:], expected, rtol=1e-4)


def test_seeps_is_scored_with_thresholds_of_the_experiments_own_climate(
    made: tuple[Experiment, Path, Scores, xr.Dataset],
) -> None:
    _, root, scores, _ = made
    climatology = xr.open_zarr(root / scores.dataset.attrs["climatology"], chunks=None)
    heavy = climatology[f"{DAY_RAIN}_seeps_threshold"].sel(dayofyear=5).values
    assert (heavy[~np.isnan(heavy)] > DRY_METRES[DAY_RAIN]).all() and np.isnan(heavy).mean() < 0.2
    seeps = scores.values("seeps", "emulator", Channel(DAY_RAIN))
    assert np.isnan(seeps[:7]).all() and (seeps[7:] > 0.02).all() and (seeps[7:] < 1).all()
    assert np.isnan(scores.values("seeps", "emulator", Channel(SPEED))).all()


def test_derived_variables_have_another_climatology_and_scores_of_another_name(
    made: tuple[Experiment, Path, Scores, xr.Dataset],
) -> None:
    experiment, root, scores, _ = made
    plain = loading.parse(loading.dump(experiment), ["evaluation.derived=[]", "evaluation.vectors=false"])
    assert Paths(plain, root).scores != Paths(experiment, root).scores
    assert not scores.dataset.attrs["climatology"].endswith("/climatology.zarr")
    run_step("evaluate", plain, root)
    without = Scores.open(Paths(plain, root).scores)
    assert {channel.variable for channel in scores.channels} - {channel.variable for channel in without.channels} == {
        SPEED,
        VECTOR,
        DAY_RAIN,
    }


def test_the_report_shows_what_was_derived(made: tuple[Experiment, Path, Scores, xr.Dataset]) -> None:
    experiment, root, _, _ = made
    result = run_step("report", experiment, root)
    page = Path(str(result["report"])).read_text()
    assert "10m wind speed" in page and "Total precipitation 24hr" in page and "Eastward wind at 10 m" in page


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.time_step=6h"], "mean of 3h every 6h only: its sum is not the precipitation of 24h"),
        (["evaluation.derived=[wind_sped]"], "no derived variable wind_sped .did you mean wind_speed"),
        (["evaluation.derived=[wind_speed]"], "made of ugrd, vgrd; ugrd, vgrd is not a target"),
        (
            ["data.levels=[500, 850]", "data.targets=[tmp, spfh]", "evaluation.derived=[relative_humidity]"],
            "needs pressure levels; the forecasts lie on Replay's native layers",
        ),
        (
            ["evaluation.derived=[total_precipitation_24hr_from_3hr, total_precipitation_24hr]"],
            "are both total_precipitation_24hr",
        ),
    ],
)
def test_what_cannot_be_derived_is_refused_before_anything_runs(settings: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        loading.parse(TEXT % ("x", DERIVED), settings)


def test_rain_needs_all_stamps_before_it() -> None:
    data = replay()
    dims = ("time", "latitude", "longitude")
    rain = xr.Dataset(
        {"total_precipitation_3hr": (dims, data["prateb_ave"]), "2m_temperature": (dims, data["ugrd10m"])},
        {"time": STAMPS, "latitude": LATITUDE, "longitude": LONGITUDE},
    ).isel(time=np.delete(np.arange(40), 20))
    channels = [Channel("2m_temperature"), Channel("total_precipitation_6hr")]
    truth = DerivedTruth(lambda wanted: DatasetTruth(rain, wanted), channels, ["total_precipitation_6hr_from_3hr"])
    np.testing.assert_array_equal(truth.stamps, np.delete(STAMPS[:40], [0, 20, 21]))
    found = truth.read(STAMPS[[30, 5]])
    np.testing.assert_allclose(found[:, 1], (data["prateb_ave"][[30, 5]] + data["prateb_ave"][[29, 4]]), rtol=1e-6)
    np.testing.assert_array_equal(found[:, 0], data["ugrd10m"][[30, 5]])
