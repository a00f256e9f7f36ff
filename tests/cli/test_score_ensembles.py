"""`graphufs score` on ensembles of any layout, on what can be made one, and on normal distributions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from graphufs.cli.main import app
from graphufs.errors import UserError
from graphufs.storage.zarr_io import write_zarr
from graphufs.weatherbench.inputs.forecasts import Forecasts
from graphufs.weatherbench.score_request import ScoreRequest, StorePaths
from graphufs.weatherbench.score_stores import ScoringResult, evaluate_stores
from tests.cli.test_score import HOUR, LEADS, STAMPS, spatial_mean, stores, weights_of

MEMBERS = 4
REGIONS = ("--regions", "global", "tropics")


def ensemble(made: dict[str, xr.Dataset], members: int = MEMBERS, dimension: str = "number") -> xr.Dataset:
    rng, shape = np.random.default_rng(8), made["forecast"]["2m_temperature"].shape[-2:]
    noise = [xr.DataArray(rng.normal(0, 5, size=shape), dims=("latitude", "longitude")) for _ in range(members)]
    together = xr.concat([made["forecast"] + one for one in noise], dimension)
    return together.assign_coords({dimension: np.arange(members)}).astype(np.float32)


def with_quantiles(climatology: xr.Dataset) -> xr.Dataset:
    for name in list(climatology.data_vars):
        if {"latitude", "hour"} <= set(climatology[name].dims):
            limits = [climatology[name] + shift for shift in (-4.0, 4.0)]
            climatology[f"{name}_quantile"] = xr.concat(limits, "quantile").assign_coords(quantile=[0.1, 0.9])
            climatology[f"{name}_std"] = xr.full_like(climatology[name], 3.0)
    return climatology


def run(folder: Path, made: dict[str, xr.Dataset], *options: str) -> Path:
    for name, dataset in made.items():
        write_zarr(folder / name, {None: dataset})
    paths = [str(folder / name) for name in ("forecast", "truth", "climatology", "out")]
    app(["score", *paths, *options], result_action="return_value")
    return folder / "out"


def read(path: Path) -> xr.Dataset:
    with xr.open_dataset(path) as found:
        return found.load()


@pytest.mark.parametrize(
    ("dimension", "order"),
    [
        ("number", ("number", "time", "prediction_timedelta", "level", "latitude", "longitude")),
        ("realization", ("longitude", "time", "level", "prediction_timedelta", "realization", "latitude")),
        ("ensemble", ("time", "prediction_timedelta", "level", "latitude", "longitude", "ensemble")),
    ],
)
def test_members_are_scored_wherever_their_dimension_is(tmp_path: Path, dimension: str, order: tuple[str, ...]) -> None:
    made = stores("no poles")
    made["forecast"] = ensemble(made, dimension=dimension).transpose(*order)
    made["climatology"] = with_quantiles(made["climatology"])
    out = run(tmp_path, made, *REGIONS)
    found, binary, mean = (read(out / f"{name}.nc") for name in ("probabilistic", "binary", "deterministic"))
    assert found.attrs["ensemble_size"] == MEMBERS and found.attrs["convention"] == "WeatherBench2"
    x = made["forecast"]["2m_temperature"].transpose("time", "prediction_timedelta", dimension, "latitude", "longitude")
    weights = weights_of(x["latitude"].values, x["longitude"].values, "tropics", np.ones(x.shape[-2:]))
    times = x["time"].values
    skill, spread, variance, brier = [], [], [], []
    for time in times:
        at = time + LEADS[1]
        y = made["truth"]["2m_temperature"].sel(time=at).values.astype(np.float64)
        members = x.sel(time=time).isel(prediction_timedelta=1).values.astype(np.float64)
        day = xr.DataArray(at).dt
        limit = made["climatology"]["2m_temperature_quantile"].sel(
            quantile=0.9, hour=int(day.hour), dayofyear=int(day.dayofyear)
        )
        distance = np.abs(members[:, None] - members[None]).sum(axis=(0, 1)) / (MEMBERS * (MEMBERS - 1))
        skill.append(spatial_mean(np.abs(members - y).mean(axis=0), weights, False))
        spread.append(spatial_mean(distance, weights, False))
        variance.append(spatial_mean(members.var(axis=0, ddof=1), weights, False))
        chance = (members > limit.values).mean(axis=0)
        brier.append(spatial_mean((chance - (y > limit.values)) ** 2, weights, False))
    ours = found["2m_temperature"].sel(region="tropics").isel(lead_time=1)
    np.testing.assert_allclose(ours.sel(metric="crps"), np.mean(skill) - np.mean(spread) / 2, rtol=1e-5)
    np.testing.assert_allclose(ours.sel(metric="ensemble_variance"), np.mean(variance), rtol=1e-5)
    score = binary["2m_temperature"].sel(region="tropics", metric="brier_score", quantile=0.9).isel(lead_time=1)
    np.testing.assert_allclose(score, np.mean(brier), rtol=1e-6)
    np.testing.assert_allclose(
        mean["temperature"].sel(metric="mse"), found["temperature"].sel(metric="ensemble_mean_mse")
    )


def test_threads_and_the_order_of_members_change_nothing(tmp_path: Path) -> None:
    made = stores("poles", STAMPS[4:28])
    made["forecast"], made["climatology"] = ensemble(made), with_quantiles(made["climatology"])
    for name, dataset in made.items():
        write_zarr(tmp_path / name, {None: dataset})
    turned = made["forecast"].isel(number=slice(None, None, -1))
    write_zarr(tmp_path / "turned", {None: turned})
    request = ScoreRequest(levels=(500,), regions=("global",))

    def outcome(name: str, threads: int) -> ScoringResult:
        return evaluate_stores(
            StorePaths(*(str(tmp_path / one) for one in (name, "truth", "climatology"))), request, threads=threads
        )

    one, two, other = outcome("forecast", 1), outcome("forecast", 2), outcome("turned", 1)
    assert one.states["emulator"].checksum() == two.states["emulator"].checksum()
    assert one.histograms is not None and two.histograms is not None and other.histograms is not None
    np.testing.assert_allclose(one.histograms.ranks("emulator"), two.histograms.ranks("emulator"), rtol=1e-12)
    np.testing.assert_allclose(one.histograms.exceedance("emulator"), other.histograms.exceedance("emulator"))
    for metric in ("crps", "debiased_ensemble_mean_rmse", "spread_skill", "energy_score_skill", "crps_mean_pooled"):
        ours, theirs = (found.states["emulator"].finalize([metric])[metric] for found in (one, other))
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    again = type(one.histograms).restore(one.histograms.dataset())
    np.testing.assert_array_equal(again.ranks("emulator"), one.histograms.ranks("emulator"))
    with pytest.raises(UserError, match="in the sums already"):
        one.histograms.merge(two.histograms)


def test_one_member_is_a_single_forecast_scored_by_its_absolute_error(tmp_path: Path) -> None:
    made = stores("poles")
    single = run(tmp_path / "single", made, *REGIONS, "--as-ensemble")
    member = run(tmp_path / "member", made | {"forecast": made["forecast"].expand_dims(number=1)}, *REGIONS)
    found, mean = read(member / "probabilistic.nc"), read(member / "deterministic.nc")
    xr.testing.assert_equal(found.drop_attrs(), read(single / "probabilistic.nc").drop_attrs())
    for name in found.data_vars:
        of = found[name]
        np.testing.assert_allclose(of.sel(metric="crps"), mean[name].sel(metric="mae"), rtol=1e-12)
        assert (of.sel(metric=["crps_spread", "ensemble_variance", "energy_score_spread"]) == 0).all()
        assert of.sel(metric=["debiased_ensemble_mean_mse", "spread_skill"]).isnull().all()
    assert read(member / "histograms.nc")["rank_histogram.temperature"].sizes["bins"] == 2


def test_lagged_forecasts_make_an_ensemble(tmp_path: Path) -> None:
    made = stores("poles", STAMPS[4:20:3])  # 18 hours apart, as the leads 6 and 24 are
    out = run(tmp_path, made, *REGIONS, "--lagged", "2")
    found = read(out / "probabilistic.nc")
    assert found["lead_time"].values.tolist() == [6 * 3600 * 10**9] and found.attrs["ensemble_size"] == 2
    lagged, whole = Forecasts(made["forecast"]).lagged(2), Forecasts(made["forecast"])
    later, earlier = lagged.initial_times[0], lagged.initial_times[0] - 18 * HOUR
    members = lagged.read_members(later)
    np.testing.assert_array_equal(members[0, 0], whole.read(later)[0])
    np.testing.assert_array_equal(members[0, 1], whole.read(earlier)[1])
    with pytest.raises(UserError, match="no 3 forecasts 18 hours apart"):
        Forecasts(made["forecast"]).lagged(3)


def test_other_years_are_the_members_of_a_probabilistic_climatology(tmp_path: Path) -> None:
    made = stores("poles")
    years = [made["truth"].drop_vars("land_sea_mask")]
    for shift, year in enumerate((2016, 2018), 1):
        past = (made["truth"]["time"].values - np.datetime64("2020-01-01")) + np.datetime64(f"{year}-01-01", "ns")
        years.append(years[0].assign_coords(time=past) + shift)
    made["truth"] = xr.concat(years, "time").astype(np.float32)
    out = run(tmp_path, made, *REGIONS, "--baselines", "probabilistic_climatology")
    found = read(out / "probabilistic_climatology_probabilistic.nc")["2m_temperature"].sel(region="global")
    assert read(out / "probabilistic_climatology_probabilistic.nc").attrs["ensemble_size"] == 2
    np.testing.assert_allclose(
        found.sel(metric="crps"), 1, rtol=1e-4
    )  # the truth + 1 and + 2: distance from the interval
    np.testing.assert_allclose(found.sel(metric="crps_skill"), 1.5, rtol=1e-4)
    np.testing.assert_allclose(found.sel(metric="ensemble_variance"), 0.5, rtol=1e-3)
    with pytest.raises(UserError, match="has no fields at 2017-.*2017 to 2017"):
        run(tmp_path / "b", made, "--baselines", "probabilistic_climatology", "--years", "2017")


def test_normal_distributions_are_scored_by_formula(tmp_path: Path) -> None:
    made = stores("poles")
    made["climatology"] = with_quantiles(made["climatology"])
    for name in ("temperature", "2m_temperature"):
        made["forecast"][f"{name}_std"] = xr.full_like(made["forecast"][name], 1e-3)
    out = run(tmp_path, made, *REGIONS, "--thresholds", "gaussian_quantile", "--quantiles", "0.5")
    found, mean = read(out / "probabilistic.nc"), read(out / "deterministic.nc")
    for name in found.data_vars:  # so narrow that they are points
        np.testing.assert_allclose(found[name].sel(metric="crps"), mean[name].sel(metric="mae"), rtol=1e-3)
    assert read(out / "binary.nc")["quantile"].values.tolist() == [0.5]
    assert not (out / "histograms.nc").exists()


def test_missing_members_make_scores_missing_or_are_left_out(tmp_path: Path) -> None:
    made = stores("poles")
    forecast = ensemble(made)
    forecast["2m_temperature"][{"number": 1, "time": 0, "latitude": 0, "longitude": 0}] = np.nan
    made["forecast"] = forecast
    strict, lenient = (read(run(tmp_path / name, made, *REGIONS, *more) / "probabilistic.nc")["2m_temperature"]
                       for name, more in (("a", ()), ("b", ("--skipna",))))  # fmt: skip
    metrics = ["crps", "debiased_ensemble_mean_mse", "energy_score", "crps_mean_pooled"]
    assert strict.sel(region="global", metric=metrics).isnull().all()
    assert strict.sel(region="tropics", metric=metrics).notnull().all()
    assert lenient.sel(metric=metrics).notnull().all()


def test_what_cannot_be_scored_is_refused_with_what_to_do(tmp_path: Path) -> None:
    made = stores("poles")
    twice = ensemble(made).expand_dims(realization=2)
    with pytest.raises(UserError, match="members along number and realization"):
        Forecasts(twice)
    with pytest.raises(UserError, match="holds the same number more than once"):
        Forecasts(ensemble(made).assign_coords(number=[0, 1, 1, 2]))
    with pytest.raises(UserError, match="without a member"):
        Forecasts(ensemble(made).isel(number=slice(0)))
    mixed = ensemble(made).assign({"2m_temperature": made["forecast"]["2m_temperature"]})
    with pytest.raises(UserError, match="2m_temperature of .* has no dimension number"):
        Forecasts(mixed)
    half = made["forecast"].assign({"temperature_std": made["forecast"]["temperature"]})
    with pytest.raises(UserError, match="no 2m_temperature_std"):
        Forecasts(half)
    with pytest.raises(UserError, match="neither X_quantile nor X_std"):
        run(tmp_path / "a", made | {"forecast": ensemble(made)}, "--quantiles", "0.9")
    with pytest.raises(UserError, match="no quantile 0.7; it has 0.1, 0.9"):
        made["climatology"] = with_quantiles(made["climatology"])
        run(tmp_path / "b", made | {"forecast": ensemble(made)}, "--quantiles", "0.7")
    with pytest.raises(UserError, match="add --as-ensemble"):
        run(tmp_path / "c", made, "--quantiles", "0.9")
