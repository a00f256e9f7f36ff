"""Analyses in WeatherBench2's layout: variants are read alike, and what cannot be meant is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from graphufs.errors import UserError
from graphufs.sources.kinds import open_source_at
from tests.support.analyses import LATITUDE, LEVELS, weather, write_weatherbench


@pytest.fixture(scope="module")
def fields() -> xr.Dataset:
    return weather(days=2)


def from_the_west(dataset: xr.Dataset) -> xr.Dataset:
    return dataset.assign_coords(longitude=(dataset["longitude"] + 180) % 360 - 180).sortby("longitude")


def in_celsius(dataset: xr.Dataset) -> xr.Dataset:
    return dataset.assign({"2m_temperature": (dataset["2m_temperature"] - 273.15).assign_attrs(units="degC")})


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("as published", lambda ds: ds.transpose("time", "level", "longitude", "latitude")),
        ("north first", lambda ds: ds.isel(latitude=slice(None, None, -1))),
        ("short names", lambda ds: ds.rename(latitude="lat", longitude="lon")),
        ("level first", lambda ds: ds.transpose("level", "latitude", "longitude", "time")),
        ("from west to east", from_the_west),
        ("Celsius", in_celsius),
        ("levels in Pa", lambda ds: ds.assign_coords(level=("level", 100 * ds.level.values, {"units": "Pa"}))),
        ("one member", lambda ds: ds.expand_dims(number=[0], axis=1)),
        ("orography at all times", lambda ds: ds.assign(land_sea_mask=ds.land_sea_mask.expand_dims(time=ds.time))),
    ],
)  # fmt: skip
def test_variants_are_read_alike(tmp_path: Path, fields: xr.Dataset, name: str, change: Callable) -> None:
    path = write_weatherbench(tmp_path / "era5.zarr", change(fields))
    source = open_source_at(str(path), "auto", "fv3")
    assert source.on_pressure_levels
    assert np.array_equal(source.latitude, LATITUDE)
    assert source.levels("level").tolist() == list(LEVELS)
    stamps = source.times[[5, 2]]
    for variable in map(str, fields.data_vars):
        facts = source.facts(variable)
        found = source.read(variable, stamps if facts.varies else None, np.array([2, 0]) if facts.vertical else None)
        wanted = fields[variable]
        wanted = wanted.sel(time=stamps) if facts.varies else wanted
        wanted = wanted.sel(level=[850, 300]) if facts.vertical else wanted
        if name == "Celsius":
            assert np.allclose(found, wanted.values, atol=1e-4)
        else:
            assert np.array_equal(found, wanted.values)


@pytest.mark.parametrize("file", ["era5.zarr.zip", "zarr3.zarr"])
def test_zipped_stores_and_those_of_format_3_are_read(tmp_path: Path, fields: xr.Dataset, file: str) -> None:
    path = write_weatherbench(tmp_path / file, fields, zarr_format=3 if file.startswith("zarr3") else 2)
    source = open_source_at(str(path), "auto", "fv3")
    found = source.read("mean_sea_level_pressure", source.times[3:4])
    assert np.array_equal(found, fields["mean_sea_level_pressure"].values[3:4])


def test_replays_names_are_those_of_the_same_quantities(tmp_path: Path, fields: xr.Dataset) -> None:
    source = open_source_at(str(write_weatherbench(tmp_path / "era5.zarr", fields)), "auto", "fv3")
    found = source.read("tmp", source.times[:1], np.array([1]))
    assert np.array_equal(found[:, 0], fields["temperature"].values[:1, 1])
    metres = fields["geopotential_at_surface"].values / 9.80665
    assert np.allclose(source.read("hgtsfc_static"), metres, rtol=1e-6)
    assert source.facts("hgtsfc_static").attributes["units"] == "m"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda ds: xr.concat([ds, ds], xr.Variable("number", [0, 1])), "holds 2 members along number"),
        (lambda ds: ds.assign_coords(time=[*ds.time.values[:-1], ds.time.values[-2]]), "comes twice"),
        (lambda ds: ds.isel(latitude=slice(5, 15)), "Set data.region to limited"),
        (lambda ds: ds.assign(t2m=ds["2m_temperature"]), "both are 2m_temperature"),
        (lambda ds: ds.isel(time=0, drop=True), "no dimension time"),
    ],
)
def test_what_cannot_be_one_analysis_is_refused(
    tmp_path: Path, fields: xr.Dataset, change: Callable, told: str
) -> None:
    path = write_weatherbench(tmp_path / "era5.zarr", change(fields))
    with pytest.raises(UserError, match=told):
        open_source_at(str(path), "weatherbench2", "fv3")


def test_an_analysis_is_of_the_atmosphere(tmp_path: Path, fields: xr.Dataset) -> None:
    path = write_weatherbench(tmp_path / "era5.zarr", fields)
    with pytest.raises(UserError, match=r"leave data\.source\.component out"):
        open_source_at(str(path), "weatherbench2", "mom6")


def test_values_in_other_units_without_a_word_are_refused(tmp_path: Path, fields: xr.Dataset) -> None:
    hectopascals = fields.assign(mean_sea_level_pressure=fields["mean_sea_level_pressure"] / 100)
    source = open_source_at(str(write_weatherbench(tmp_path / "era5.zarr", hectopascals)), "auto", "fv3")
    with pytest.raises(UserError, match=r"mean_sea_level_pressure .*accept_implausible"):
        source.read("mean_sea_level_pressure", source.times[:1])
