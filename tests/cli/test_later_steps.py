"""`graphufs check` says what training and evaluation would refuse only after the work before them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from graphufs.cli.later_steps import check_later_steps
from graphufs.cli.main import app
from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.data.preflight import look
from graphufs.errors import UserError
from graphufs.storage.zarr_io import write_zarr
from tests.support.experiments import experiment
from tests.support.lookalike import Weather, build_atmosphere, stamps_from


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_atmosphere(
        tmp_path_factory.mktemp("store") / "fv3.zarr",
        count=48,
        step_hours=6,
        variables=("tmp", "pressfc", "ugrd10m", "land_static"),
        time_coordinates=False,
    )


def with_settings(store: Path, *overrides: str) -> Experiment:
    plain = experiment(
        store, inputs=["pressfc", "ugrd10m", "tmp", "land_static"], targets=["pressfc", "ugrd10m", "tmp"], forcings=[]
    )
    return loading.parse(loading.dump(plain), list(overrides))


def check(wanted: Experiment, root: Path) -> None:
    check_later_steps(wanted, root, *look(wanted, root))


def era5(path: Path, start: str = "1993-12-31T18", **names: str) -> str:
    stamps = stamps_from(start, 48, 6)
    latitude, longitude = np.linspace(-80, 80, 9), np.arange(0, 360, 22.5)
    weather = Weather(latitude, longitude)
    data = xr.Dataset(
        {"surface_pressure": (("time", "latitude", "longitude"), [weather.field("pressfc", one) for one in stamps])},
        {"time": stamps, "latitude": latitude, "longitude": longitude},
    )
    write_zarr(path, {None: data.rename(names)})
    return f"evaluation.era5.url={path}"


AGAINST = "evaluation.truth=era5"
BY_WEATHERBENCHS_NAMES = [f"data.{key}=[surface_pressure, temperature]" for key in ("targets", "inputs")]
SURFACE = "evaluation.era5.native_layers=leave_out"


def test_an_experiment_that_names_nothing_else_passes(store: Path, tmp_path: Path) -> None:
    check(with_settings(store), tmp_path)
    check(with_settings(store, AGAINST, SURFACE, era5(tmp_path / "era5.zarr")), tmp_path)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["normalization.url=/nowhere/statistics"], "cannot open the statistics at /nowhere/statistics"),
        (["training.init_from=/nowhere/00001000"], "init_from: /nowhere/00001000 does not exist"),
        (["evaluation.grid=2x2"], "there is no grid 2x2"),
        ([AGAINST, "evaluation.era5.url=/nowhere/era5.zarr"], "cannot open ERA5 at /nowhere/era5.zarr"),
    ],
    ids=str,
)
def test_what_later_steps_cannot_use_is_refused(overrides: list[str], told: str, store: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=told):
        check(with_settings(store, *overrides), tmp_path)


RELEASED = Path(__file__).parents[1] / "golden" / "graphcast13" / "g1" / "checkpoint.npz"
PARTLY = [f"training.init_from={RELEASED}", "training.init_partial=true", "model={latent_size: 16}"]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["training.freeze=[nosuch.*]"], "training.freeze has the pattern nosuch.*, which fits no tensor"),
        (["training.freeze=['*']"], "freezes all"),
        (["training.learning_rate_factors={'[a': 0.1}"], "training.learning_rate_factors has the pattern"),
        (["training.loss.channel_weights={pressfc: {500: 2}}"], "the levels of pressfc are: none"),
        (["training.compute.mesh.space=4096"], "training.compute.mesh.space is 4096, but there are"),
        ([f"training.init_from={RELEASED}"], "nothing of .* fits this network"),
        ([f"training.init_from={RELEASED}", "model={latent_size: 16}"], "of the 181 inputs of .* --partial"),
        (
            [*PARTLY, "training.init_optimizer=true"],
            "holds no state of an optimizer",
        ),
        (
            [*PARTLY, "training.init_statistics=source"],
            "which holds no statistics",
        ),
        (
            ["evaluation.regions=[global_land]", "data.inputs=[pressfc, ugrd10m, tmp]"],
            "needs to know what is land, and there is no land_static among data.inputs;",
        ),
        (
            ["evaluation.regions=[global_land]", *BY_WEATHERBENCHS_NAMES],
            "needs to know what is land, and there is no land_sea_mask among data.inputs;",
        ),
    ],
)
def test_what_a_training_or_its_scores_would_refuse_is_refused(
    overrides: list[str], told: str, store: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=told):
        check(with_settings(store, *overrides), tmp_path)


@pytest.mark.parametrize("names", [[], ["data.targets=[temperature]", "data.inputs=[temperature, land_sea_mask]"]])
def test_regions_of_land_pass_with_a_mask_of_either_name(names: list[str], store: Path, tmp_path: Path) -> None:
    check(with_settings(store, "evaluation.regions=[global_land]", *names), tmp_path)


def test_patterns_that_fit_and_symmetries_of_the_grid_pass_and_others_do_not(store: Path, tmp_path: Path) -> None:
    wanted = with_settings(store, "training.freeze=[processor.*]", "training.augmentation={mirror: true}")
    opened, selection = look(wanted, tmp_path)
    check_later_steps(wanted, tmp_path, opened, selection)
    opened.latitude = opened.latitude - 1
    with pytest.raises(UserError, match="are not the same on both sides of the equator"):
        check_later_steps(wanted, tmp_path, opened, selection)


@pytest.mark.parametrize(
    ("made", "more", "told"),
    [
        ({"surface_pressure": "sp"}, [SURFACE], "has none of what is forecast"),
        ({"latitude": "lat"}, [SURFACE], "rename lat"),
        ({"start": "2020-01-01T00"}, [SURFACE], "no field at any of the"),
        ({"surface_pressure": "temperature"}, [], "native model layers"),
    ],
    ids=str,
)
def test_an_era5_that_does_not_fit_is_refused(
    made: dict[str, Any], more: list[str], told: str, store: Path, tmp_path: Path
) -> None:
    place = era5(tmp_path / "era5.zarr", **made)
    with pytest.raises(UserError, match=told):
        check(with_settings(store, AGAINST, place, *more), tmp_path)


def test_a_record_with_too_many_holes_for_a_batch_is_refused(tmp_path: Path) -> None:
    holes = [str(stamp) for stamp in stamps_from("1993-12-31T18", 25, 6)[2::3]]
    path = build_atmosphere(tmp_path / "fv3.zarr", count=48, step_hours=6, variables=("pressfc",), absent=holes)
    wanted = experiment(path, inputs=["pressfc"], targets=["pressfc"], forcings=[])
    with pytest.raises(UserError, match="stage 'one' has 0 samples of 3 stamps in the training period .*fewer than"):
        look(wanted, tmp_path)


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        (slice(26, 33, 2), "nowhere in 1994-01-07T00.* the 3 stamps every 6h in a row that the validation needs"),
        (slice(36, 45, 2), "none of the 2 initial times, .* has all its input frames and valid times"),
        (slice(33, 45, 2), "none of the 2 initial times, .* has all its input frames in"),
    ],
    ids=["validation", "evaluation", "input frames"],
)
def test_a_record_whose_holes_leave_nothing_to_do_is_refused(gone: slice, told: str, tmp_path: Path) -> None:
    holes = [str(stamp) for stamp in stamps_from("1993-12-31T18", 48, 6)[gone]]
    path = build_atmosphere(tmp_path / "fv3.zarr", count=48, step_hours=6, variables=("pressfc",), absent=holes)
    wanted = experiment(path, inputs=["pressfc"], targets=["pressfc"], forcings=[])
    with pytest.raises(UserError, match=told):
        look(wanted, tmp_path)


def test_the_command_asks_them_all(store: Path, tmp_path: Path) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(loading.dump(with_settings(store, "evaluation.grid=2x2")))
    with pytest.raises(UserError, match="there is no grid 2x2"):
        app(["check", str(file), "--root", str(tmp_path)], result_action="return_value", exit_on_error=False)
    assert not [path for path in tmp_path.iterdir() if path != file]
