"""Experiments scored against ERA5 in WeatherBench2's layout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from graphufs.cli.main import app
from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.errors import UserError
from graphufs.grid.grid import Grid
from graphufs.grid.regridding import Regridder, named_grid
from graphufs.steps import never_stop, no_progress, run_step
from graphufs.storage.paths import Paths
from graphufs.storage.zarr_io import write_zarr
from graphufs.weatherbench import evaluate, one_truth
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.inputs.native_layers import as_levels
from graphufs.weatherbench.inputs.truth import DatasetTruth
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.scoring.baselines import lag_correlation
from tests.support import idealised
from tests.support.climatology import in_memory
from tests.weatherbench.conftest import Made

OFFSET = np.float32(150.0)
"""Pa by which ERA5's surface pressure is above Replay's."""
PRESSURE, WIND, TEMPERATURE = (
    Channel("surface_pressure"),
    Channel("10m_u_component_of_wind"),
    Channel("temperature", 500),
)
TIMES = idealised.ALL_STAMPS


def era5(drop: tuple[str, ...] = ()) -> xr.Dataset:
    """Replay with another pressure, on pressure levels, its latitudes ascending."""
    data = idealised.fields(TIMES)
    dims = ("time", "latitude", "longitude")
    made = xr.Dataset(
        {
            "surface_pressure": (dims, data["pressfc"] + OFFSET),
            "10m_u_component_of_wind": (dims, data["ugrd10m"]),
            "temperature": (("time", "level", *dims[1:]), data["tmp"][:, 1:]),
        },
        {"time": TIMES, "level": [500, 1000], "latitude": idealised.LATITUDE, "longitude": idealised.LONGITUDE},
    )
    keep = ~np.isin(TIMES, np.array(drop, "datetime64[ns]"))
    return made.isel(time=keep, latitude=slice(None, None, -1))


def against_era5(made: Made, folder: Path, dataset: xr.Dataset, **settings: Any) -> tuple[Experiment, Path]:
    experiment, root = made
    write_zarr(folder / "era5.zarr", {None: dataset}, {str(name): {"time": 100} for name in dataset})
    given = {
        "truth": "era5",
        "era5.url": folder / "era5.zarr",
        "era5.native_layers": "leave_out",
        "map_leads": "[]",
    } | settings
    overrides = [f"evaluation.{key}={value}" for key, value in given.items()]
    return loading.parse(loading.dump(experiment), overrides), root


def scores_of(experiment: Experiment, root: Path, name: str = "era5") -> Scores:
    evaluate.run(experiment, root, progress=no_progress, should_stop=never_stop)
    return Scores.open(Paths(experiment, root).scores_against(name))


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """How fast anomalies fade is not looked at here: learn it from few times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(one_truth, "lag_correlation", partial(lag_correlation, samples=10))
        yield


@pytest.fixture(scope="module")
def made(prepared: Made, tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Path, Path]:
    """Scored against both truths, and the folder with ERA5."""
    folder = tmp_path_factory.mktemp("era5")
    experiment, root = against_era5(prepared, folder, era5(), truth="both")
    evaluate.run(experiment, root, progress=no_progress, should_stop=never_stop)
    return experiment, root, folder


def test_the_floor_is_the_difference_of_the_analyses_at_every_lead(made: tuple[Experiment, Path, Path]) -> None:
    experiment, root, _ = made
    scores = Scores.open(Paths(experiment, root).scores_against("era5"))
    assert scores.forecasts == ("emulator", "persistence", "climatology", "damped_persistence", "replay")
    np.testing.assert_allclose(scores.values("rmse", "replay", PRESSURE), OFFSET, rtol=1e-4)
    np.testing.assert_allclose(scores.values("bias", "replay", PRESSURE), -OFFSET, rtol=1e-4)
    np.testing.assert_array_equal(scores.values("rmse", "replay", WIND), 0)


def test_forecasts_and_baselines_are_scored_against_era5_and_not_replay(made: tuple[Experiment, Path, Path]) -> None:
    experiment, root, _ = made
    against = {name: Scores.open(Paths(experiment, root).scores_against(name)) for name in ("replay", "era5")}
    for forecast, shift in (("emulator", -OFFSET), ("persistence", 0), ("climatology", 0)):
        for channel, by in ((PRESSURE, shift), (WIND, 0)):
            bias = against["replay"].values("bias", forecast, channel)
            np.testing.assert_allclose(against["era5"].values("bias", forecast, channel), bias + by, atol=0.05)
    assert "replay" not in against["replay"].forecasts


