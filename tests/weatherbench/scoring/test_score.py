"""Scoring forecasts and baselines in one pass, against the definitions written out."""

from __future__ import annotations

import functools
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from graphufs.errors import UserError
from graphufs.weatherbench.climatology.store import Climatology
from graphufs.weatherbench.inputs.forecasts import Forecasts
from graphufs.weatherbench.inputs.truth import DatasetTruth
from graphufs.weatherbench.scoring.baselines import baselines, lag_correlation
from graphufs.weatherbench.scoring.score import score, spatial_means, usable_initial_times
from graphufs.weatherbench.scoring.score_state import ScoreState
from tests.support.climatology import in_memory

LATITUDE, LONGITUDE = np.array([60.0, 20.0, -20.0, -60.0]), np.arange(6) * 60.0
STAMPS = np.arange(np.datetime64("2019-01-01", "ns"), np.datetime64("2020-03-01", "ns"), np.timedelta64(6, "h"))
LEADS = np.array([6, 24, 48]) * np.timedelta64(1, "h").astype("timedelta64[ns]")
TIMES = np.datetime64("2020-01-01", "ns") + np.arange(9) * np.timedelta64(30, "h")
COORDINATES = {"latitude": LATITUDE, "longitude": LONGITUDE}


def observed(seed: int = 0) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(len(STAMPS), 2, 4, 6))
    for index in range(1, len(STAMPS)):
        noise[index] = 0.9 * noise[index - 1] + np.sqrt(1 - 0.9**2) * noise[index]
    return xr.Dataset(
        {
            "temperature": (("time", "level", "latitude", "longitude"), (280 + 5 * noise).astype(np.float32)),
            "surface_pressure": (("time", "latitude", "longitude"), (1e5 + 800 * noise[:, 0]).astype(np.float32)),
        },
        {"time": STAMPS, "level": [500, 850], **COORDINATES},
    )


def forecast_of(truth: xr.Dataset, times: np.ndarray = TIMES, seed: int = 1) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    valid = xr.DataArray(times[:, None] + LEADS, dims=("init", "prediction_timedelta"))
    made = truth.sel(time=valid).drop_vars("time").rename(init="time")
    made = made.assign_coords(time=times, prediction_timedelta=LEADS)
    made = made.map(lambda field: field + np.float32(field.std()) * 0.3 * rng.normal(size=field.shape))
    return made.astype(np.float32).transpose("time", "prediction_timedelta", ..., "latitude", "longitude")


TRUTH = observed()


def all_scores(forecast: xr.Dataset, truth: xr.Dataset = TRUTH, **options: object) -> dict[str, ScoreState]:
    opened = Forecasts(forecast)
    reader = DatasetTruth(truth, opened.channels, opened.grid)
    climatology = Climatology(in_memory(DatasetTruth(TRUTH, opened.channels), STAMPS), opened.channels, opened.grid)
    usable, _ = usable_initial_times(opened.initial_times, opened.leads, reader.stamps)
    correlation = np.full((len(LEADS), len(opened.channels)), 0.5)
    return score(opened, reader, climatology, usable, baselines(correlation), **options)  # type: ignore[arg-type]


@functools.cache
def states() -> dict[str, ScoreState]:
    """Of one forecast with noise, for many tests."""
    return all_scores(forecast_of(TRUTH))


def spatial_mean(field: np.ndarray) -> float:
    bounds = np.sin(np.deg2rad([90, 40, 0, -40, -90]))
    areas = -np.diff(bounds)[:, None] * np.ones(6)
    return float((field.astype(np.float64) * areas).sum() / areas.sum())


def fields(name: str, level: int | None, lead: np.timedelta64) -> tuple[list[np.ndarray], ...]:
    """The forecasts, truths and initial truths of all initial times."""
    pick: Callable[[xr.DataArray], xr.DataArray] = lambda array: array.sel(level=level) if level else array  # noqa: E731
    forecast = forecast_of(TRUTH)
    return (
        [pick(forecast[name]).sel(time=time, prediction_timedelta=lead).values for time in TIMES],
        [pick(TRUTH[name]).sel(time=time + lead).values for time in TIMES],
        [pick(TRUTH[name]).sel(time=time).values for time in TIMES],
    )


@pytest.mark.parametrize(("channel", "name", "level"), [(0, "surface_pressure", None), (2, "temperature", 850)])
def test_scores_are_those_of_the_definitions(channel: int, name: str, level: int | None) -> None:
    scores = {which: state.finalize() for which, state in states().items()}
    for position, lead in enumerate(LEADS):
        forecasts, truths, starts = fields(name, level, lead)
        for which, made in (("emulator", forecasts), ("persistence", starts)):
            errors = [f.astype(np.float64) - o for f, o in zip(made, truths, strict=True)]
            mse = np.mean([spatial_mean(error**2) for error in errors])
            found = {metric: values[position, channel, 0] for metric, values in scores[which].items()}
            assert found["mse"] == pytest.approx(mse, rel=1e-6)
            assert found["rmse"] == pytest.approx(np.sqrt(mse), rel=1e-6)
            assert found["mae"] == pytest.approx(np.mean([spatial_mean(abs(e)) for e in errors]), rel=1e-6)
            bias = np.mean([spatial_mean(error) for error in errors])
            assert found["bias"] == pytest.approx(bias, abs=1e-6 * np.sqrt(mse))


