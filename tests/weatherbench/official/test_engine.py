"""The official engine, run on a look-alike of weatherbench2 (tests/official): the real one is not installed.

The look-alike's scores are held to the recorded ones of the real package, so that a difference between it and ours
would be one between the real package and ours.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from graphufs.cli.main import app
from graphufs.config import loading
from graphufs.errors import UserError
from graphufs.weatherbench.inputs.truth import DatasetTruth
from graphufs.weatherbench.official import engine as official
from graphufs.weatherbench.score_request import ScoreRequest, StorePaths
from tests.cli.test_score import IRREGULAR, LEADS, STAMPS, stores, write_zarr
from tests.support.climatology import in_memory
from tests.weatherbench.conftest import Made

TESTS = Path(__file__).parents[2]
GOLDEN = TESTS / "golden" / "weatherbench2"
REGIONS = ("global", "tropics", "extra-tropics", "europe", "global_land", "tropics_land")


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The look-alike, importable as weatherbench2."""
    monkeypatch.syspath_prepend(str(TESTS / "official"))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "weatherbench2"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The stores of the golden set, unpacked."""
    folder = tmp_path_factory.mktemp("golden")
    for kind in ("forecast", "obs", "clim"):
        with zipfile.ZipFile(GOLDEN / f"A_{kind}.zarr.zip") as archive:
            archive.extractall(folder / kind)
    return {kind: str(folder / kind) for kind in ("forecast", "obs", "clim")}


def test_the_look_alike_makes_the_scores_of_the_real_package(
    package: None, golden: dict[str, str], tmp_path: Path
) -> None:
    recorded = xr.open_dataset(GOLDEN / "A_deterministic.nc").load()
    with xr.open_zarr(golden["forecast"]) as forecast:
        times, names = forecast["time"].values, tuple(map(str, forecast.data_vars))
        levels = tuple(forecast["level"].values.astype(float))
    variables = tuple(name for name in names if name in recorded)
    paths = StorePaths(golden["forecast"], golden["obs"], golden["clim"])
    wanted = ScoreRequest(variables, levels, regions=REGIONS, period=(times.min(), times.max()))
    made = official.run(paths, wanted, tmp_path)
    found = official.differences(made, recorded)
    assert {one.metric for one in found} >= {"mse", "mae", "bias", "acc", "seeps_24hr", "seeps_6hr"}
    assert max(one.relative for one in found) < 3e-6 and all(one.nan == 0 for one in found)
    assert set(made["region"].values) == set(REGIONS) and "10m_wind_vector" in {one.variable for one in found}


def engine(folder: Path, made: dict[str, xr.Dataset], *options: str) -> None:
    for name, dataset in made.items():
        write_zarr(folder / name, {None: dataset})
    paths = [str(folder / name) for name in ("forecast", "truth", "climatology", "out")]
    app(["score", *paths, "--engine", "weatherbench2", *options], result_action="return_value")


def rows(shown: str) -> dict[tuple[str, str], list[str]]:
    """The table's rows by variable and metric."""
    split = [line.split() for line in shown.splitlines()]
    return {(parts[0], parts[1]): parts[2:] for parts in split if len(parts) >= 5 and parts[1] in official.METRICS}


