"""Parity with official WeatherBench2 and WeatherBench-X in scores of ensembles, on every set found that has any."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from graphufs.weatherbench.climatology.thresholds import ThresholdMethod
from graphufs.weatherbench.metrics.diagrams import central_reliability, coarser
from graphufs.weatherbench.results.official_files import parts_of, weatherbench2_results, weatherbench_x_results
from tests.golden.weatherbench2_sets import FOLDER, Ensembles, placed, pytest_generate_tests

__all__ = ["pytest_generate_tests"]

TOLERANCE = 1e-6

DIFFERENCES = {
    "debiased_ensemble_mean_mse": "ensemble_mean_mse",
    "debiased_brier_score": "brier_score",
    "unbiased_mean_rmse": "mean_rmse",
}
"""Small differences of larger numbers, and these: a float32 difference is exact relative to them."""


def test_this_folder_holds_an_ensemble() -> None:
    assert list(FOLDER.glob("*_ens.zarr.zip"))


def regions_of(official: xr.Dataset) -> list[str]:
    return [str(name) for name in official["region"].values]


def assert_close(mine: np.ndarray, theirs: np.ndarray, scale: np.ndarray, what: str) -> None:
    np.testing.assert_array_equal(np.isnan(mine), np.isnan(theirs), err_msg=what)
    np.testing.assert_array_equal(np.isinf(mine), np.isinf(theirs), err_msg=what)
    there = np.isfinite(theirs)
    with np.errstate(invalid="ignore", divide="ignore"):
        worst = np.max((np.abs(mine - theirs) / scale)[there & (mine != theirs)], initial=0.0)
    assert worst <= TOLERANCE, f"{what}: {worst:.2e}"


def in_order_of(ours: xr.DataArray, theirs: xr.DataArray) -> xr.DataArray:
    """Our results at the coordinates of the official ones, in their order."""
    return ours.sel({dim: theirs[dim] for dim in theirs.dims if dim in theirs.coords}).transpose(*theirs.dims)


def assert_official(ours: xr.Dataset, official: xr.Dataset) -> None:
    """Compare results in WeatherBench2's layout: all metrics of the official ones."""
    metrics = [str(name) for name in official["metric"].values]
    assert set(metrics) <= set(ours["metric"].values)
    for name, array in official.items():
        for metric in metrics:
            theirs = array.sel(metric=metric)
            mine = in_order_of(ours[name].sel(metric=metric), theirs)
            scale = np.abs(official[name].sel(metric=DIFFERENCES.get(metric, metric)).values)
            assert_close(mine.values, theirs.values, scale, f"{name} {metric}")


def test_scores_of_members_are_the_official_ones(ensembles: Ensembles) -> None:
    official = ensembles.official("probabilistic")
    state, _ = ensembles.scored("ens", regions_of(official))
    assert parts_of(state) == ["deterministic", "probabilistic", "binary"]
    assert_official(weatherbench2_results(state, part="probabilistic"), official)
    mean = weatherbench2_results(state)
    for name in official.data_vars:  # the mean of members is scored as a single forecast is
        theirs = official[name].sel(metric="ensemble_mean_mse")
        assert_close(in_order_of(mean[name].sel(metric="mse"), theirs).values, theirs.values, theirs.values, "mse")


@pytest.mark.parametrize(
    ("kind", "method"), [("binary_quantile", "quantile"), ("binary_gaussian_quantile", "gaussian_quantile")]
)
def test_scores_at_thresholds_are_the_official_ones(ensembles: Ensembles, kind: str, method: ThresholdMethod) -> None:
    official = ensembles.official(kind)
    state, _ = ensembles.scored("ens", regions_of(official), method, official["quantile"].values.tolist())
    assert_official(weatherbench2_results(state, part="binary"), official)


@pytest.mark.parametrize(("kind", "store"), [("rps", "ens"), ("gaussian_rps", "gauss"), ("gaussian", "gauss")])
def test_ranked_probability_and_gaussian_scores_are_the_official_ones(
    ensembles: Ensembles, kind: str, store: str
) -> None:
    official = ensembles.official(kind)
    other = ensembles.official("binary_quantile" if store == "ens" else "gaussian_binary")
    state, _ = ensembles.scored(store, regions_of(official), "quantile", other["quantile"].values.tolist())
    assert_official(weatherbench2_results(state, part="probabilistic"), official)


def test_gaussian_scores_at_thresholds_are_the_official_ones(ensembles: Ensembles) -> None:
    official = ensembles.official("gaussian_binary")
    state, _ = ensembles.scored("gauss", regions_of(official), "quantile", official["quantile"].values.tolist())
    assert_official(weatherbench2_results(state, part="binary"), official)


