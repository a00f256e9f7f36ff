"""Parity with official WeatherBench2 on every set found in the golden folder (global region; regions come later).

A set NAME is the files NAME_forecast.zarr.zip, NAME_obs.zarr.zip, NAME_clim.zarr.zip and official results NAME_*.nc;
an explicit climatology is a file climatology_NAME.npz. Nothing here knows a set.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from graphufs.weatherbench.baselines import baselines
from graphufs.weatherbench.climatology import triangular_sum
from graphufs.weatherbench.climatology_store import Climatology, in_memory
from graphufs.weatherbench.fields import Channel
from graphufs.weatherbench.layout import Forecasts
from graphufs.weatherbench.scoring import score, usable_initial_times
from graphufs.weatherbench.state import ScoreState
from graphufs.weatherbench.truth import DatasetTruth

TOLERANCE = 1e-6
METRICS = ("mse", "mae", "bias", "acc")


class Set:
    """One golden set and this package's scores of it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name

    def open(self, kind: str) -> xr.Dataset:
        store = zarr.storage.ZipStore(self.folder / f"{self.name}_{kind}.zarr.zip", mode="r")
        return xr.open_zarr(store, chunks=None)

    def official(self, kind: str) -> xr.Dataset:
        return xr.open_dataset(self.folder / f"{self.name}_{kind}.nc").sel(region="global").load()

    @cached_property
    def states(self) -> dict[str, ScoreState]:
        return self.score(skipna=False)

    def score(self, *, skipna: bool) -> dict[str, ScoreState]:
        forecasts = Forecasts(self.open("forecast"))
        truth = DatasetTruth(self.open("obs"), forecasts.channels, forecasts.grid)
        climatology = Climatology(self.open("clim"), forecasts.channels, forecasts.grid)
        usable, excluded = usable_initial_times(forecasts.initial_times, forecasts.leads, truth.stamps)
        assert not excluded
        none = np.zeros((len(forecasts.leads), len(forecasts.channels)))
        return score(forecasts, truth, climatology, usable, baselines(none), skipna=skipna)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    root = metafunc.config.getoption("golden_root", default=None) or Path(__file__).parent
    folder = Path(root) / "weatherbench2"
    if "golden" in metafunc.fixturenames:
        names = sorted(path.name.removesuffix("_forecast.zarr.zip") for path in folder.glob("*_forecast.zarr.zip"))
        metafunc.parametrize("golden", [Set(folder, name) for name in names], ids=names, scope="module")
    if "golden_with_nan" in metafunc.fixturenames:
        # only sets whose fields have NaN come with scores that skip them
        names = sorted(path.name.split("_")[0] for path in folder.glob("*_deterministic_skipna.nc"))
        metafunc.parametrize("golden_with_nan", [Set(folder, name) for name in names], ids=names)
    if "official_climatology" in metafunc.fixturenames:
        paths = sorted(folder.glob("climatology_*.npz"))
        metafunc.parametrize("official_climatology", paths, ids=[path.stem for path in paths])


def test_this_folder_holds_a_set_and_a_climatology() -> None:
    folder = Path(__file__).parent / "weatherbench2"
    assert list(folder.glob("*_forecast.zarr.zip")) and list(folder.glob("climatology_*.npz"))


def of_channel(official: xr.Dataset, channel: Channel, metric: str) -> np.ndarray:
    array = official[channel.variable].sel(metric=metric)
    return (array if channel.level is None else array.sel(level=channel.level)).values


def assert_equal_scores(state: ScoreState, official: xr.Dataset, *, skipna: bool = False) -> None:
    ours = state.finalize(skipna=skipna)
    compared = 0
    for position, channel in enumerate(state.axes.channels):
        for metric in METRICS:
            if metric not in official["metric"] or channel.variable not in official:
                continue
            theirs, mine = of_channel(official, channel, metric), ours[metric][:, position, 0]
            # a bias is a small difference of large numbers: it is exact relative to the error
            scale = ours["rmse"][:, position, 0] if metric == "bias" else np.abs(theirs)
            np.testing.assert_array_equal(np.isnan(mine), np.isnan(theirs), err_msg=f"{channel} {metric}")
            there = ~np.isnan(theirs)
            assert (np.abs(mine - theirs) <= TOLERANCE * scale)[there].all(), f"{channel} {metric}"
            compared += int(there.sum())
    assert compared


def test_deterministic_scores_are_the_official_ones(golden: Set) -> None:
    assert_equal_scores(golden.states["emulator"], golden.official("deterministic"))


def test_deterministic_scores_that_skip_nan_are_the_official_ones(golden_with_nan: Set) -> None:
    official = golden_with_nan.official("deterministic_skipna")
    assert_equal_scores(golden_with_nan.score(skipna=True)["emulator"], official, skipna=True)


def test_persistence_scores_are_the_official_ones(golden: Set) -> None:
    assert_equal_scores(golden.states["persistence"], golden.official("persistence_baseline"))


def test_climatology_scores_are_the_official_ones(golden: Set) -> None:
    assert_equal_scores(golden.states["climatology"], golden.official("climatology_baseline"))


@pytest.mark.parametrize("metric", METRICS)
def test_scores_by_initial_time_are_the_official_ones(golden: Set, metric: str) -> None:
    official, state = golden.official("deterministic_temporal"), golden.states["emulator"]
    ours, errors = (state.by_initial_time([name])[name] for name in (metric, "rmse"))
    for position, channel in enumerate(state.axes.channels):
        theirs, mine = of_channel(official, channel, metric), ours[:, :, position, 0]
        scale = errors[:, :, position, 0] if metric == "bias" else np.abs(theirs)
        np.testing.assert_array_equal(np.isnan(mine), np.isnan(theirs))
        assert (np.abs(mine - theirs) <= TOLERANCE * scale)[~np.isnan(theirs)].all(), str(channel)


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
