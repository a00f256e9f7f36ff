"""Stores that are not what they should be: put right while reading, or refused by `check` and `prepare` alike."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from graphufs.config.experiment import Experiment
from graphufs.data.dataset import PreparedData
from graphufs.data.preflight import preflight
from graphufs.data.prepare import run
from graphufs.errors import UserError
from graphufs.steps import never_stop, no_progress
from graphufs.storage.paths import Paths
from tests.support.experiments import experiment
from tests.support.lookalike import Weather, build_atmosphere, rewrite

TMP, WIND, PRESSURE = "tmp", "ugrd10m", "pressfc"
LATITUDE, LONGITUDE = "grid_yt", "grid_xt"
MIDDLE = 5
"""A stamp that a sample of few does not look at."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five days, 6-hourly, in one chunk a variable."""
    path = build_atmosphere(
        tmp_path_factory.mktemp("base") / "fv3.zarr",
        count=20,
        step_hours=6,
        variables=(TMP, WIND, PRESSURE, "land_static"),
        time_coordinates=False,
    )
    for name in (TMP, WIND, PRESSURE):
        rewrite(path, name)
    return path


@pytest.fixture
def copy(base: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(base, tmp_path / "fv3.zarr"))


def chosen(store: Path, **data: Any) -> Experiment:
    return experiment(
        store,
        **{
            "training": ("1993-12-31T18", "1994-01-02T18"),
            "validation": ("1994-01-03T00", "1994-01-03T18"),
            "evaluation": ("1994-01-04T00", "1994-01-05T12"),
            "lead_time": "12h",
            "inputs": [PRESSURE, WIND, TMP, "land_static"],
            "targets": [PRESSURE, WIND, TMP],
            "forcings": [],
            **data,
        },
    )


def prepare(wanted: Experiment, root: Path) -> PreparedData:
    run(wanted, root, progress=no_progress, should_stop=never_stop)
    return PreparedData.open(Paths(wanted, root).data)


def truth(data: PreparedData) -> np.ndarray:
    """What must have been prepared, made without any store."""
    weather = Weather(data.latitude, data.longitude)
    return np.stack(
        [
            np.concatenate(
                [
                    weather.field(PRESSURE, stamp)[None],
                    weather.field(TMP, stamp, [43, 75, 126]),
                    weather.field(WIND, stamp)[None],
                ]
            )
            for stamp in data.stamps
        ]
    )


def packed(values: np.ndarray) -> np.ndarray:
    return np.round((values - 250) / 0.01).astype(np.int16)


def rolled(store: Path, columns: np.ndarray, longitude: np.ndarray) -> None:
    """The same fields with their columns elsewhere."""
    rewrite(store, LONGITUDE, lambda values: longitude)
    for name in (TMP, WIND, PRESSURE, "land_static"):
        rewrite(store, name, lambda values: values[..., columns])


def transposed(store: Path) -> None:
    rewrite(store, TMP, lambda values: values.transpose(3, 1, 0, 2), (LONGITUDE, "pfull", "time", LATITUDE))