def test_climatology_has_no_anomaly_and_damped_persistence_half_of_the_initial_one() -> None:
    climatology, damped = states()["climatology"].averages(), states()["damped_persistence"].averages()
    assert (climatology["squared_forecast_anomaly"] == 0).all()
    persistence = states()["persistence"].averages()["squared_truth_anomaly"]
    assert damped["squared_forecast_anomaly"].mean() == pytest.approx(0.25 * persistence.mean(), rel=0.3)
    assert np.isnan(states()["climatology"].finalize()["acc"]).all()


def test_all_forecasts_are_scored_on_the_same_initial_times() -> None:
    for state in states().values():
        np.testing.assert_array_equal(state.initial_times, TIMES)


def test_halves_scored_apart_and_merged_are_the_whole() -> None:
    forecast = forecast_of(TRUTH)
    parts = [all_scores(forecast.isel(time=part)) for part in (slice(5, None), slice(None, 5))]
    for name, state in states().items():
        merged = parts[0][name].merge(parts[1][name])
        for metric, values in state.finalize().items():
            np.testing.assert_allclose(merged.finalize()[metric], values, rtol=1e-12, equal_nan=True)


def test_latitude_order_does_not_change_scores() -> None:
    flipped = all_scores(forecast_of(TRUTH).isel(latitude=slice(None, None, -1)))
    for name, state in states().items():
        np.testing.assert_allclose(flipped[name].stacked(), state.stacked(), rtol=1e-9, atol=1e-9)


def test_cutting_leads_into_blocks_does_not_change_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphufs.weatherbench.scoring.score.BLOCK_VALUES", 100)
    for name, state in all_scores(forecast_of(TRUTH)).items():
        np.testing.assert_allclose(state.stacked(), states()[name].stacked(), rtol=1e-12, atol=1e-12)


def test_a_nan_in_the_forecast_spoils_its_lead_only_unless_skipped() -> None:
    forecast = forecast_of(TRUTH)
    forecast["surface_pressure"].values[3, 1, 2, 2] = np.nan
    rmse = all_scores(forecast)["emulator"].finalize()["rmse"][..., 0]
    np.testing.assert_array_equal(np.isnan(rmse), [[False] * 3, [True, False, False], [False] * 3])
    skipped = all_scores(forecast, skipna=True)["emulator"].finalize(skipna=True)["rmse"][..., 0]
    np.testing.assert_allclose(skipped, states()["emulator"].finalize()["rmse"][..., 0], rtol=0.05)
    assert not np.array_equal(skipped, states()["emulator"].finalize()["rmse"][..., 0])


def test_masked_points_do_not_count_and_a_forecast_that_is_nan_elsewhere_does() -> None:
    land = np.zeros((4, 6), bool)
    land[1, 2:4] = True
    truth, forecast = TRUTH.copy(deep=True), forecast_of(TRUTH)
    for dataset in (truth, forecast):
        dataset["temperature"].values[..., land] = np.nan
    opened = Forecasts(forecast, ["temperature"])
    reader = DatasetTruth(truth, opened.channels, opened.grid)
    reader.mask = np.broadcast_to(~land, (2, 4, 6))
    climatology = Climatology(in_memory(reader, STAMPS), opened.channels, opened.grid)
    rmse = score(opened, reader, climatology, TIMES, {})["emulator"].finalize(["rmse"])["rmse"]
    skipping = score(opened, DatasetTruth(truth, opened.channels), climatology, TIMES, {}, skipna=True)
    np.testing.assert_allclose(rmse, skipping["emulator"].finalize(["rmse"])["rmse"], rtol=1e-12)
    forecast["temperature"].values[:, 0, 0, 3, 3] = np.nan
    spoilt = score(Forecasts(forecast, ["temperature"]), reader, climatology, TIMES, {})["emulator"].finalize()["rmse"]
    np.testing.assert_array_equal(np.isnan(spoilt[..., 0]), [[True, False], [False, False], [False, False]])


def test_initial_times_without_their_whole_truth_are_excluded_and_named() -> None:
    at_start, at_last_lead = TIMES[3], TIMES[5] + LEADS[-1]
    usable, excluded = usable_initial_times(TIMES, LEADS, np.setdiff1d(STAMPS, [at_start, at_last_lead]))
    assert excluded == {TIMES[3]: at_start, TIMES[5]: at_last_lead}
    np.testing.assert_array_equal(usable, np.delete(TIMES, [3, 5]))


