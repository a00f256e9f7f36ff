"""A released model as a checkpoint: what is taken from which file, and what is refused with which words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import xarray as xr

from graphufs.cli.exchange.released import FromAnalysis
from graphufs.deepmind.npz import read_checkpoint, write_checkpoint
from graphufs.deepmind.released import STATISTICS_FILES, import_checkpoint, released_emulator
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.errors import UserError
from graphufs.forecast.from_analysis import Analysis

CASE = Path(__file__).parents[1] / "golden" / "graphcast13" / "g1"
FILE = CASE / "checkpoint.npz"


@pytest.fixture(scope="module")
def emulator() -> ReplayEmulator:
    return released_emulator(FILE, CASE)


def test_architecture_task_and_grid_are_the_files(emulator: ReplayEmulator) -> None:
    model, data = emulator.experiment.model, emulator.experiment.data
    assert (model.mesh_size, model.latent_size, model.message_steps, model.hidden_layers) == (2, 16, 2, 1)
    assert model.mesh2grid_ties == "reference"
    assert (data.time_step, data.input_frames, data.tisr_period, len(data.levels)) == (6, 2, 1, 13)
    assert "total_precipitation_6hr" in data.targets and "total_precipitation_6hr" not in data.inputs
    assert (emulator.domain.latitude[0], emulator.domain.latitude[-1]) == (-90, 90)
    assert (emulator.domain.latitude.size, emulator.domain.longitude.size) == (19, 36)
    assert set(emulator.domain.static) == {"geopotential_at_surface", "land_sea_mask"}


def test_statistics_are_deepminds_in_the_order_of_our_levels(emulator: ReplayEmulator) -> None:
    for kind, name in STATISTICS_FILES.items():
        with xr.open_dataset(CASE / name) as official:
            for variable, values in getattr(emulator.statistics, kind).items():
                expected = (
                    official[variable].sortby("level") if "level" in official[variable].dims else official[variable]
                )
                np.testing.assert_array_equal(values, np.atleast_1d(expected.values))


def changed(folder: Path, section: str, **values: Any) -> Path:
    content = read_checkpoint(FILE)
    kept = {key: value for key, value in {**getattr(content, section), **values}.items() if value is not None}
    write_checkpoint(folder / "changed.npz", replace(content, **{section: kept}))
    return folder / "changed.npz"


@pytest.mark.parametrize(
    ("section", "values", "words"),
    [
        ("model_config", {"resolution": None}, "has no model_config:resolution"),
        ("model_config", {"resolution": 7.0}, "7 degrees, which does not divide 180"),
        ("model_config", {"resolution": 0.0}, "0 degrees, which does not divide 180"),
        ("model_config", {"resolution": 360.0}, "360 degrees, which does not divide 180"),
        ("model_config", {"resolution": 1e-6}, "resolution is 1e-06 degrees; 0.1 and coarser are read"),
        ("model_config", {"resolution": "fine"}, "resolution is 'fine', no number of degrees"),
        ("task_config", {"input_duration": f"{'9' * 5000}h"}, "input_duration is '9999"),
        ("task_config", {"input_variables": "temperature"}, "input_variables is 'temperature', no list of names"),
        ("task_config", {"input_variables": (1, 2)}, r"input_variables is \(1, 2\), no list of names"),
        ("task_config", {"pressure_levels": ("a",) * 13}, "wanted are pressures in hPa"),
        ("task_config", {"pressure_levels": (float("nan"),) * 13}, "wanted are pressures in hPa"),
        ("model_config", {"latent_size": 32}, "latent_size is 32, but the parameters are those of a network with 16"),
        ("model_config", {"hidden_layers": 2}, "hidden_layers is 2, but the parameters .* with 1"),
        ("model_config", {"mesh_size": 9}, "model.mesh_size"),
        ("task_config", {"input_duration": "13h"}, "input_duration is '13h'"),
        ("task_config", {"pressure_levels": (500, 1000)}, "does not fit its parameters"),
    ],
)
def test_a_file_that_is_no_complete_model_is_refused(tmp_path: Path, section: str, values: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        released_emulator(changed(tmp_path, section, **values), CASE)


FIRST = "grid2mesh_gnn/~_networks_builder/encoder_edges_grid2mesh_mlp/~/linear_0"


@pytest.mark.parametrize(
    ("parameter", "change", "words"),
    [
        (":w", lambda w: np.full_like(w, np.nan), "no finite numbers of float32"),
        (":w", lambda w: np.full(w.shape, 1e300), "no finite numbers of float32"),
        (":w", lambda w: w.astype(int), "is of int64, no floating-point numbers"),
        (":w", lambda w: w.ravel(), r"has the shape \(64,\); wanted are 2 dimensions"),
        (":w", lambda w: w[:0], r"has the shape \(0, 16\)"),
        (":w", lambda w: w.T.copy(), r"has the shape \(16, 4\), and in a network of these sizes it has \(4, 16\)"),
        (":b", lambda b: b[:7], r"has the shape \(7,\), and in a network of these sizes it has \(16,\)"),
    ],
)
def test_parameters_that_make_no_network_are_refused(
    parameter: str, change: Callable[[np.ndarray], np.ndarray], words: str, tmp_path: Path
) -> None:
    content = read_checkpoint(FILE)
    key = FIRST + parameter
    parameters = {**content.parameters, key: change(content.parameters[key])}
    write_checkpoint(tmp_path / "changed.npz", replace(content, parameters=parameters))
    with pytest.raises(UserError, match=f"changed.npz: the parameter {FIRST}{parameter} .*{words}"):
        released_emulator(tmp_path / "changed.npz", CASE)


def test_parameters_of_other_types_are_those_of_float32(tmp_path: Path, emulator: ReplayEmulator) -> None:
    content = read_checkpoint(FILE)
    for kind in ("f8", "f2"):
        parameters = {key: values.astype(kind) for key, values in content.parameters.items()}
        write_checkpoint(tmp_path / "changed.npz", replace(content, parameters=parameters))
        leaves = jax.tree.leaves(released_emulator(tmp_path / "changed.npz", CASE).network)
        assert {leaf.dtype for leaf in leaves} == {np.dtype("f4")}


def test_a_forcing_that_cannot_be_computed_is_refused(tmp_path: Path) -> None:
    task = read_checkpoint(FILE).task_config
    forcings = ("sea_surface_temperature", *task["forcing_variables"][1:])
    with pytest.raises(UserError, match="needs the forcing sea_surface_temperature, which cannot be computed"):
        released_emulator(changed(tmp_path, "task_config", forcing_variables=forcings), CASE)


def test_statistics_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the statistics .*mean_by_level.nc"):
        released_emulator(FILE, tmp_path)
    for name in STATISTICS_FILES.values():
        with xr.open_dataset(CASE / name) as official:
            official.isel(level=slice(1, None)).to_netcdf(tmp_path / name)
    with pytest.raises(UserError, match="has no level 50, which the model has"):
        released_emulator(FILE, tmp_path)
    with xr.open_dataset(CASE / STATISTICS_FILES["std"]) as official:
        official.drop_vars("2m_temperature").to_netcdf(tmp_path / STATISTICS_FILES["std"])
    for kind in ("mean", "diffs_std"):
        (tmp_path / STATISTICS_FILES[kind]).write_bytes((CASE / STATISTICS_FILES[kind]).read_bytes())
    with pytest.raises(UserError, match="has no 2m_temperature, which the model predicts"):
        released_emulator(FILE, tmp_path)


def test_nothing_is_overwritten_and_no_folder_guessed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists already"):
        import_checkpoint(FILE, CASE, tmp_path)
    with pytest.raises(UserError, match="there is no folder"):
        import_checkpoint(FILE, CASE, tmp_path / "no" / "where")


def analysis(emulator: ReplayEmulator) -> xr.Dataset:
    """Fields that tell their place and level apart."""
    domain, times = emulator.domain, np.array(["2020-06-01T00", "2020-06-01T06"], "datetime64[ns]")
    place = domain.latitude[:, None] + domain.longitude / 1000
    levels = np.array(emulator.experiment.data.levels)
    with_levels = {channel.variable for channel in domain.channels if channel.level is not None}
    fields: dict[str, Any] = {name: (("latitude", "longitude"), place) for name in domain.static}
    for name in {channel.variable for channel in domain.channels} & set(emulator.experiment.data.inputs):
        dims = ("time", *(["level"] if name in with_levels else []), "latitude", "longitude")
        field = place + 1e3 * levels[:, None, None] if name in with_levels else place
        fields[name] = (dims, np.stack([field, field]))
    coordinates = {"time": times, "level": levels, "latitude": domain.latitude, "longitude": domain.longitude}
    return xr.Dataset(fields, coordinates)


def test_an_analysis_is_read_by_coordinate_in_any_order(emulator: ReplayEmulator, tmp_path: Path) -> None:
    plain = analysis(emulator)
    plain.to_zarr(tmp_path / "plain.zarr", zarr_format=2)
    turned = plain.isel(latitude=slice(None, None, -1), level=slice(None, None, -1)).roll(
        longitude=18, roll_coords=True
    )
    turned = turned.assign_coords(longitude=(turned.longitude + 180) % 360 - 180)
    turned.transpose("longitude", "latitude", "level", "time").to_zarr(tmp_path / "turned.zarr", zarr_format=2)
    frames = [Analysis(tmp_path / name, emulator).frame(plain.time.values[1]) for name in ("plain.zarr", "turned.zarr")]
    np.testing.assert_array_equal(frames[0], frames[1])
    only_predicted = [channel.variable == "total_precipitation_6hr" for channel in emulator.domain.channels]
    np.testing.assert_array_equal(np.isnan(frames[0]).all(axis=(1, 2)), only_predicted)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda one: one.drop_vars("temperature"), "temperature"),
        (lambda one: one.isel(latitude=slice(1, None)), "has no latitude -90"),
        (lambda one: one.isel(longitude=slice(None, -1)), "has no longitude 350"),
        (lambda one: one.isel(level=slice(1, None)), "has no level 50"),
        (lambda one: one.where(one.latitude > -85), "has no value at 36 points"),
        (lambda one: one.assign({"2m_temperature": one["temperature"]}), "has the dimensions time, level, latitude"),
    ],
)
def test_an_analysis_that_lacks_something_is_refused(
    emulator: ReplayEmulator, tmp_path: Path, change: Any, words: str
) -> None:
    change(analysis(emulator)).to_zarr(tmp_path / "lacking.zarr", zarr_format=2)
    with pytest.raises(UserError, match=words):
        Analysis(tmp_path / "lacking.zarr", emulator).frame(np.datetime64("2020-06-01T06", "ns"))


def test_what_a_forecast_from_an_analysis_is_not_told_it_asks_for(tmp_path: Path) -> None:
    import_checkpoint(FILE, CASE, tmp_path / "checkpoint")
    whole = {"analysis": str(tmp_path), "initial_time": ("2020-06-01T06",), "output": tmp_path / "out.zarr"}
    for changes, words in (
        ({"analysis": None}, "needs all of --analysis"),
        ({"initial_time": ("yesterday",)}, "'yesterday' is not a time"),
        ({"initial_time": ("2020-06-01T06", "2020-06-01T06")}, "one of them twice"),
        ({"lead_time": "7h"}, "not a multiple of the checkpoint's time step, 6h"),
        ({"lead_time": "long"}, "'long' is not a duration"),
        ({"output": tmp_path}, "exists already"),
    ):
        with pytest.raises(UserError, match=words):
            FromAnalysis(**{**whole, **changes}).run(tmp_path / "checkpoint", as_json=True)