EAST = np.arange(16) * 22.5
PUT_RIGHT: dict[str, Callable[[Path], None]] = {
    "integers packed with a scale and an offset": lambda store: rewrite(
        store, TMP, packed, scale_factor=0.01, add_offset=250.0
    ),
    "packed, with a fill value": lambda store: rewrite(
        store, TMP, packed, scale_factor=0.01, add_offset=250.0, _FillValue=-32768
    ),
    "float64": lambda store: rewrite(store, TMP, lambda values: values.astype(np.float64)),
    "Celsius": lambda store: rewrite(store, TMP, lambda values: values - np.float32(273.15), units="degC"),
    "Fahrenheit": lambda store: rewrite(
        store, TMP, lambda values: (values.astype(np.float64) - 273.15) * 1.8 + 32, units="degrees_fahrenheit"
    ),
    "hectopascals": lambda store: rewrite(store, PRESSURE, lambda values: values / 100.0, units="hPa"),
    "knots": lambda store: rewrite(store, WIND, lambda values: values / (1852 / 3600), units="kt"),
    "kilometres an hour": lambda store: rewrite(store, WIND, lambda values: values * 3.6, units="km h-1"),
    "a label that says nothing": lambda store: rewrite(store, WIND, units="xxx"),
    "no units": lambda store: rewrite(store, WIND, units=None),
    "latitudes in radians": lambda store: rewrite(store, LATITUDE, np.deg2rad, units="radians"),
    "longitudes in radians": lambda store: rewrite(store, LONGITUDE, np.deg2rad, units="rad"),
    "from -180 on": lambda store: rolled(store, np.roll(np.arange(16), 8), np.sort((EAST + 180) % 360 - 180)),
    "westward": lambda store: rolled(store, np.arange(16)[::-1], EAST[::-1]),
    "westward from 180 on": lambda store: rolled(
        store, np.roll(np.arange(16), 7)[::-1], np.sort((EAST + 179) % 360 - 179)[::-1]
    ),
    "levels in Pa": lambda store: rewrite(store, "pfull", lambda values: values * 100, units="Pa"),
    "dimensions in another order": transposed,
}


@pytest.mark.parametrize("quirk", PUT_RIGHT)
def test_what_can_be_put_right_is(quirk: str, copy: Path, tmp_path: Path) -> None:
    PUT_RIGHT[quirk](copy)
    wanted = chosen(copy)
    assert preflight(wanted, tmp_path)["missing stamps"] == "none"
    data = prepare(wanted, tmp_path)
    assert data.valid.all()
    assert np.allclose(data.longitude, EAST, rtol=0, atol=1e-9)
    tolerance = 0.006 if "pack" in quirk else 2e-4
    found, expected = data.read(data.stamps), truth(data)
    assert np.abs(found[:, 1:] - expected[:, 1:]).max() < tolerance
    assert np.abs(found[:, 0] - expected[:, 0]).max() < 0.02  # of 1e5 Pa
    assert data.facts[TMP].attributes["units"] == "K"
    assert np.allclose([c.native for c in data.channels if c.variable == TMP], [97.8233, 505.652, 998.781], atol=1e-3)
    assert np.array_equal(data.static["land_static"], Weather(data.latitude, data.longitude).is_land)


@pytest.mark.parametrize("value", [-9999.0, 9.969209968386869e36, 1e20, -1e34, np.inf, 1e300])
def test_what_stands_for_a_missing_value_is_one(value: float, copy: Path, tmp_path: Path) -> None:
    def spoil(values: np.ndarray) -> np.ndarray:
        values = values.astype(np.float64)
        values[MIDDLE, 75, 2, 3] = value
        return values

    rewrite(copy, TMP, spoil)
    data = prepare(chosen(copy), tmp_path)
    assert np.flatnonzero(~data.valid).tolist() == [MIDDLE]
    assert np.isnan(data.read(data.stamps[[MIDDLE]])[0, 2, 2, 3])


def kelvin_with(value: float, kind: str = "f4") -> Callable[[np.ndarray], np.ndarray]:
    """Temperatures, one of which is another."""
    return lambda values: at((MIDDLE, 75, 2, 3), value)(values.astype(kind))


def packed_with(value: int, scale: float = 0.01) -> Callable[[np.ndarray], np.ndarray]:
    return lambda values: at((MIDDLE, 75, 2, 3), value)(np.round((values - 250) / scale).astype(np.int16))


