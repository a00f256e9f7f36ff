"""Truth and climatology written in WeatherBench2's layout from any source: the same fields when they are read again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from graphufs.cli.main import app
from graphufs.config import loading
from graphufs.errors import UserError
from graphufs.grid.regridding import named_grid
from graphufs.sources.kinds import open_source_at
from graphufs.storage.zarr_io import open_zarr, store_damage
from graphufs.weatherbench.climatology.store import Climatology
from graphufs.weatherbench.inputs.channels import Channel
from tests.conftest import TINY
from tests.sources.test_layouts import VARIABLES, experiment, prepared
from tests.support.analyses import weather, write_anemoi, write_data_store


def run(*words: object) -> int:
    return app(["convert", *map(str, words)], result_action="return_value", exit_on_error=False)


@pytest.fixture(scope="module")
def netcdf(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An experiment's file on the data store's files, and the root where these are prepared."""
    folder = tmp_path_factory.mktemp("references")
    chosen = experiment(write_data_store(folder / "cds", weather()))
    prepared(chosen, folder / "root")
    (folder / "era5.yaml").write_text(loading.dump(chosen))
    return folder / "era5.yaml", folder / "root"


def test_written_truth_is_a_source_with_equal_fields(netcdf: tuple[Path, Path], tmp_path: Path) -> None:
    file, root = netcdf
    assert run(file, "--what", "truth", "--to", "zarr", "--output", tmp_path / "t.zarr", "--root", root) == 0
    assert store_damage(tmp_path / "t.zarr") is None
    written, fields = open_zarr(tmp_path / "t.zarr"), weather()
    assert written["temperature"].dims == ("time", "level", "latitude", "longitude")
    assert written["level"].values.tolist() == [500, 850] and written["level"].attrs["standard_name"] == "air_pressure"
    assert written["geopotential_at_surface"].dims == ("latitude", "longitude")
    source = open_source_at(str(tmp_path / "t.zarr"), "auto", "fv3")
    assert source.on_pressure_levels and np.array_equal(source.times, fields["time"].values)
    for name in VARIABLES:
        wanted = fields[name].sel(level=[500, 850]) if "level" in fields[name].dims else fields[name]
        assert np.array_equal(source.read(name, source.times, np.arange(2)), wanted.values), name
    for name in ("geopotential_at_surface", "land_sea_mask"):
        assert np.array_equal(source.read(name), fields[name].values), name


def test_some_of_the_truth_may_be_written_on_another_grid(netcdf: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    file, root = netcdf
    some = ["--variables", "2m_temperature", "land_sea_mask", "--start", "2020-01-02", "--stop", "2020-01-02"]
    where = ["--to", "zarr", "--output", tmp_path / "t.zarr", "--root", root, "--grid", "12x7", "--json"]
    assert run(file, "--what", "truth", *some, *where) == 0
    assert json.loads(capsys.readouterr().out) == {"path": str(tmp_path / "t.zarr"), "stamps": 4}
    written = open_zarr(tmp_path / "t.zarr")
    assert set(written.data_vars) == {"2m_temperature", "land_sea_mask"}
    assert dict(written.sizes) == {"time": 4, "latitude": 7, "longitude": 12}
    assert np.isfinite(written["2m_temperature"].values).all() and float(written["land_sea_mask"].max()) <= 1


def test_a_written_climatology_has_weatherbench_dimensions(netcdf: tuple[Path, Path], tmp_path: Path) -> None:
    file, root = netcdf
    path = tmp_path / "c.zarr"
    where = ["--what", "climatology", "--to", "zarr", "--output", path, "--root", root, "--grid", "12x7"]
    wanted = ["--variables", "2m_temperature", "temperature", "--start", "2020-01-01", "--stop", "2020-01-06"]
    assert run(file, *where, *wanted) == 0
    written, fields = open_zarr(path), weather()
    assert written["temperature"].dims == ("hour", "dayofyear", "level", "latitude", "longitude")
    assert written["hour"].values.tolist() == [0, 6, 12, 18] and written.sizes["dayofyear"] == 366
    channels = [Channel("2m_temperature"), Channel("temperature", 850.0)]
    found = Climatology(written, channels, named_grid("12x7")).read(np.array(["2020-01-03T06"], "M8[ns]"))
    hours = fields["2m_temperature"].sel(time=fields["time"].dt.hour == 6)
    assert found.shape == (1, 2, 7, 12) and written.attrs["frames"] == 24
    assert float(hours.min()) <= found[0, 0].min() <= found[0, 0].max() <= float(hours.max())
    assert run(file, *where, "--variables", "2m_temperature") == 0  # of the training period, in place of the former
    assert open_zarr(path).attrs["frames"] == 12


def test_stamps_with_missing_values_are_no_truth(tmp_path: Path) -> None:
    fields = weather()
    fields["2m_temperature"].values[5] = np.nan
    chosen = experiment(write_anemoi(tmp_path / "a.zarr", fields))
    prepared(chosen, tmp_path / "root")
    (tmp_path / "era5.yaml").write_text(loading.dump(chosen))
    line = ["--what", "truth", "--to", "zarr", "--output", tmp_path / "t.zarr", "--root", tmp_path / "root"]
    assert run(tmp_path / "era5.yaml", *line) == 0
    assert (
        np.setdiff1d(fields["time"].values, open_zarr(tmp_path / "t.zarr")["time"].values) == fields["time"].values[5]
    )


def test_truth_of_replays_layers_says_so_and_is_no_analysis(normalized_root: Path, tmp_path: Path) -> None:
    where = ["--to", "zarr", "--output", tmp_path / "t.zarr", "--root", normalized_root]
    assert run(TINY, "--what", "truth", *where) == 0
    written = open_zarr(tmp_path / "t.zarr")
    layered = [str(name) for name, array in written.items() if "level" in array.dims]
    assert layered and {written[name].attrs["vertical"] for name in layered} == {"native model layers"}
    with pytest.raises(UserError, match="lies on native model layers; an analysis has pressure levels"):
        open_source_at(str(tmp_path / "t.zarr"), "auto", "fv3")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--what", "truth", "--to", "netcdf"], "WeatherBench2 has its truth as zarr"),
        (
            ["--what", "truth", "--to", "zarr", "--variables", "vorticity"],
            "no variable vorticity is prepared; there are",
        ),
        (["--what", "truth", "--to", "zarr", "--variables", "land_sea_mask"], "do not change with time"),
        (["--what", "truth", "--to", "zarr", "--start", "2021"], "no stamps without missing values .* in this period"),
        (["--what", "climatology", "--to", "zarr", "--start", "2021"], "the climatology period holds no data"),
    ],
)
def test_what_cannot_be_written_is_refused(
    netcdf: tuple[Path, Path], tmp_path: Path, words: list[str], told: str
) -> None:
    file, root = netcdf
    with pytest.raises(UserError, match=told):
        run(file, *words, "--output", tmp_path / "t.zarr", "--root", root)
    assert not (tmp_path / "t.zarr").exists()


def test_a_store_has_no_truth_of_its_own_and_others_are_not_overwritten(
    netcdf: tuple[Path, Path], tmp_path: Path
) -> None:
    file, root = netcdf
    with pytest.raises(UserError, match="is of an experiment, and .* is no experiment's file"):
        run(tmp_path / "f.zarr", "--what", "truth", "--to", "zarr", "--output", tmp_path / "t.zarr")
    xr.Dataset({"a": 1}).to_netcdf(tmp_path / "mine")
    with pytest.raises(UserError, match="is there already"):
        run(file, "--what", "truth", "--to", "zarr", "--output", tmp_path / "mine", "--root", root)
