"""Parity with official WeatherBench2 and WeatherBench-X on every set found in the golden folder, in all its regions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from graphufs.weatherbench.climatology import triangular_sum
from graphufs.weatherbench.climatology_store import in_memory
from graphufs.weatherbench.state import Axes
from graphufs.weatherbench.truth import DatasetTruth
from graphufs.weatherbench.weights import latitude_weights
from tests.golden.weatherbench2_sets import FOLDER, PRECIPITATION, Set, pytest_generate_tests

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


def assert_equal_scores(scores: dict[str, np.ndarray], axes: Axes, official: xr.Dataset, leading: list[str]) -> None:
    """Compare scores [*leading, lead, channel, region] with an official file."""
    compared = 0
    for position, channel in enumerate(axes.channels):
        if channel.variable not in official:
            continue
        array = official[channel.variable]
        array = array if channel.level is None else array.sel(level=channel.level)
        array = array.transpose("metric", *leading, "lead_time", "region")
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
    assert_equal_scores(state.finalize(), state.axes, official, [])


def test_deterministic_scores_that_skip_nan_are_the_official_ones(golden_with_nan: Set) -> None:
    official = golden_with_nan.official("deterministic_skipna")
    state = golden_with_nan.score(skipna=True)["emulator"]
    assert_equal_scores(state.finalize(), state.axes, official, [])


def test_persistence_scores_are_the_official_ones(golden: Set) -> None:
    state = golden.states["persistence"]
    assert_equal_scores(state.finalize(), state.axes, golden.official("persistence_baseline"), [])


def test_climatology_scores_are_the_official_ones(golden: Set) -> None:
    state = golden.states["climatology"]
    assert_equal_scores(state.finalize(), state.axes, golden.official("climatology_baseline"), [])


def test_scores_by_initial_time_are_the_official_ones(golden: Set) -> None:
    state = golden.states["emulator"]
    assert_equal_scores(state.by_initial_time(), state.axes, golden.official("deterministic_temporal"), ["init_time"])


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
                    values = theirs.transpose("lead_time", "region").values
                    mine, errors = (
                        scores[which][:, position][:, regions] for which in (WEATHERBENCH_X[metric], "rmse")
                    )
                    scale = errors if metric == "bias" else np.abs(values)
                    assert_official(mine, values, scale, f"{channel} {metric}")
                    compared.add(metric)
    assert compared == set(WEATHERBENCH_X)


def test_weights_of_gaussian_grids_are_the_official_ones() -> None:
    with np.load(FOLDER / "wbx_gaussian_lat_weights.npz") as file:
        latitude, theirs = file["latitude"], file["wbx"]
    ours = latitude_weights(latitude, "WeatherBench-X")
    np.testing.assert_allclose(ours / ours.sum(), theirs / theirs.sum(), rtol=1e-6)
    assert abs(latitude_weights(latitude)[0] / ours[0] - 1) > 0.01


@pytest.mark.parametrize("gaps", ["skip", "day365"])
def test_explicit_climatology_is_the_official_one(official_climatology: Path, gaps: str) -> None:
    with np.load(official_climatology) as file:
        content = {name: file[name] for name in file.files}
    names = [name.removeprefix("hourly6_mean_") for name in content if name.startswith("hourly6_mean_")]
    assert names
    dims = {4: ("time", "level", "latitude", "longitude"), 3: ("time", "latitude", "longitude")}
    fields = {name: (dims[content[f"in_{name}"].ndim], content[f"in_{name}"]) for name in names}
    stamps = content["time"].astype("datetime64[h]").astype("datetime64[ns]")
    levels = next((content[f"in_{name}"].shape[1] for name in names if content[f"in_{name}"].ndim == 4), 1)
    coordinates = {"time": stamps, "latitude": content["latitude"], "longitude": content["longitude"]}
    observed = xr.Dataset(fields, {**coordinates, "level": np.arange(levels)})
    years = stamps.astype("datetime64[Y]").astype(int) + 1970
    chosen = stamps[(years >= content["years"][0]) & (years <= content["years"][-1])]
    ours = in_memory(DatasetTruth(observed), chosen, window=int(content["window"]), gaps=gaps)
    for name in names:
        theirs = content[f"hourly6_mean_{name}"]
        np.testing.assert_allclose(ours[name].values, theirs, rtol=TOLERANCE)


def test_the_window_is_the_official_one(official_climatology: Path) -> None:
    with np.load(official_climatology) as file:
        weights = file["window_weights"]
    half = len(weights) // 2
    impulse = np.zeros((366, 1))
    impulse[100] = 1
    ours = triangular_sum(impulse, half)[100 - half : 101 + half, 0]
    np.testing.assert_allclose(ours / ours.mean(), weights, rtol=1e-12, atol=1e-12)
