"""What is wrong with the files of the data store, GRIB and stores of anemoi is said in one line, before it is used."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from graphufs.data.selection import check
from graphufs.errors import UserError
from graphufs.sources.kinds import open_source_at
from tests.sources.test_layouts import experiment, prepared
from tests.support.analyses import START, message, weather, write_anemoi, write_data_store, write_grib

DAYS = 2


def refusal(path: Path, kind: str = "auto") -> str:
    """The line with which a source is refused: when it is opened, or when fields of all its variables are read."""
    with pytest.raises(UserError) as caught:
        source = open_source_at(str(path), kind, "fv3")
        for name in source.names:
            facts = source.facts(name)
            levels = np.arange(source.levels(facts.vertical).size) if facts.vertical else None
            source.read(name, source.times if facts.varies else None, levels)
    told = str(caught.value)
    assert "\n" not in told and len(told) < 600
    return told


def rewritten(file: Path, change: Callable[[xr.Dataset], xr.Dataset], to: str | None = None) -> None:
    """A NetCDF file as it is after a change, in its place or beside it."""
    with xr.open_dataset(file, decode_cf=False) as opened:
        changed = change(opened.load())
    changed.to_netcdf(file.with_name(to or file.name))


def two_versions(dataset: xr.Dataset) -> xr.Dataset:
    dataset = dataset.drop_vars(["expver", "number"])
    return xr.concat([dataset, dataset * np.nan], xr.Variable("expver", [1, 5]), data_vars="all")


def once_more(dataset: xr.Dataset) -> xr.Dataset:
    return dataset.isel(valid_time=[0, 1, 1, 2])


NETCDF = [
    ("two versions along a dimension", "single-1.nc", two_versions, None, ["2 versions along expver", "combine_first"]),
    (
        "stamps in two files",
        "single-1.nc",
        lambda ds: ds,
        "zz.nc",
        ["both in", "single-1.nc and in", "zz.nc", "keep it once"],
    ),
    ("a stamp twice", "single-1.nc", once_more, None, ["at 2020-01-02T06 is twice in", "single-1.nc"]),
    (
        "another grid",
        "single-1.nc",
        lambda ds: ds.isel(latitude=slice(1, None)),
        None,
        ["another latitude (18 values)"],
    ),
    ("other levels", "pressure-1.nc", lambda ds: ds.isel(pressure_level=[0, 1]), None, ["another level (2 values)"]),
    ("other times", "single-1.nc", lambda ds: ds.isel(valid_time=[0, 1]), None, ["another time"]),
    (
        "units that differ",
        "single-1.nc",
        lambda ds: ds.assign(msl=(ds.msl / 100).assign_attrs(units="hPa")),
        None,
        ["mean_sea_level_pressure is in 'hPa' in", "must agree"],
    ),
    (
        "another kind of units",
        "single-*.nc",
        lambda ds: ds.assign(t2m=ds.t2m.assign_attrs(units="Pa")),
        None,
        ["'Pa', which cannot be converted to K"],
    ),
    ("units without a word", "single-*.nc", lambda ds: ds.assign(msl=ds.msl / 100), None, ["accept_implausible"]),
    (
        "fixed fields that differ",
        "single-1.nc",
        lambda ds: ds.assign(lsm=1 - ds.lsm),
        None,
        ["land_sea_mask should be the same at all times, but differs between"],
    ),
    (
        "fixed fields that change",
        "single-1.nc",
        lambda ds: ds.assign(lsm=ds.lsm * (ds.valid_time > ds.valid_time[0])),
        None,
        ["lsm of", "should be the same at all times"],
    ),
    (
        "a level that is not named",
        "pressure-*.nc",
        lambda ds: ds.isel(pressure_level=0, drop=True),
        None,
        ["t of", "lies on a level, but the file has no"],
    ),
    (
        "members",
        "single-1.nc",
        lambda ds: xr.concat([ds.drop_vars("number")] * 2, xr.Variable("number", [0, 1])),
        None,
        ["holds 2 members along number"],
    ),
    (
        "rows that are not even",
        "*.nc",
        lambda ds: ds.isel(latitude=[0, 1, 2, *range(8, 19)]),
        None,
        ["the latitudes of", "leave out"],
    ),
    (
        "model levels",
        "pressure-*.nc",
        lambda ds: ds.rename(pressure_level="model_level"),
        None,
        ["t of", "no dimension or coordinate of pressure levels"],
    ),
]


@pytest.mark.parametrize(("file", "change", "to", "told"), [one[1:] for one in NETCDF], ids=[one[0] for one in NETCDF])
def test_netcdf(tmp_path: Path, file: str, change: Callable, to: str | None, told: list[str]) -> None:
    folder = write_data_store(tmp_path / "cds", weather(days=DAYS))
    for path in list(folder.glob(file)):
        rewritten(path, change, to)
    line = refusal(folder)
    assert all(word in line for word in told), line


def test_files_that_are_none(tmp_path: Path) -> None:
    folder = write_data_store(tmp_path / "cds", weather(days=DAYS))
    content = (folder / "single-0.nc").read_bytes()
    for cut in (0, 100, len(content) // 2):
        (folder / "single-0.nc").write_bytes(content[:cut])
        assert "cannot read" in (line := refusal(folder)) or "could not be read" in line
    assert "cannot read" in refusal_of_bytes(tmp_path / "a.grib", b"no GRIB at all")
    shutil.make_archive(str(tmp_path / "download"), "zip", folder)
    assert "is a zip file of NetCDF or GRIB; unpack it" in refusal(tmp_path / "download.zip")


def refusal_of_bytes(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return refusal(path)


@pytest.mark.parametrize("kind", ["cds", "anemoi"])
def test_nothing_is_prepared_of_a_source_that_is_refused(tmp_path: Path, kind: str) -> None:
    if kind == "cds":
        source = write_data_store(tmp_path / "cds", weather())
        rewritten(source / "single-1.nc", lambda ds: ds.assign(msl=ds.msl / 100))
    else:
        source = write_anemoi(tmp_path / "a.zarr", weather().map(lambda array: array * 1e3))
    with pytest.raises(UserError, match="accept_implausible"):
        prepared(experiment(source), tmp_path / "root")
    assert not [path for path in (tmp_path / "root").rglob("*") if path.is_file() and not path.name.endswith("lock")]


def test_a_variable_or_level_that_is_not_there_is_named(tmp_path: Path) -> None:
    folder = write_data_store(tmp_path / "cds", weather(days=6))
    for file in folder.glob("single-*"):
        rewritten(file, lambda ds: ds.drop_vars("t2m"))
    with pytest.raises(UserError, match="has no variable '2m_temperature'"):
        check(open_source_at(str(folder), "auto", "fv3"), experiment(folder))
    path = write_anemoi(tmp_path / "a.zarr", weather(days=6).sel(level=[300, 500]))
    with pytest.raises(UserError, match="850"):
        check(open_source_at(str(path), "auto", "fv3"), experiment(path))


FIELD = weather(days=1)["temperature"].values[0, 0, ::-1]


def fields(*keys: dict[str, object], name: str = "t", level: int | None = 500) -> bytes:
    """A message for each of the keys' sets, else alike."""
    return b"".join(message(name, FIELD, START, level, own) for own in keys)


