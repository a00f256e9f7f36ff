"""The same fields in all layouts are the same data, and what is wrong with a layout is said."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from graphufs.cli.main import app
from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.data.dataset import PreparedData
from graphufs.data.manifest import Manifest
from graphufs.data.prepare import run as prepare
from graphufs.errors import UserError
from graphufs.sources.kinds import open_source_at
from graphufs.storage.paths import Paths
from tests.support.analyses import (
    LATITUDE,
    LEVELS,
    delivered,
    weather,
    write_anemoi,
    write_data_store,
    write_former_data_store,
    write_grib,
    write_weatherbench,
)

VARIABLES = ("mean_sea_level_pressure", "2m_temperature", "temperature", "geopotential")
REAL = Path(__file__).parents[3] / "shared/data"
KINDS = {
    "weatherbench2": "weatherbench2",
    "netcdf": "cds",
    "former-netcdf": "cds",
    "grib": "cds",
    "anemoi": "anemoi",
}
"""The layouts, by what they are called here: the kind of each."""


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("cfgrib")
    folder, fields = tmp_path_factory.mktemp("layouts"), weather()
    return {
        "weatherbench2": write_weatherbench(folder / "era5.zarr", fields),
        "netcdf": write_data_store(folder / "netcdf", fields),
        "former-netcdf": write_former_data_store(folder / "former", fields),
        "grib": write_grib(folder / "era5.grib", fields),
        "anemoi": write_anemoi(folder / "anemoi.zarr", fields),
    }


def settings(url: Path, **source: str) -> dict[str, object]:
    return {
        "name": "analysis",
        "data": {
            "source": {"url": str(url), **source},
            "inputs": [*VARIABLES, "geopotential_at_surface", "land_sea_mask", "year_progress_sin"],
            "targets": list(VARIABLES),
            "forcings": ["year_progress_sin"],
            "levels": [500, 850],
            "training": {"start": "2020-01-01T00", "end": "2020-01-03T18"},
            "validation": {"start": "2020-01-04T00", "end": "2020-01-04T18"},
            "evaluation": {"start": "2020-01-05T00", "end": "2020-01-06T18"},
        },
        "model": {"mesh_size": 1, "latent_size": 4, "message_steps": 1},
        "normalization": {"weights": "area"},
        "training": {"batch_size": 2, "stages": [{"name": "one", "updates": 2}]},
        "forecast": {"lead_time": "12h", "every": "12h"},
    }


def experiment(url: Path, **source: str) -> Experiment:
    return Experiment.model_validate(settings(url, **source))


def prepared(chosen: Experiment, root: Path) -> Path:
    prepare(chosen, root, progress=lambda event: None, should_stop=lambda: False)
    return Paths(chosen, root).data


def digests(folder: Path) -> dict[str, str]:
    parts = [*(folder / "segments").rglob("*"), *(folder / "static").rglob("*")]
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in parts if file.is_file()
    }


def test_the_same_fields_are_prepared_to_the_same_bytes(stores: dict[str, Path], tmp_path: Path) -> None:
    made = {name: prepared(experiment(url), tmp_path / name) for name, url in stores.items()}
    expected = digests(made["weatherbench2"])
    assert len(expected) > 3
    for name, folder in made.items():
        assert digests(folder) == expected, name
        data = PreparedData.open(folder)
        assert data.on_pressure_levels and data.valid.all()
        assert [channel.native for channel in data.channels] == [None, 500.0, 850.0, None, 500.0, 850.0]
        manifest = Manifest.read(folder)
        assert manifest is not None and set(manifest.header.source) >= {*VARIABLES, "latitude", "level"}, name


@pytest.mark.parametrize("name", KINDS)
def test_any_places_are_read_and_a_kind_may_be_named(stores: dict[str, Path], name: str) -> None:
    fields, source = weather(), open_source_at(str(stores[name]), KINDS[name], "fv3")
    levels = source.levels("level").tolist()
    assert sorted(levels) == list(LEVELS) and np.array_equal(source.latitude, LATITUDE)
    stamps, at = source.times[[13, 2, 7]], np.array([levels.index(850), levels.index(300)])
    found = source.read("temperature", stamps, at)
    assert np.array_equal(found, fields["temperature"].sel(time=stamps, level=[850, 300]).values)
    # by Replay's name too
    assert np.array_equal(
        source.read("geopotential", stamps, at[:1])[:, 0], fields["geopotential"].values[[13, 2, 7], 2]
    )
    assert np.array_equal(source.read("tmp2m", stamps), fields["2m_temperature"].sel(time=stamps).values)
    assert np.array_equal(source.read("land_static"), fields["land_sea_mask"].values)


def test_a_changed_source_is_noticed(stores: dict[str, Path], tmp_path: Path) -> None:
    fields = weather()
    for name, write in (("grib", write_grib), ("anemoi", write_anemoi)):
        place = tmp_path / (f"{name}.grib" if name == "grib" else name)
        chosen = experiment(write(place, fields))
        prepared(chosen, tmp_path / f"root-{name}")
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        write(place, fields.isel(latitude=slice(None, None, 2)))
        with pytest.raises(UserError, match="has changed since .*: the type, attributes or values of latitude"):
            prepared(chosen, tmp_path / f"root-{name}")


def test_a_source_may_grow_by_files(tmp_path: Path) -> None:
    fields = weather()
    folder = write_data_store(tmp_path / "netcdf", fields.isel(time=slice(0, 20)))
    content = settings(folder)
    content["data"]["evaluation"] = {"start": "2020-01-05T00", "end": "2020-01-05T18"}
    first = prepared(Experiment.model_validate(content), tmp_path / "root")
    later = write_data_store(tmp_path / "later", fields.isel(time=slice(20, None)))
    for file in later.iterdir():
        file.rename(folder / f"later-{file.name}")
    assert prepared(experiment(folder), tmp_path / "root") == first
    data = PreparedData.open(first)
    assert data.stamps.size == 24 and data.valid.all()


def test_a_kind_that_a_store_is_not_is_refused(stores: dict[str, Path], tmp_path: Path) -> None:
    for url, kind, told in (
        (stores["anemoi"], "cds", "no files at"),
        (stores["weatherbench2"], "anemoi", "no store of anemoi.*it has no data, dates, latitudes, longitudes"),
        (tmp_path / "nothing", "anemoi", "cannot open the source"),
        (tmp_path / "*.nc", "auto", "no files at"),
    ):
        with pytest.raises(UserError, match=told):
            open_source_at(str(url), kind, "fv3")
    for name, url in stores.items():
        with pytest.raises(UserError, match=r"leave data\.source\.component out"):
            open_source_at(str(url), KINDS[name], "mom6")


def test_stores_that_do_not_name_their_dimensions_are_found_out(tmp_path: Path) -> None:
    source = open_source_at(str(write_anemoi(tmp_path / "a.zarr", weather(days=1), named=False)), "auto", "fv3")
    assert "temperature" in source.names


def test_missing_dates_are_stamps_that_are_not_there(tmp_path: Path) -> None:
    fields = weather()
    path = write_anemoi(tmp_path / "anemoi.zarr", fields, missing=("2020-01-01T12:00:00", "2020-01-02T06:00:00"))
    source = open_source_at(str(path), "auto", "fv3")
    assert np.datetime64("2020-01-01T12") not in source.times and source.times.size == 22
    found = source.read("mean_sea_level_pressure", source.times[[2, 1]])
    assert np.array_equal(found, fields["mean_sea_level_pressure"].values[[3, 1]])
    result = prepare(experiment(path), tmp_path / "root", progress=lambda event: None, should_stop=lambda: False)
    assert result["missing"] == {"count": 2, "stamps": ["2020-01-01T12", "2020-01-02T06"]}


def test_fields_that_a_grib_file_lacks_are_missing_values(tmp_path: Path) -> None:
    path = write_grib(tmp_path / "a.grib", weather(days=1))
    from cfgrib.messages import FileStream

    offsets = [offset for offset, _ in FileStream(str(path)).items()]
    content = path.read_bytes()
    path.write_bytes(content[: offsets[4]] + content[offsets[5] :])  # the second level at the second time
    source = open_source_at(str(path), "auto", "fv3")
    found = source.read("temperature", source.times[:2], np.arange(3))
    assert np.isnan(found).all(axis=(2, 3)).tolist() == [[False] * 3, [False, True, False]]


@pytest.mark.parametrize("edition", [1, 2])
def test_missing_points_of_grib_are_nan(tmp_path: Path, edition: int) -> None:
    from tests.support.analyses import START, message

    values = np.linspace(270, 300, 19 * 36).reshape(19, 36)
    values[3, 5] = 9999.0
    keys = {"bitmapPresent": 1, "missingValue": 9999.0}
    (tmp_path / "a.grib").write_bytes(message("skt", values, START, None, keys, edition=edition))
    source = open_source_at(str(tmp_path / "a.grib"), "auto", "fv3")
    found = source.read("skin_temperature", source.times)
    assert np.argwhere(np.isnan(found)).tolist() == [[0, 15, 5]]  # from south to north


def test_preliminary_data_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_data_store(tmp_path / "cds", weather(days=2))
    with xr.open_dataset(folder / "single-1.nc") as opened:
        changed = opened.load().assign_coords(expver=("valid_time", ["0001", "0005", "0005", "0005"]))
    changed.to_netcdf(folder / "single-1.nc")
    open_source_at(str(folder), "auto", "fv3")
    assert "preliminary data (ERA5T, expver 0005) from 2020-01-02T06 on" in caplog.text
    caplog.clear()
    open_source_at(str(write_grib(tmp_path / "a.grib", weather(days=1), expver="0005")), "auto", "fv3")
    assert "preliminary data (ERA5T, expver 0005) from 2020-01-01T00 on" in caplog.text


def test_grib_and_netcdf_of_one_folder_go_together(tmp_path: Path) -> None:
    fields = weather(days=2)
    folder = write_data_store(tmp_path / "cds", fields)
    for file in folder.glob("pressure-*"):
        file.unlink()
    levels = fields[["temperature", "geopotential"]]
    for number in range(2):
        write_grib(folder / f"levels-{number}.grib", levels.isel(time=slice(4 * number, 4 * number + 4)))
    source = open_source_at(str(folder), "auto", "fv3")
    stamps, at = source.times[[6, 1]], np.array([list(source.levels("level")).index(500)])
    assert np.array_equal(source.read("temperature", stamps, at), fields["temperature"].values[[6, 1]][:, [1]])
    assert np.array_equal(source.read("geopotential_at_surface"), fields["geopotential_at_surface"].values)
    single = open_source_at(str(folder / "levels-1.grib"), "auto", "fv3")
    assert np.array_equal(single.times, fields["time"].values[4:])


def test_files_may_have_hours_in_turn_and_one_level(tmp_path: Path) -> None:
    fields, folder = weather(days=2), tmp_path / "cds"
    folder.mkdir()
    levels, _ = delivered(fields)
    for number in range(2):
        part = levels.isel(time=slice(number, None, 2)).sel(level=500).rename(time="valid_time", level="pressure_level")
        part.to_netcdf(folder / f"{number}.nc")
    source = open_source_at(str(folder), "auto", "fv3")
    found = source.read("temperature", source.times, np.array([0]))
    assert np.array_equal(found[:, 0], fields["temperature"].sel(level=500).values)
    assert source.levels("level").tolist() == [500.0]


@pytest.mark.skipif(not REAL.is_dir(), reason="the real fields are not here")
def test_real_files_of_the_data_store_are_the_same_as_in_weatherbench_layout() -> None:
    netcdf = open_source_at(str(REAL / "era5_msl_2025-12_cds_layout.nc"), "auto", "fv3")
    zarr = open_source_at(str(REAL / "era5_2025-12_2026-01_2p5deg.zarr.zip"), "auto", "fv3")
    stamps = netcdf.times[::31]
    assert stamps.size > 1 and np.isin(stamps, zarr.times).all() and np.array_equal(netcdf.latitude, zarr.latitude)
    name = "mean_sea_level_pressure"
    assert np.array_equal(netcdf.read(name, stamps), zarr.read(name, stamps))


def chained(url: Path, folder: Path) -> np.ndarray:
    """The forecasts of the whole chain on a source, step by step as from the command line."""
    content: dict[str, Any] = settings(url)
    content["data"] |= {"targets": ["temperature"], "levels": [850], "inputs": ["temperature", "land_sea_mask"]}
    content["data"] |= {"forcings": []}
    chosen, root = Experiment.model_validate(content), folder / "root"
    file = folder / "analysis.yaml"
    file.write_text(loading.dump(chosen))
    for step in ("check", "prepare", "normalize", "train", "forecast", "evaluate", "report"):
        assert app([step, str(file), "--root", str(root)], exit_on_error=False, result_action="return_value") == 0, step
    paths = Paths(chosen, root)
    assert paths.report.is_file()
    with xr.open_zarr(paths.forecasts) as forecasts:
        found: np.ndarray = forecasts["temperature"].values
    assert found.size and np.isfinite(found).all()
    return found


@pytest.fixture(scope="module")
def of_weatherbench(stores: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    return chained(stores["weatherbench2"], tmp_path_factory.mktemp("chain"))


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in KINDS if name != "weatherbench2"])
def test_the_whole_chain_trains_the_same_model_on_each_layout(
    stores: dict[str, Path], of_weatherbench: np.ndarray, name: str, tmp_path: Path
) -> None:
    assert np.array_equal(chained(stores[name], tmp_path), of_weatherbench)