INVALID: dict[str, Callable[[Path], None]] = {
    "above valid_range": lambda s: rewrite(s, TMP, kelvin_with(371.5), valid_range=[100.0, 371.0]),
    "below valid_range": lambda s: rewrite(s, TMP, kelvin_with(99.0), valid_range=[100, 371]),
    "above valid_max": lambda s: rewrite(s, TMP, kelvin_with(390.0, "f8"), valid_max=389.9),
    "below valid_min": lambda s: rewrite(s, TMP, kelvin_with(0.0), valid_min=[1.0]),
    "beyond a bound that is infinite": lambda s: rewrite(s, TMP, kelvin_with(399.0), valid_min=1, valid_max=350),
    "within bounds of Celsius": lambda s: rewrite(
        s, TMP, lambda v: at((MIDDLE, 75, 2, 3), 100.0)(v - np.float32(273.15)), units="degC", valid_range=[-150, 99.9]
    ),
    "packed, above packed bounds": lambda s: rewrite(
        s, TMP, packed_with(12_001), scale_factor=0.01, add_offset=250.0, valid_range=[-20_000, 12_000]
    ),
    "packed, below bounds that are not": lambda s: rewrite(
        s, TMP, packed_with(-15_001), scale_factor=0.01, add_offset=250.0, valid_range=[100.0, 390.0]
    ),
    "packed by a negative scale": lambda s: rewrite(
        s, TMP, packed_with(-12_001, -0.01), scale_factor=-0.01, add_offset=250.0, valid_range=[-12_000, 20_000]
    ),
    "packed, with a missing value": lambda s: rewrite(
        s, TMP, packed_with(12_001), scale_factor=0.01, add_offset=250.0, missing_value=12_001
    ),
    "with a missing value": lambda s: rewrite(s, TMP, kelvin_with(333.0), missing_value=333.0),
    "with missing values": lambda s: rewrite(s, TMP, kelvin_with(333.0), missing_value=[333.0, 444.0]),
}


@pytest.mark.parametrize("kind", INVALID)
def test_what_the_store_calls_invalid_is_missing(kind: str, copy: Path, tmp_path: Path) -> None:
    INVALID[kind](copy)
    data = prepare(chosen(copy), tmp_path)
    assert np.flatnonzero(~data.valid).tolist() == [MIDDLE]
    found, expected = data.read(data.stamps), truth(data)
    assert np.isnan(found).sum() == 1 and np.isnan(found[MIDDLE, 2, 2, 3])
    assert np.nanmax(np.abs(found[:, 1:] - expected[:, 1:])) < 0.006
    assert not {"valid_range", "valid_min", "valid_max"} & data.facts[TMP].attributes.keys()


def test_what_lies_on_a_bound_is_valid(copy: Path, tmp_path: Path) -> None:
    low, high = (float(f(xr.open_zarr(copy)[TMP].values)) for f in (np.min, np.max))
    rewrite(copy, TMP, valid_range=[low, high])
    assert prepare(chosen(copy), tmp_path).valid.all()
    whole = np.round((np.array([low, high]) - 250) / 0.01).astype(int).tolist()
    rewrite(copy, TMP, packed, scale_factor=0.01, add_offset=250.0, valid_range=whole)
    assert prepare(chosen(copy), tmp_path / "packed").valid.all()


def test_the_missing_value_of_a_mask_of_integers_is_a_hole(copy: Path, tmp_path: Path) -> None:
    rewrite(copy, "land_static", lambda v: at((1, 1), 1)(v.astype("i2")) * 1, missing_value=1)
    for step in (preflight, prepare):
        with pytest.raises(UserError, match="land_static .* no value at"):
            step(chosen(copy), tmp_path)


def test_bounds_of_a_variable_whose_values_are_accepted_are_passed_over(copy: Path, tmp_path: Path) -> None:
    rewrite(copy, TMP, valid_range=[0.0, 1.0])
    with pytest.raises(UserError, match="missing values at all of"):
        preflight(chosen(copy), tmp_path)
    assert prepare(chosen(copy, accept_implausible=[TMP]), tmp_path).valid.all()