GRIB = [
    ("a field twice", lambda: fields({}, {}), ["t at 500 hPa of", "comes twice at 2020-01-01T00; keep one"]),
    ("two versions", lambda: fields({}, {"expver": "0005"}), ["comes twice", "of the versions (expver) 0001 and 0005"]),
    (
        "members",
        lambda: fields({"localDefinitionNumber": 1, "number": 1}, {"localDefinitionNumber": 1, "number": 2}),
        ["members along number"],
    ),
    (
        "hybrid levels",
        lambda: fields({"typeOfLevel": "hybrid", "level": 100}),
        ["levels of the type hybrid", "grib_copy"],
    ),
    ("isentropic levels", lambda: fields({"typeOfLevel": "theta", "level": 320}), ["levels of the type theta"]),
    (
        "forecasts for one time",
        lambda: fields({"stepUnits": 1, "startStep": 6, "endStep": 6, "dataDate": 20191231, "dataTime": 1800}, {}),
        ["comes twice at 2020-01-01T00"],
    ),
    ("the first half of a message", lambda: fields({}, {})[:-600], ["cannot read", "fetch it again"]),
    ("two heights", lambda: fields({"level": 2}, {"level": 10}, name="t2m", level=None), ["lies at 2 and 10"]),
]


@pytest.mark.parametrize(("content", "told"), [one[1:] for one in GRIB], ids=[one[0] for one in GRIB])
def test_grib(tmp_path: Path, content: Callable[[], bytes], told: list[str]) -> None:
    pytest.importorskip("cfgrib")
    line = refusal_of_bytes(tmp_path / "a.grib", content())
    assert all(word in line for word in told), line