@pytest.mark.parametrize("options", [pytest.param((), marks=pytest.mark.long), ("--skipna",)])
def test_both_engines_score_the_same_files_and_their_difference_is_told(
    package: None, options: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = stores("descending")
    made["forecast"]["temperature"].values[1, 0, 1, 2:4, 3] = np.nan
    engine(tmp_path, made, "--regions", *REGIONS[:3], "global_land", *options)
    table = rows(capsys.readouterr().out)
    assert set(table) == {
        (name, metric) for name in ("temperature", "2m_temperature") for metric in official.METRICS[:4]
    }
    for ours, theirs, difference, *lone in table.values():
        assert float(difference) < 2e-6 and float(ours) == pytest.approx(float(theirs), rel=1e-4) and not lone
    with xr.open_dataset(tmp_path / "out" / "official_deterministic.nc") as results:
        assert set(results["region"].values) == {*REGIONS[:3], "global_land"}


def test_a_difference_is_found_and_not_hidden_by_nan(tmp_path: Path) -> None:
    values = np.array([[4.0, 9.0], [1.0, np.nan]])
    made = xr.Dataset({"t": (("metric", "lead_time"), values)}, {"metric": ["mse", "bias"], "lead_time": [6, 12]})
    other = made.copy(deep=True)
    other["t"].values[0, 1] = 9.9
    other["t"].values[1] = [1.2, 3.0]
    mse, bias = sorted(official.differences(made, other), key=lambda one: one.metric == "bias")
    assert mse.relative == pytest.approx(0.9 / 9.9) and (mse.ours, mse.official, mse.nan) == (9.0, 9.9, 0)
    assert bias.relative == pytest.approx(0.2 / 2.0) and bias.nan == 1, "relative to the root mean square error"
    with pytest.raises(UserError, match="no score in common"):
        official.differences(made, other.rename(t="u"))


def test_initial_times_without_truth_are_kept_from_the_official_engine(
    package: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = stores("poles")
    made["truth"] = made["truth"].sel(time=STAMPS[STAMPS != IRREGULAR[1] + LEADS[1]])
    engine(tmp_path, made, "--regions", "global")
    told = capsys.readouterr()
    assert "results of 3 initial times" in told.out
    assert all(float(difference) < 2e-6 for _, _, difference in rows(told.out).values())


def test_other_names_and_derived_variables_are_scored_by_both(
    package: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = stores("poles")
    for name in ("forecast", "truth"):
        wind = made[name]["temperature"] - 270
        made[name] = made[name].assign(u_component_of_wind=wind, v_component_of_wind=-2 * wind)
    truth = made["truth"].drop_vars("land_sea_mask")
    made["climatology"] = in_memory(DatasetTruth(truth, derived=["wind_speed"]), STAMPS, window=5)
    made["forecast"] = made["forecast"].rename(prediction_timedelta="lead_time")
    engine(
        tmp_path, made, "--derived", "wind_speed", "--rename", "lead_time=prediction_timedelta", "--regions", "global"
    )
    table = rows(capsys.readouterr().out)
    assert ("wind_speed", "acc") in table and ("wind_vector", "mse") in table
    assert all(float(difference) < 3e-6 for _, _, difference in table.values())


def test_without_the_package_one_error_says_how_to_get_it(tmp_path: Path) -> None:
    told = "pip install --no-deps .*google-research/weatherbench2.*--override requirements/dev.lock .*apache-beam"
    with pytest.raises(UserError, match=told):
        engine(tmp_path, stores("poles"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--grid", "12x6"], "reads files as they are"),
        (["--convention", "WeatherBench-X"], "follows WeatherBench2"),
        (["--analyses"], "reads files as they are"),
    ],
)
def test_what_the_official_engine_cannot_do_is_refused(
    package: None, options: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        engine(tmp_path, stores("poles"), *options)


def test_what_the_official_code_raises_is_told(package: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import weatherbench2.evaluation  # type: ignore[import-not-found]

    def fail(*arguments: object, **options: object) -> None:
        raise KeyError("not all values found in index 'time'")

    monkeypatch.setattr(weatherbench2.evaluation, "evaluate_in_memory", fail)
    with pytest.raises(UserError, match="official engine failed .KeyError.*not all values found"):
        engine(tmp_path, stores("poles"))


@pytest.mark.parametrize(
    "settings", [{}, pytest.param({"grid": "12x6", "regions": "[tropics, global_land]"}, marks=pytest.mark.long)]
)
def test_an_experiments_scores_are_compared_with_the_official_ones(
    package: None, settings: dict[str, str], prepared: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment, root = prepared
    file = tmp_path / "experiment.yaml"
    file.write_text(loading.dump(experiment))
    changes = [part for key, value in settings.items() for part in ("--set", f"evaluation.{key}={value}")]
    arguments = ["evaluate", str(file), "--root", str(root), "--engine", "weatherbench2", *changes]
    assert app(arguments, result_action="return_value") == 0
    table = rows(capsys.readouterr().out)
    names = ("surface_pressure", "temperature", "10m_u_component_of_wind")
    assert set(table) == {(name, metric) for name in names for metric in official.METRICS[:4]}
    assert all(float(difference) < 1e-5 for _, _, difference in table.values())
    assert not list(root.rglob(".copies")) and list(root.rglob("official_deterministic.nc"))