def test_maps_are_the_official_ones(ensembles: Ensembles) -> None:
    official, (maps, _) = ensembles.official("probabilistic_spatial"), ensembles.maps()
    ours = maps.scores("emulator")
    for at, channel in enumerate(maps.channels):
        array = placed(official[channel.variable], maps)
        array = array if channel.level is None else array.sel(level=channel.level)
        for metric in map(str, official["metric"].values):
            theirs = array.sel(metric=metric).transpose("lead_time", "latitude", "longitude").values
            # a float32 field of a small difference: it is exact relative to what it is the difference of
            scale = array.sel(metric={"crps": "crps_skill"}.get(metric, DIFFERENCES.get(metric, metric)))
            peak = float(np.nanmax(np.abs(scale.values))) if np.isfinite(scale).any() else 1.0
            assert_close(ours[metric][:, at], theirs, np.full_like(theirs, peak), f"{channel} {metric}")


@pytest.mark.parametrize(("kind", "bins"), [("rank_histogram_noties", None), ("rank_histogram_3bins", 3)])
def test_rank_histograms_are_the_official_ones(ensembles: Ensembles, kind: str, bins: int | None) -> None:
    """Where the truth equals members, the official rank depends on how a sort leaves them: it is one that may be."""
    official, (maps, possible) = ensembles.official(kind), ensembles.maps()
    ours, lowest, highest = (
        maps.rank_histogram("emulator"),
        possible.lowest / possible.times,
        possible.highest / possible.times,
    )
    tied = (lowest != highest).any(axis=-1)
    ours, lowest, highest = (hist if bins is None else coarser(hist, bins) for hist in (ours, lowest, highest))
    for at, channel in enumerate(maps.channels):
        array = placed(official[channel.variable].isel(metric=0), maps)
        array = array if channel.level is None else array.sel(level=channel.level)
        theirs = array.transpose("lead_time", "latitude", "longitude", "bins").values
        free = ~tied[:, at]
        np.testing.assert_allclose(ours[:, at][free], theirs[free], atol=TOLERANCE)
        for mine in (ours[:, at], theirs):
            below = np.cumsum(mine, axis=-1)
            assert (below <= np.cumsum(lowest[:, at], axis=-1) + TOLERANCE).all()
            assert (below >= np.cumsum(highest[:, at], axis=-1) - TOLERANCE).all()


def test_central_reliability_is_the_official_one(ensembles: Ensembles) -> None:
    official, histogram = ensembles.official("central_reliability"), ensembles.official("rank_histogram_noties")
    maps, possible = ensembles.maps()
    tied = (possible.lowest != possible.highest).any(axis=-1).mean(axis=(2, 3))
    own, _ = central_reliability(maps.rank_histogram("emulator").mean(axis=(2, 3)))
    for at, channel in enumerate(maps.channels):
        arrays = [
            official[channel.variable].sel(lead_time=list(maps.leads)),
            histogram[channel.variable].isel(metric=0),
        ]
        arrays[1] = placed(arrays[1], maps)
        theirs, ranks = (array if channel.level is None else array.sel(level=channel.level) for array in arrays)
        wanted = theirs.transpose("lead_time", "desired_prob").values
        mean = ranks.astype(np.float64).mean(["latitude", "longitude"]).transpose("lead_time", "bins").values
        probability, desired = central_reliability(mean)
        np.testing.assert_allclose(desired, official["desired_prob"], rtol=TOLERANCE)
        np.testing.assert_allclose(probability, wanted, atol=TOLERANCE)
        assert (np.abs(own[:, at] - wanted) <= tied[:, at, None] + TOLERANCE).all()


@pytest.mark.parametrize(
    ("kind", "skipna"), [("probabilistic_climatology", False), ("probabilistic_climatology_skipna", True)]
)
def test_years_as_members_score_as_the_official_ones(ensembles: Ensembles, kind: str, skipna: bool) -> None:
    official = ensembles.official(kind)
    state = ensembles.climatology_of_years(regions_of(official), int(official.attrs["ensemble_size"]), skipna=skipna)
    assert_official(weatherbench2_results(state, part="probabilistic"), official)


def test_scores_in_weatherbench_x_convention_are_its_own(ensembles: Ensembles) -> None:
    official = ensembles.official("wbx_probabilistic")
    state, _ = ensembles.scored("ens", regions_of(official), convention="WeatherBench-X")
    ours = weatherbench_x_results(state, "probabilistic")
    for name, array in official.items():
        scale = official[
            DIFFERENCES.get(str(name).split(".")[0], str(name).split(".")[0]) + f".{str(name).split('.')[1]}"
        ]
        mine, theirs = in_order_of(ours[name], array), array
        # a NaN anywhere makes all of WeatherBench-X's regions NaN ("awkward", aggregation.py), and ours where it lies
        elsewhere = theirs.isnull() & theirs.sel(region="global").isnull() & mine.sel(region="global").isnull()
        mine = mine.where(~elsewhere)
        assert_close(mine.values, theirs.values, np.abs(scale.values), str(name))
