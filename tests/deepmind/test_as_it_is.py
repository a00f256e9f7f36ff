"""A released model through all steps and a night, without a training; and what would make another model of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from graphufs.cli.main import main
from graphufs.cli.verify import verify
from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.deepmind.as_it_is import model_as_it_is
from graphufs.deepmind.export import export
from graphufs.deepmind.released import import_checkpoint
from graphufs.emulator import checkpoint
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.errors import UserError
from graphufs.forecast.from_analysis import forecast_from_analysis
from graphufs.registry import registry
from graphufs.steps import run_step
from graphufs.storage.paths import Paths
from graphufs.vocabulary.variables import replay_name
from graphufs.weatherbench.results.scores import Scores
from tests.support.analyses import write_weatherbench
from tests.support.emulators import NOT_STORED, emulator, save

GOLDEN = Path(__file__).parents[1] / "golden" / "graphcast13" / "g1"
EXPERIMENTS = Path(__file__).parents[2] / "experiments"
TARGETS = ("2m_temperature", "mean_sea_level_pressure", "temperature")
STATIC = ("geopotential_at_surface", "land_sea_mask")
LEVELS = (500, 850)


def released(folder: Path) -> Path:
    """A file in DeepMind's format of a small model with random weights: four channels, 10 degrees."""
    made = emulator(TARGETS, STATIC, levels=LEVELS, grid=(18, 36), mesh_size=2, mesh2grid_ties="reference")
    export(made, folder / "released.npz")
    return folder / "released.npz"


def analysis(folder: Path, days: int = 8) -> Path:
    """A store for it: the golden case's three stamps again and again, each time further east; land in fractions."""
    with xr.open_zarr(f"zip://::{GOLDEN / 'era5.zarr.zip'}", chunks=None) as opened:
        base = opened.load()
    stamps = np.datetime64("2020-06-01T00", "ns") + np.arange(4 * days) * np.timedelta64(6, "h")
    parts = [
        base.isel(time=[number % base.sizes["time"]]).roll(longitude=number).assign_coords(time=[stamp])
        for number, stamp in enumerate(stamps)
    ]
    whole = xr.concat(parts, "time", data_vars="minimal", coords="minimal", compat="override")
    fraction = 0.5 + 0.5 * np.sin(np.deg2rad(3 * whole["longitude"])) * np.cos(np.deg2rad(whole["latitude"]))
    whole = whole[[*TARGETS, *STATIC]].sel(level=list(LEVELS))
    whole["land_sea_mask"] = fraction.transpose("latitude", "longitude").astype("f4")
    return write_weatherbench(folder / "era5.zarr", whole.drop_encoding())


def overrides(store: Path, source: Path) -> list[str]:
    """What makes the shipped experiment one of the small model and the store."""
    return [
        f"data.inputs=[{', '.join((*TARGETS, *STATIC, *NOT_STORED))}]",
        f"data.targets=[{', '.join(TARGETS)}]",
        f"data.levels={list(LEVELS)}",
        "training.loss.variable_weights={}",
        f"data.source={{url: {store}}}",
        "data.training={start: 1979-01-01T00, end: 2015-12-31T18}",  # in no store
        "data.validation={start: 2016-01-01T00, end: 2017-12-31T18}",
        "data.evaluation={start: 2020-06-05T00, end: 2020-06-08T18}",
        "model.mesh_size=2",
        "model.latent_size=8",
        "model.message_steps=2",
        f"training.init_from={source}",
        "training.init_statistics=source",
        "training.stages=[]",
        "training.compute.precision=float32",
        "forecast={lead_time: 12h, every: 12h, period: {start: 2020-06-05T00, end: 2020-06-06T18}}",
        "evaluation={climatology: {start: 2020-06-01T00, end: 2020-06-04T18}, regions: [global_land]}",
    ]


def land_weights(dataset: xr.Dataset) -> xr.DataArray:
    """Areas by the sines of cells' borders, times the fraction of land."""
    latitude = dataset["latitude"].values
    borders = np.deg2rad(np.concatenate([[-90], (latitude[1:] + latitude[:-1]) / 2, [90]]))
    areas = xr.DataArray(np.diff(np.sin(borders)), {"latitude": latitude}, ("latitude",))
    return areas * dataset["land_sea_mask"]


