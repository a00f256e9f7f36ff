"""Parity with official WeatherBench2 and WeatherBench-X on every set found in the golden folder, in all its regions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from graphufs.grid.areas import latitude_weights
from graphufs.weatherbench.results.official_files import weatherbench2_results
from graphufs.weatherbench.scoring.score_state import Axes
from tests.golden.weatherbench2_sets import FOLDER, PRECIPITATION, Set, present, pytest_generate_tests

__all__ = ["pytest_generate_tests"]

TOLERANCE = 1e-6
METRICS = ("mse", "mae", "bias", "acc", "rmse_sqrt_before_time_avg", "seeps")


def test_this_folder_holds_a_set_a_climatology_and_regridded_fields() -> None:
    assert all(list(FOLDER.glob(name)) for name in ("*_forecast.zarr.zip", "climatology_*.npz", "regrid_*.npz"))


def assert_official(mine: np.ndarray, theirs: np.ndarray, scale: np.ndarray, what: str) -> int:
    """Compare scores; return how many were numbers."""
    np.testing.assert_array_equal(np.isnan(mine), np.isnan(theirs), err_msg=what)
    there = ~np.isnan(theirs)
    assert (np.abs(mine - theirs) <= TOLERANCE * scale)[there].all(), what
    return int(there.sum())


def official_name(metric: str, variable: str) -> str:
    return PRECIPITATION.get(variable, metric) if metric == "seeps" else metric


def assert_equal_scores(
    scores: dict[str, np.ndarray], axes: Axes, official: xr.Dataset, leading: dict[str, np.ndarray]
) -> None:
    """Compare scores [*leading, lead, channel, region] with an official file, whatever the order of its rows.

    `leading` has coordinates by dimension.
    """
    compared = 0
    for position, channel in enumerate(axes.channels):
        if channel.variable not in official:
            continue
        array = official[channel.variable]
        array = array if channel.level is None else array.sel(level=channel.level)
        array = array.sel({"lead_time": list(axes.leads), **leading}).transpose(
            "metric", *leading, "lead_time", "region"
        )
        regions = [axes.regions.index(region) for region in array["region"].values]
        for metric in METRICS:
            name = official_name(metric, channel.variable)
            if name in array["metric"]:
                mine = scores[metric][..., position, :][..., regions]
                theirs = array.sel(metric=name).values
                # a bias is a small difference of large numbers: it is exact relative to the error
                errors = scores["rmse"][..., position, :][..., regions]
                scale = errors if metric == "bias" else np.abs(theirs)
                compared += assert_official(mine, theirs, scale, f"{channel} {metric}")
    assert compared > len(axes.leads) * len(axes.channels)


def test_deterministic_scores_are_the_official_ones(golden: Set) -> None:
    state, official = golden.states["emulator"], golden.official("deterministic")
    assert {"seeps_24hr", "seeps_6hr"} <= set(official["metric"].values) or "total_precipitation_6hr" not in official
    assert_equal_scores(state.finalize(), state.axes, official, {})


def test_deterministic_scores_that_skip_nan_are_the_official_ones(golden_with_nan: Set) -> None:
    official = golden_with_nan.official("deterministic_skipna")
    state = golden_with_nan.score(skipna=True)["emulator"]
    assert_equal_scores(state.finalize(), state.axes, official, {})


def test_persistence_scores_are_the_official_ones(golden: Set) -> None:
    state = golden.states["persistence"]
    assert_equal_scores(state.finalize(), state.axes, golden.official("persistence_baseline"), {})


def test_climatology_scores_are_the_official_ones(golden: Set) -> None:
    state = golden.states["climatology"]
    assert_equal_scores(state.finalize(), state.axes, golden.official("climatology_baseline"), {})


def test_scores_by_initial_time_are_the_official_ones(golden: Set) -> None:
    state = golden.states["emulator"]
    times = {"init_time": state.initial_times}
    assert_equal_scores(state.by_initial_time(), state.axes, golden.official("deterministic_temporal"), times)


@pytest.mark.parametrize(("kind", "by_initial_time"), [("deterministic", False), ("deterministic_temporal", True)])
def test_results_have_the_layout_of_the_official_ones(golden: Set, kind: str, by_initial_time: bool) -> None:
    ours = weatherbench2_results(golden.states["emulator"], by_initial_time=by_initial_time)
    official = golden.official(kind)
    assert set(official["metric"].values) <= set(ours["metric"].values)
    assert set(official.data_vars) <= set(ours.data_vars)
    for name, array in official.items():
        assert ours[name].dims == array.dims and ours[name].dtype == array.dtype
        for dim in set(array.dims) - {"metric", "region"}:
            np.testing.assert_array_equal(np.sort(ours[dim]), np.sort(array[dim]))
            assert ours[dim].dtype == array[dim].dtype


WEATHERBENCH_X = {
    "rmse": "rmse",
    "mse": "mse",
    "mae": "mae",
    "bias": "bias",
    "acc": "acc",
    "prediction_activity": "forecast_activity",
    "vector_rmse": "rmse",
    "seeps": "seeps",
}
"""Its metrics, by the name of ours."""


def test_scores_in_weatherbench_x_convention_are_its_own(golden: Set) -> None:
    state = golden.score(convention="WeatherBench-X")["emulator"]
    scores, axes, compared = state.finalize(), state.axes, set()
    for kind in ("wbx_deterministic", "wbx_seeps"):
        for name, array in golden.official(kind).items():
            metric, variable = str(name).split(".")
            variable = f"{variable}_vector" if metric == "vector_rmse" else variable
            regions = [axes.regions.index(region) for region in array["region"].values]
            for position, channel in enumerate(axes.channels):
                if channel.variable == variable:
                    theirs = array if channel.level is None else array.sel(level=channel.level)
                    values = theirs.sel(lead_time=list(axes.leads)).transpose("lead_time", "region").values
                    mine, errors = (
                        scores[which][:, position][:, regions] for which in (WEATHERBENCH_X[metric], "rmse")
                    )
                    scale = errors if metric == "bias" else np.abs(values)
                    assert_official(mine, values, scale, f"{channel} {metric}")
                    compared.add(metric)
    assert compared == set(WEATHERBENCH_X)


def test_weights_of_gaussian_grids_are_the_official_ones(golden_folder: Path) -> None:
    with np.load(present(golden_folder / "wbx_gaussian_lat_weights.npz")) as file:
        latitude, theirs = file["latitude"], file["wbx"]
    ours = latitude_weights(latitude, "WeatherBench-X")
    np.testing.assert_allclose(ours / ours.sum(), theirs / theirs.sum(), rtol=1e-6)
    assert abs(latitude_weights(latitude)[0] / ours[0] - 1) > 0.01