def test_reduced_grids_of_grib(tmp_path: Path) -> None:
    pytest.importorskip("cfgrib")
    import eccodes

    made = eccodes.codes_grib_new_from_samples("reduced_gg_pl_32_grib2")
    line = refusal_of_bytes(tmp_path / "a.grib", eccodes.codes_get_message(made))
    eccodes.codes_release(made)
    assert "are no grid of latitudes and longitudes" in line


def test_grib_without_cfgrib_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_grib(tmp_path / "a.grib", weather(days=1))
    monkeypatch.setitem(sys.modules, "cfgrib", None)
    assert "pip install 'graphufs[grib]'" in refusal(path)


def cut_dates(path: Path) -> None:
    group = zarr.open_group(path)
    dates = group["dates"][:-1]
    del group["dates"]
    group.create_array("dates", data=dates).attrs["_ARRAY_DIMENSIONS"] = ["date"]


def set_attribute(**attributes: object) -> Callable[[Path], None]:
    return lambda path: zarr.open_group(path).attrs.update(attributes)


def moved(path: Path) -> None:
    zarr.open_group(path)["latitudes"][3] = 41.0


def named(old: str, new: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        attributes = zarr.open_group(path).attrs
        attributes["variables"] = [new if name == old else name for name in attributes["variables"]]

    return change


def twice(path: Path) -> None:
    dates = zarr.open_group(path)["dates"]
    dates[3] = dates[2]


ANEMOI = [
    ("cells that are no grid", moved, ["cells of", "are no grid of latitudes and longitudes"]),
    (
        "model levels",
        set_attribute(variables_metadata={"t_500": {"mars": {"levtype": "ml"}}}),
        ["t_500", "levels of the type ml"],
    ),
    ("a name too few", set_attribute(variables=["t_500"]), ["has 1 names", "a name for each variable"]),
    ("a date too few", cut_dates, ["has 7 dates for 8 fields"]),
    ("a date twice", twice, ["comes twice"]),
    ("missing dates that are none", set_attribute(missing_dates=["yesterday"]), ["missing_dates of", "cannot be read"]),
    ("levels that differ", named("t_500", "t_700"), ["z of", "is on the levels 300, 500, 850, and t on 300, 700, 850"]),
    ("a quantity twice", named("lsm", "t2m"), ["is 2m_temperature, which another variable is too"]),
]


@pytest.mark.parametrize(("change", "told"), [one[1:] for one in ANEMOI], ids=[one[0] for one in ANEMOI])
def test_anemoi(tmp_path: Path, change: Callable[[Path], None], told: list[str]) -> None:
    path = write_anemoi(tmp_path / "a.zarr", weather(days=DAYS))
    change(path)
    line = refusal(path, "anemoi")
    assert all(word in line for word in told), line


def test_members_of_anemoi(tmp_path: Path) -> None:
    assert "holds 2 members along ensemble" in refusal(write_anemoi(tmp_path / "a.zarr", weather(days=1), members=2))