@pytest.mark.long  # a whole chain and a night
def test_a_released_model_goes_through_all_steps_and_a_night(tmp_path: Path) -> None:
    store, source, root = analysis(tmp_path), tmp_path / "checkpoint", tmp_path / "root"
    imported = import_checkpoint(released(tmp_path), GOLDEN, source)
    settings = [part for one in overrides(store, source) for part in ("--set", one)]
    where = [str(EXPERIMENTS / "graphcast_operational.yaml"), "--root", str(root), *settings]
    experiment = loading.load(EXPERIMENTS / "graphcast_operational.yaml", overrides(store, source))
    paths = Paths(experiment, root)
    for command in ("check", "run"):
        with pytest.raises(SystemExit) as ended:
            main([command, *where])
        assert not ended.value.code
    assert not paths.statistics().exists() and not paths.metrics.exists()
    assert run_step("train", experiment, root)["updates"] == 0
    made = checkpoint.read_meta(checkpoint.place(paths.checkpoints, 0))
    assert made["total"] == 0 and made["provenance"]["taken_from"]["file"] == "released.npz"

    # the forecasts are those of the released model
    forecasts = xr.open_zarr(paths.forecasts)
    direct = forecast_from_analysis(imported, str(store), forecasts["time"].values, 2)
    for name in experiment.data.targets:
        found, expected = (one[name].transpose(*direct[name].dims).values for one in (forecasts, direct))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * expected.std(), err_msg=name)

    # land counts by its fraction
    scores, era5 = Scores.open(paths.scores), xr.open_zarr(store)
    times, step = forecasts["time"].values, np.timedelta64(6, "h")
    pressure = era5["mean_sea_level_pressure"]
    errors = [(pressure.sel(time=time + step) - pressure.sel(time=time)) ** 2 for time in times]
    mean = xr.concat(errors, "time").weighted(land_weights(era5)).mean(("latitude", "longitude"))
    channel = next(one for one in scores.channels if one.variable == "mean_sea_level_pressure")
    rmse = scores.values("rmse", "persistence", channel, "global_land")
    np.testing.assert_allclose(rmse[0], np.sqrt(mean.mean()), rtol=1e-5)
    page = paths.report.read_text()
    assert "Nothing was trained here" in page and "The line is the coast" in page

    # and it becomes a model with nights
    run_step("register", experiment, root)
    (model,) = registry.models(root)
    assert model.update == 0 and model.periods["training"] == "1979-01-01T00..2015-12-31T18"
    with pytest.raises(SystemExit) as ended:
        main(["nightly", *where])
    assert not ended.value.code
    nights = Scores.open(paths.nightly(model.checkpoint) / "scores.zarr")
    assert len(nights.initial_times) == experiment.nightly.at_most == 4
    assert not verify(experiment, root).damaged
    with pytest.raises(UserError, match=r"has no training\.stages"):
        run_step("plan_retraining", experiment, root)


# what the model is


def untrained(**changes: Any) -> ReplayEmulator:
    """An emulator of other parameters, whose experiment takes its model from elsewhere."""
    found = emulator(seed=7, **changes)
    asked = [
        "training.init_from=elsewhere",
        "training.init_statistics=source",
        "training.stages=[]",
        "evaluation.climatology={start: 1994-01-01T00, end: 1994-01-02T00}",
    ]
    return replace(found, experiment=loading.parse(loading.dump(found.experiment), asked), statistics=None)


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> tuple[ReplayEmulator, Path]:
    """A model with statistics that tell levels apart, and its checkpoint."""
    made = emulator()
    assert made.statistics is not None
    for kind in ("mean", "std", "diffs_std"):
        for number, values in enumerate(getattr(made.statistics, kind).values()):
            values += number + np.arange(values.size)
    return made, save(made, tmp_path_factory.mktemp("model"))


def test_weights_and_statistics_are_those_of_the_source(there: tuple[ReplayEmulator, Path]) -> None:
    made, source = there
    found, report = model_as_it_is(untrained(), source)
    assert {one.how for one in report.tensors} == {"kept"} and found.statistics is not None
    for name, values in made.arrays().items():
        np.testing.assert_array_equal(found.arrays()[name], values, err_msg=name)