def test_no_usable_initial_time_is_an_error_that_names_what_is_missing() -> None:
    with pytest.raises(
        UserError, match=r"none of the 9 initial times.*2020-01-01T00 for example has no truth at 2020-01-01T06"
    ):
        usable_initial_times(TIMES, LEADS, TIMES)


def test_a_phase_mismatch_is_an_error_and_not_nan() -> None:
    with pytest.raises(UserError, match="same hours"):
        usable_initial_times(TIMES + np.timedelta64(3, "h"), LEADS, STAMPS)


def test_memory_does_not_grow_with_the_number_of_initial_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphufs.weatherbench.climatology.store.CHUNK_BYTES", 1)  # a day a block
    shape = (32, 64)
    coordinates = {"latitude": np.linspace(-80, 80, shape[0]), "longitude": np.arange(shape[1]) * 5.625}
    stamps = STAMPS[:200]
    zeros = np.zeros((len(stamps), *shape), np.float32)
    truth = DatasetTruth(
        xr.Dataset({"pressure": (("time", "latitude", "longitude"), zeros)}, {"time": stamps, **coordinates})
    )
    climatology = Climatology(in_memory(truth, stamps[:4]), truth.channels, truth.grid)

    class Made(Forecasts):
        def __init__(self) -> None:
            self.channels, self.leads, self.grid, self.by_valid = truth.channels, LEADS, truth.grid, False
            self.members, self.gaussian = None, False

        def read(self, initial_time: np.datetime64) -> np.ndarray:
            return np.ones((len(LEADS), 1, *shape), np.float32)

    def peak(count: int) -> int:
        tracemalloc.start()
        score(Made(), truth, climatology, stamps[:count], {})
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(3)
    one = len(LEADS) * shape[0] * shape[1] * 4
    assert peak(150) < peak(50) + 5 * one


def test_a_mask_without_any_point_is_refused() -> None:
    truth = DatasetTruth(TRUTH)
    truth.mask = np.zeros((3, 4, 6), bool)
    with pytest.raises(UserError, match="no value at any point"):
        spatial_means(truth)


def true_climatology(truth: DatasetTruth) -> Climatology:
    """The climatology of the process itself, which no year's weather got into."""
    constant = xr.zeros_like(TRUTH.isel(time=slice(4)))
    constant["temperature"] += 280
    constant["surface_pressure"] += 1e5
    return Climatology(in_memory(DatasetTruth(constant), STAMPS[:4]), truth.channels, truth.grid)


def test_the_lag_correlation_is_that_of_the_process() -> None:
    truth = DatasetTruth(TRUTH)
    found = lag_correlation(truth, true_climatology(truth), STAMPS, LEADS, spatial_means(truth))
    assert found.shape == (3, 3)
    np.testing.assert_allclose(found, np.broadcast_to((0.9 ** np.array([1, 4, 8]))[:, None], (3, 3)), atol=0.04)


def test_the_lag_correlation_uses_all_hours_and_ignores_frames_with_nan() -> None:
    flawed = TRUTH.copy(deep=True)
    flawed["temperature"].values[500] = np.nan
    hours: set[int] = set()

    class Recorder(DatasetTruth):
        def read(self, stamps: np.ndarray) -> np.ndarray:
            hours.update((stamps.astype("datetime64[h]").astype(int) % 24).tolist())
            return super().read(stamps)

    truth = Recorder(flawed)
    found = lag_correlation(truth, true_climatology(truth), STAMPS, LEADS[:1], spatial_means(truth), samples=300)
    assert hours == {0, 6, 12, 18}
    np.testing.assert_allclose(found, 0.9, atol=0.03)


def test_a_negative_lag_correlation_counts_as_none() -> None:
    swinging = TRUTH.copy(deep=True)
    sign = np.where(np.arange(len(STAMPS)) % 2, 1.0, -1.0)[:, None, None]
    swinging["surface_pressure"].values[...] = 1e5 + 500 * sign
    truth = DatasetTruth(swinging)
    found = lag_correlation(truth, true_climatology(truth), STAMPS[:200], LEADS, spatial_means(truth))
    np.testing.assert_allclose(found[:, 0], [0, 1, 1], atol=1e-9)


def test_leads_longer_than_the_record_have_no_correlation() -> None:
    truth = DatasetTruth(TRUTH)
    climatology = Climatology(in_memory(truth, STAMPS), truth.channels, truth.grid)
    found = lag_correlation(truth, climatology, STAMPS[:4], np.array([np.timedelta64(5, "D")]), spatial_means(truth))
    np.testing.assert_array_equal(found, 0)
