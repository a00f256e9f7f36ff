"""A released model imported and run on an analysis makes what DeepMind's own code made, at every point."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from graphufs.cli.exchange.released import FromAnalysis, import_deepmind
from graphufs.deepmind.export import official_checkpoint
from graphufs.deepmind.npz import read_checkpoint
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.forcings import derived_forcing

TOLERANCE = 1e-4
"""Of each field's standard deviation, over all steps."""


def folder_of_cases(config: pytest.Config) -> Path:
    root = config.getoption("golden_root", default=None) or Path(__file__).parent
    return Path(root) / "graphcast13"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "released" in metafunc.fixturenames:
        cases = sorted(path.parent for path in folder_of_cases(metafunc.config).glob("*/checkpoint.npz"))
        metafunc.parametrize("released", cases, ids=[case.name for case in cases], indirect=True, scope="module")


@pytest.fixture(scope="module")
def released(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A case's folder, and the folder with its checkpoint of ours and its analysis."""
    case, work = request.param, tmp_path_factory.mktemp("released")
    with zipfile.ZipFile(case / "era5.zarr.zip") as file:
        file.extractall(work / "era5.zarr")
    import_deepmind(case / "checkpoint.npz", statistics=case, output=work / "checkpoint")
    return case, work


def recorded(case: Path, name: str) -> xr.Dataset:
    if not (case / name).exists():
        pytest.skip(f"the case has no {name}")
    with xr.open_dataset(case / name) as dataset:
        return dataset.load()


def test_the_golden_folder_holds_cases(request: pytest.FixtureRequest) -> None:
    assert list(folder_of_cases(request.config).glob("*/checkpoint.npz"))


def test_the_forecast_is_the_references_at_every_point(released: Any) -> None:
    case, work = released
    official = recorded(case, "rollout.nc")
    initial = str(official.attrs["initial_time"])[:13]
    options = FromAnalysis(
        analysis=str(work / "era5.zarr"),
        initial_time=(initial,),
        lead_time=f"{int(official.lead.max())}h",
        output=work / "forecast.zarr",
    )
    options.run(work / "checkpoint", as_json=True)
    made = xr.open_zarr(work / "forecast.zarr", chunks=None).isel(time=0, drop=True)
    made = made.assign_coords(prediction_timedelta=made.prediction_timedelta / np.timedelta64(1, "h"))
    made = made.rename(prediction_timedelta="lead")
    assert set(map(str, official.data_vars)) == set(map(str, made.data_vars))
    for name, expected in official.data_vars.items():
        places = {d: expected[d] for d in expected.dims}  # by coordinate, whatever the order of rows
        ours = made[name].sel(places, method="nearest", tolerance=1e-3).transpose(*expected.dims)
        error = np.abs(ours.values - expected.values.astype(np.float64))
        across = [d for d in expected.dims if d in ("latitude", "longitude")]
        spread = expected.astype(np.float64).std(across).values[..., None, None]
        assert np.isfinite(error).all() and (error <= TOLERANCE * spread).all(), f"{name}: {(error / spread).max()}"


def test_solar_radiation_is_the_references(released: Any) -> None:
    case, work = released
    official, rollout = recorded(case, "forcings.nc"), recorded(case, "rollout.nc")
    domain = ReplayEmulator.from_checkpoint(work / "checkpoint").domain
    stamps = np.datetime64(str(rollout.attrs["initial_time"])) + rollout.lead.values * np.timedelta64(1, "h")
    name = "toa_incident_solar_radiation"
    assert np.allclose(rollout.latitude, domain.latitude) and np.allclose(rollout.longitude, domain.longitude)
    ours = derived_forcing(name, stamps, domain.latitude, domain.longitude)[:, 0]
    # the reference holds the day in float32, see the golden cases of the forcings
    assert np.abs(ours - official[name].values).max() <= 3e-3 * official[name].values.max()


def test_export_gives_the_imported_file_back(released: Any) -> None:
    case, work = released
    there, here = (
        read_checkpoint(case / "checkpoint.npz"),
        official_checkpoint(ReplayEmulator.from_checkpoint(work / "checkpoint")),
    )
    assert {k: v for k, v in here.model_config.items() if v is not None} == there.model_config
    for name, value in there.task_config.items():
        wanted = value if isinstance(value, str) else set(value)
        assert (here.task_config[name] if isinstance(value, str) else set(here.task_config[name])) == wanted
    assert set(here.parameters) == set(there.parameters)
    for name, values in there.parameters.items():
        np.testing.assert_array_equal(here.parameters[name], values)