def test_variables_may_have_other_names_and_another_order(there: tuple[ReplayEmulator, Path]) -> None:
    made, source = there
    names = {"targets": ("10m_v_component_of_wind", "temperature", "10m_u_component_of_wind")}
    static = {"inputs": ("geopotential_at_surface", "land_sea_mask")}
    found, report = model_as_it_is(untrained(**names, **static), source)
    assert "permuted" in {one.how for one in report.tensors} and found.statistics is not None
    assert made.statistics is not None
    for kind in ("mean", "std", "diffs_std"):
        theirs, ours = getattr(made.statistics, kind), getattr(found.statistics, kind)
        assert {replay_name(name) for name in ours} == set(theirs)
        np.testing.assert_array_equal(ours["temperature"], theirs["tmp"])
    np.testing.assert_allclose(
        found.statistics.std["geopotential_at_surface"], 9.80665 * made.statistics.std["hgtsfc_static"]
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"latent_size": 16}, "model.latent_size is 16 here and 8 there"),
        ({"mesh_size": 2}, "model.mesh_size is 2 here and 1 there"),
        ({"mesh2grid_ties": "reference"}, "model.mesh2grid_ties is reference here and own there"),
        ({"data": {"time_step": "3h"}}, "data.time_step is 3 here and 6 there"),
        ({"data": {"input_frames": 1}}, "data.input_frames is 1 here and 2 there"),
        ({"grid": (8, 16)}, "the grid is 16x8, .* here and 12x6"),
        ({"levels": (100, 500)}, "tmp 1000 .* is among the inputs there and not here"),
        ({"inputs": ("land_static",)}, "hgtsfc_static is among the inputs there and not here"),
        ({"targets": ("tmp", "ugrd10m", "vgrd10m", "pressfc")}, r"pressfc \(all 2\) is among the inputs here"),
        ({"data": {"transforms": {"tmp": {"function": "log"}}}}, "data.transforms are others here than there"),
    ],
    ids=str,
)
def test_what_would_be_another_model_is_refused(
    changes: dict[str, Any], told: str, there: tuple[ReplayEmulator, Path]
) -> None:
    with pytest.raises(UserError, match=f"training.stages has none, so that the model is that of .* but .*{told}"):
        model_as_it_is(untrained(**changes), there[1])


def test_layers_are_no_pressure_levels(there: tuple[ReplayEmulator, Path]) -> None:
    here = untrained()
    here = replace(here, domain=replace(here.domain, on_pressure_levels=True))
    with pytest.raises(UserError, match="levels are pressure levels here and layers that follow the ground there"):
        model_as_it_is(here, there[1])


def test_a_file_without_statistics_is_no_whole_model(there: tuple[ReplayEmulator, Path]) -> None:
    with pytest.raises(UserError, match="which holds no statistics, .* make a checkpoint of it by"):
        model_as_it_is(untrained(), GOLDEN / "checkpoint.npz")


# what the experiment says


def loaded(*settings: str) -> Experiment:
    return loading.load(EXPERIMENTS / "graphcast_small.yaml", ["training.stages=[]", *settings])


SOURCE = ("training.init_from=checkpoints/graphcast_small", "training.init_statistics=source")
CLIMATOLOGY = "evaluation.climatology={start: 2017-01-01T00, end: 2017-12-31T18}"


def test_only_what_forecasts_and_scores_need_is_prepared() -> None:
    found = loaded(*SOURCE, CLIMATOLOGY)
    assert set(found.periods) == {"evaluation", "forecast", "climatology"}
    assert str(found.baseline_period).startswith("2017")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ((), "stages has none, so that nothing is trained .* init_from, with init_statistics: source"),
        (SOURCE[:1], "with init_statistics: source; or give a stage"),
        (SOURCE, "give the period that the climatology is to be made of as evaluation.climatology"),
        ((*SOURCE, CLIMATOLOGY, "training.freeze=['*']"), "freeze would change nothing; leave it out"),
        ((*SOURCE, CLIMATOLOGY, "training.init_partial=true"), "init_partial would change nothing"),
        ((*SOURCE, CLIMATOLOGY, "forecast.checkpoint=best"), "forecast.checkpoint is best"),
        (
            (*SOURCE, CLIMATOLOGY, "data.training={start: 1979-01-01T00, end: 2020-12-31T18}"),
            "the training period .* overlaps the evaluation period",
        ),
    ],
)
def test_what_an_experiment_without_stages_must_say_and_may_not(settings: tuple[str, ...], told: str) -> None:
    with pytest.raises(UserError, match=told):
        loaded(*settings)