def at(place: Any, value: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Values with another one at a place."""

    def change(values: np.ndarray) -> np.ndarray:
        values = values.copy()
        values[place] = value
        return values

    return change


def cut(store: Path, rows: slice = slice(None), columns: slice = slice(None)) -> None:
    """A part of the grid."""
    dataset = xr.open_zarr(store, chunks=None).isel({LATITUDE: rows, LONGITUDE: columns}).drop_encoding().load()
    shutil.rmtree(store)
    dataset.to_zarr(store, zarr_format=2, consolidated=True)


def no_row_at_the_equator(store: Path) -> None:
    dataset = xr.open_zarr(store, chunks=None).isel({LATITUDE: [0, 1, 2, 4, 5, 6, 7]}).drop_encoding().load()
    shutil.rmtree(store)
    dataset.to_zarr(store, zarr_format=2, consolidated=True)


def metadata(store: Path, change: Callable[[dict[str, Any]], object]) -> None:
    together = json.loads((store / ".zmetadata").read_text())
    change(together["metadata"])
    (store / ".zmetadata").write_text(json.dumps(together))


def no_chunks(store: Path) -> None:
    metadata(store, lambda files: files[f"{TMP}/.zarray"].update(chunks=[0, 127, 8, 16]))


def a_dimension_twice(store: Path) -> None:
    twice = ["time", "pfull", "time", LONGITUDE]
    metadata(store, lambda files: files[f"{TMP}/.zattrs"].update(_ARRAY_DIMENSIONS=twice))


def fifo(store: Path) -> None:
    chunk = next(path for path in sorted((store / TMP).iterdir()) if not path.name.startswith("."))
    chunk.unlink()
    os.mkfifo(chunk)


def text_in_time(store: Path) -> None:
    rewrite(store, "time", lambda values: np.array([f"day {n}" for n in range(20)], "S8"), _FillValue=None)


def time_attributes(**attributes: Any) -> Callable[[Path], None]:
    return lambda store: rewrite(store, "time", lambda values: np.arange(20) * 6, _FillValue=None, **attributes)


def times(values: Any) -> Callable[[Path], None]:
    return lambda store: rewrite(
        store, "time", lambda _: np.asarray(values), _FillValue=None, units="hours since 1993-12-31T18"
    )


HOURS = np.arange(20) * 6
REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    # latitudes
    "a latitude is no number": (lambda s: rewrite(s, LATITUDE, at(3, np.nan)), "latitude .* at place 3 is nan"),
    "latitudes shuffled": (lambda s: rewrite(s, LATITUDE, lambda v: v[[3, 1, 0, 2, 5, 4, 7, 6]]), "rise or fall"),
    "a latitude twice": (lambda s: rewrite(s, LATITUDE, at(3, 52.812941)), "rise or fall|rises|do not"),
    "beyond the pole": (lambda s: rewrite(s, LATITUDE, lambda v: v * 1.3), r"within \[-90, 90\]"),
    "radians without a word": (lambda s: rewrite(s, LATITUDE, np.deg2rad), "look like radians"),
    "a row is missing": (no_row_at_the_equator, "leave out"),
    "one hemisphere": (lambda s: cut(s, rows=slice(0, 4)), "data.region to limited"),
    "latitudes counted to the south": (lambda s: rewrite(s, LATITUDE, units="degrees_south"), "positive to the north"),
    "latitudes in kelvin": (lambda s: rewrite(s, LATITUDE, units="K"), "latitude .* 'K'"),
    # longitudes
    "all longitudes zero": (lambda s: rewrite(s, LONGITUDE, lambda v: v * 0), "different places"),
    "0 and 360": (lambda s: rewrite(s, LONGITUDE, lambda v: np.linspace(0, 360, 16)), "different places"),
    "longitudes shuffled": (lambda s: rewrite(s, LONGITUDE, lambda v: v[np.r_[3, 0:3, 4:16]]), "rise or fall"),
    "longitudes in radians without a word": (lambda s: rewrite(s, LONGITUDE, np.deg2rad), "look like radians"),
    "longitudes that count to the west": (lambda s: rewrite(s, LONGITUDE, units="degree_W"), "positive to the east"),
    "no longitudes": (lambda s: cut(s, columns=slice(0, 0)), "no longitudes at all"),
    "no latitudes": (lambda s: cut(s, rows=slice(0, 0)), "no latitudes at all"),
    "half of the globe": (lambda s: cut(s, columns=slice(0, 8)), "data.region to limited"),
    "unevenly around the globe": (lambda s: rewrite(s, LONGITUDE, at(3, 70.0)), "data.region to limited"),
    # stamps
    "stamps shuffled": (times(HOURS[[0, 2, 1, *range(3, 20)]]), "increase strictly"),
    "a stamp twice": (times(HOURS[[0, 0, *range(2, 20)]]), "1993-12-31T18:00 comes twice"),
    "stamps falling": (times(HOURS[::-1]), "increase strictly"),
    "a stamp without time": (times(np.where(HOURS == 60, np.nan, HOURS)), "no value at place 10"),
    "before nanoseconds": (times(HOURS - 10_000_000), "years"),
    "360 days a year": (time_attributes(units="hours since 1994-02-30", calendar="360_day"), "calendar '360_day'"),
    "no leap days": (time_attributes(units="hours since 1993-12-31", calendar="noleap"), "calendar 'noleap'"),
    "a calendar of one's own": (time_attributes(units="hours since 1993-12-31", calendar="mayan"), "calendar 'mayan'"),
    "fortnights": (time_attributes(units="fortnights since yesterday"), "fortnights since yesterday"),
    "another time zone by its name": (time_attributes(units="hours since 1993-12-31 18:00 JST"), "'JST' is no part"),
    "the year 0": (time_attributes(units="hours since 0000-01-01"), "in the years 0 to 0"),
    "a date that is none": (time_attributes(units="hours since 1993-13-45"), "cannot be read"),
    "no unit of time": (time_attributes(units=None), "not a unit since a date"),
    "text for times": (text_in_time, "no numbers"),
    # levels
    "levels in Pa that say mb": (lambda s: rewrite(s, "pfull", lambda v: v * 100), "must lie within 0 to 1200"),
    "levels shuffled": (lambda s: rewrite(s, "pfull", lambda v: np.r_[v[1], v[0], v[2:]]), "levels .* rise or fall"),
    "a level is no number": (lambda s: rewrite(s, "pfull", at(7, np.nan)), "level .* at place 7 is nan"),
    "levels in metres": (lambda s: rewrite(s, "pfull", units="m"), "level .* 'm'"),
    # values
    "unknown units": (lambda s: rewrite(s, TMP, units="bananas"), "tmp .* 'bananas'.*accept_implausible"),
    "units of something else": (lambda s: rewrite(s, PRESSURE, units="m"), "pressfc .* 'm', .*accept_implausible"),
    "units that are a mapping": (lambda s: rewrite(s, LATITUDE, units={"a": 1}), "latitude .*'a': 1.*no units"),
    "units that take for ever": (lambda s: rewrite(s, TMP, units="K" + "**9" * 9), "tmp .* one digit"),
    "Celsius without a word": (lambda s: rewrite(s, TMP, lambda v: v - 273.15), "tmp .* K at .*within 80 to 400 K"),
    "hPa without a word": (lambda s: rewrite(s, PRESSURE, lambda v: v / 100), "pressfc .* Pa at 1993-12-31T18"),
    "raw integers": (lambda s: rewrite(s, TMP, packed), "tmp .* K at"),
    "a dimension twice": (a_dimension_twice, "conflicting sizes"),
    "chunks of no length": (no_chunks, "tmp claims chunks"),
    "a FIFO for a chunk": (fifo, "tmp .* FIFO, not a file"),
    "a scale that is text": (lambda s: rewrite(s, TMP, packed, scale_factor="a hundredth"), "tmp|scale_factor"),
    "bounds of three numbers": (lambda s: rewrite(s, TMP, valid_range=[1, 2, 3]), "tmp .* valid_range .*2 numbers"),
    "bounds of words": (lambda s: rewrite(s, TMP, valid_min="cold"), "tmp .* valid_min 'cold'"),
    "a bound that is a mapping": (lambda s: rewrite(s, TMP, valid_max={"a": 1}), "tmp .* valid_max"),
    "bounds the wrong way round": (lambda s: rewrite(s, TMP, valid_range=[300, 200]), "tmp .* from 300 to 200"),
    "valid values of nothing": (lambda s: rewrite(s, TMP, valid_range=[1, 2]), "tmp .* missing values at all of"),
    "complex numbers": (lambda s: rewrite(s, TMP, lambda v: v.astype(np.complex64)), "complex64, not real numbers"),
    "truth values": (lambda s: rewrite(s, TMP, lambda v: v > 250), "holds bool, not real numbers"),
    "nothing at all": (lambda s: rewrite(s, TMP, lambda v: v * np.nan), "missing values at all of"),
    "nothing but fill values": (lambda s: rewrite(s, WIND, lambda v: v * 0 - 9999), "missing values at all of"),
    "a level that never changes": (
        lambda s: rewrite(s, TMP, at((slice(None), 75), 250.0)),
        "tmp at level 505.6521 of .* is the same at all of",
    ),
    "a hole in the mask": (lambda s: rewrite(s, "land_static", lambda v: at((1, 1), np.nan)(v + 0.0)), "no value at 1"),
    "a mask of percents": (lambda s: rewrite(s, "land_static", lambda v: v * 100), "land_static .* is 100"),
}  # fmt: skip


@pytest.mark.parametrize("flaw", REFUSED)
def test_what_cannot_be_put_right_is_refused_before_anything_is_written(flaw: str, copy: Path, tmp_path: Path) -> None:
    spoil, told = REFUSED[flaw]
    spoil(copy)
    wanted, root = chosen(copy), tmp_path / "root"
    for step in (preflight, prepare):
        with pytest.raises(UserError, match=told) as refusal, warnings.catch_warnings():
            warnings.simplefilter("error")  # which would be more lines
            step(wanted, root)
        assert "\n" not in str(refusal.value)
    assert not [path for path in root.rglob("*") if path.is_file() and path.name != ".lock"]


def test_a_part_of_the_globe_is_prepared_where_it_is_meant(copy: Path, tmp_path: Path) -> None:
    cut(copy, rows=slice(0, 4), columns=slice(2, 9))
    data = prepare(chosen(copy, region="limited"), tmp_path)
    assert np.array_equal(data.read(data.stamps)[:, 0], xr.open_zarr(copy)[PRESSURE].values[: data.stamps.size])


def test_an_outlier_that_no_sample_saw_stops_the_reading_until_it_is_accepted(copy: Path, tmp_path: Path) -> None:
    rewrite(copy, WIND, at((MIDDLE, 2, 3), 800.0))
    preflight(chosen(copy), tmp_path)
    told = r"ugrd10m .* is 800 m/s at 1994-01-02T00; .* within -150 to 150 m/s.*name ugrd10m in data.accept_implausible"
    with pytest.raises(UserError, match=told):
        prepare(chosen(copy), tmp_path)
    accepted = chosen(copy, accept_implausible=[WIND])
    assert Paths(accepted, tmp_path).hashes == Paths(chosen(copy), tmp_path).hashes
    assert prepare(accepted, tmp_path).read(np.array(["1994-01-02T00"], "datetime64[ns]")).max() > 0


def test_units_that_cannot_be_read_may_be_accepted(copy: Path, tmp_path: Path) -> None:
    rewrite(copy, TMP, units="bananas")
    data = prepare(chosen(copy, accept_implausible=[TMP]), tmp_path)
    assert np.array_equal(data.read(data.stamps), truth(data))


def test_an_acceptance_of_nothing_is_named(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="accept_implausible names tpm"):
        preflight(chosen(copy, accept_implausible=["tpm"]), tmp_path)