def test_every_output_names_its_truth(made: tuple[Experiment, Path, Path]) -> None:
    experiment, root, folder = made
    paths = Paths(experiment, root)
    for name, words in (
        ("replay", "the prepared Replay data"),
        ("era5", f"ERA5 in WeatherBench2's layout, from {folder}"),
    ):
        scores = Scores.open(paths.scores_against(name))
        assert scores.dataset.attrs["truth_name"] == name and scores.dataset.attrs["truth"].startswith(words)
        header, first = scores.csv().splitlines()[:2]
        assert header.endswith(",truth") and first.endswith(f",{name}")
    assert scores.dataset.attrs["not_scored"] == {
        "temperature": "it lies on native model layers, not on pressure levels"
    }
    assert scores.dataset.attrs["vertical"] == "surface only"
    result = evaluate.run(experiment, root, progress=no_progress, should_stop=never_stop)
    assert result["status"] == "unchanged" and "Replay" in result["truth"] and "ERA5" in result["against_era5"]["truth"]
    json.dumps(result)


def test_the_command_shows_a_table_for_each_truth(
    made: tuple[Experiment, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment, root, _ = made
    file = tmp_path / "experiment.yaml"
    file.write_text(loading.dump(experiment))
    assert app(["evaluate", str(file), "--root", str(root)], result_action="return_value") == 0
    shown = capsys.readouterr().out
    assert "against Replay" in shown and "against ERA5" in shown and "Replay itself" in shown


def test_native_layers_are_not_taken_for_pressure_levels_unasked(prepared: Made, tmp_path: Path) -> None:
    experiment, root = against_era5(prepared, tmp_path, era5(), **{"era5.native_layers": "refuse"})
    with pytest.raises(UserError, match="temperature lies on native model layers, .* ERA5 on pressure levels"):
        scores_of(experiment, root)
    asked, root = against_era5(prepared, tmp_path, era5(), **{"era5.native_layers": "as_levels"})
    with pytest.raises(UserError, match=r"1000 \(899 to 1049 hPa\) cannot stand for pressure levels"):
        scores_of(asked, root)


@pytest.mark.long
def test_a_layer_near_its_level_may_stand_for_it_where_asked(tmp_path: Path) -> None:
    source, root = tmp_path / "source.zarr", tmp_path / "root"
    idealised.write_source(source, TIMES)
    from graphufs.data import prepare

    experiment = idealised.experiment(source, **{"data.levels": "[500]"})
    prepare.run(experiment, root, progress=no_progress, should_stop=never_stop)
    experiment, _ = against_era5((experiment, root), tmp_path, era5(), **{"era5.native_layers": "as_levels"})
    idealised.write_forecasts(experiment, root)
    path = Paths(experiment, root).forecasts
    whole = xr.open_zarr(path, chunks=None).load()
    whole.isel(level=[0]).drop_encoding().to_zarr(path, mode="w", zarr_format=2)
    scores = scores_of(experiment, root)
    assert TEMPERATURE in scores.channels and not scores.dataset.attrs["not_scored"]
    assert scores.dataset.attrs["vertical"] == "native model layers taken for the pressure levels they are called by"
    assert "layer ~500 hPa" in scores.channel_name(TEMPERATURE)
    np.testing.assert_array_equal(scores.values("rmse", "replay", TEMPERATURE), 0)


def test_layers_may_only_stand_for_levels_they_stay_near() -> None:
    replay = {100.0: 97.8232650756836, 300.0: 298.0768, 500.0: 505.6520690917969, 600.0: 605.7676}
    assert "taken for" in as_levels(replay, "gs://replay")
    with pytest.raises(UserError, match=r"layers 700 \(636 to 731 hPa\), 1000 \(899 to 1049 hPa\) cannot"):
        as_levels(replay | {700.0: 699.1375, 1000.0: 998.7807}, "gs://replay")
    with pytest.raises(UserError, match="510 hPa is not a layer"):
        as_levels({500.0: 510.0}, "gs://replay")
    with pytest.raises(UserError, match="cannot stand"):
        as_levels({500.0: 490.0}, "embedded")


@pytest.mark.long
def test_times_that_era5_lacks_leave_initial_times_out_and_are_named(prepared: Made, tmp_path: Path) -> None:
    lacking = "1995-01-20T06"
    experiment, root = against_era5(prepared, tmp_path, era5(drop=(lacking,)))
    scores = scores_of(experiment, root)
    times = np.array(experiment.initial_times, "datetime64[ns]")
    gap = np.datetime64(lacking)
    expected = {str(t.astype("datetime64[h]")) for t in times if t <= gap <= t + np.timedelta64(10, "D")}
    assert scores.dataset.attrs["excluded_initial_times"] == dict.fromkeys(sorted(expected), f"no ERA5 at {lacking}")
    assert len(scores.initial_times) == len(times) - len(expected)
    none, root = against_era5(prepared, tmp_path / "none", era5().isel(time=slice(300)))
    with pytest.raises(UserError, match="none of the .* initial times can be scored"):
        scores_of(none, root)


def test_era5_on_another_grid_needs_a_grid_and_is_regridded_only_where_it_does_not_lie(
    prepared: Made, tmp_path: Path
) -> None:
    fine = era5().sortby("latitude")
    target = named_grid("12x6")
    regridder = Regridder(Grid(fine["latitude"].values, fine["longitude"].values), target)
    dims = ("time", "latitude", "longitude")
    coarse = xr.Dataset(
        {name: (dims, regridder(fine[name].values)) for name in ("surface_pressure", "10m_u_component_of_wind")},
        {"time": TIMES, "latitude": target.latitude, "longitude": target.longitude},
    ).isel(latitude=slice(None, None, -1))
    native, root = against_era5(prepared, tmp_path, coarse)
    with pytest.raises(UserError, match="another grid .*name a grid to bring all of them to"):
        scores_of(native, root)
    both = [against_era5(prepared, tmp_path / name, data, grid="12x6") for name, data in (("a", coarse), ("b", fine))]
    as_it_lies, regridded = (scores_of(*one) for one in both)
    for forecast in ("emulator", "persistence", "climatology", "replay"):
        mine, other = (scores.values("rmse", forecast, PRESSURE) for scores in (as_it_lies, regridded))
        np.testing.assert_allclose(mine, other, rtol=1e-5)
    np.testing.assert_allclose(as_it_lies.values("rmse", "replay", PRESSURE), OFFSET, rtol=1e-4)
    assert as_it_lies.dataset.attrs["grid"].startswith("12x6")


@pytest.mark.long
def test_a_given_climatology_is_used_and_one_is_made_of_era5_otherwise(prepared: Made, tmp_path: Path) -> None:
    fields = era5()[["surface_pressure", "10m_u_component_of_wind"]]
    given = in_memory(DatasetTruth(fields + np.float32(1000)), TIMES[:400])
    write_zarr(tmp_path / "climatology.zarr", {None: given})
    experiment, root = against_era5(
        prepared, tmp_path, era5(), **{"era5.climatology": tmp_path / "climatology.zarr"}
    )  # fmt: skip
    found, own = scores_of(experiment, root), scores_of(*against_era5(prepared, tmp_path, era5()))
    bias = found.values("bias", "climatology", PRESSURE) - own.values("bias", "climatology", PRESSURE)
    np.testing.assert_allclose(bias, 1000, atol=200)
    assert found.dataset.attrs["climatology"] == str(tmp_path / "climatology.zarr")
    assert found.dataset.attrs["climatology_frames"] == 0 and own.dataset.attrs["climatology_frames"] == 480
    assert own.dataset.attrs["climatology"].startswith("climatology/")


def test_a_store_off_the_layout_and_a_truth_without_a_place_are_refused(prepared: Made, tmp_path: Path) -> None:
    odd = era5().rename(latitude="lat")
    with pytest.raises(UserError, match="ERA5 has no dimension latitude with a coordinate; rename lat"):
        scores_of(*against_era5(prepared, tmp_path, odd))
    with pytest.raises(UserError, match="era5.url does not say where ERA5 is"):
        loading.parse(loading.dump(prepared[0]), ["evaluation.truth=era5"])
    with pytest.raises(UserError, match="no variable of the forecasts can be compared"):
        scores_of(*against_era5(prepared, tmp_path, era5()[["temperature"]]))


def test_scores_against_replay_keep_their_name_and_keys_of_storage_change_none(prepared: Made, tmp_path: Path) -> None:
    experiment, root = prepared
    against, _ = against_era5(prepared, tmp_path, era5())
    options = loading.parse(loading.dump(against), ["evaluation.era5.storage_options={token: anon}"])
    plain = loading.parse(loading.dump(experiment), ["evaluation.truth=replay"])
    assert Paths(plain, root).hashes == Paths(experiment, root).hashes
    assert Paths(options, root).hashes == Paths(against, root).hashes != Paths(plain, root).hashes


def test_the_report_against_era5_names_its_truth_and_shows_the_floor(prepared: Made, tmp_path: Path) -> None:
    experiment, root = against_era5(prepared, tmp_path, era5())
    idealised.write_metrics(experiment, root)
    evaluate.run(experiment, root, progress=no_progress, should_stop=never_stop)
    page = Path(str(run_step("report", experiment, root)["report"])).read_text()
    assert (
        "Replay itself" in page and "R Replay itself" in page and "against Replay alone, so there are no maps" in page
    )
