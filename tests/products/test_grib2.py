"""GRIB2 written by ecCodes and read back by cfgrib: values to the packing's error, levels, members and steps keyed."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from graphufs.config.data import EMBEDDED
from graphufs.errors import UserError
from graphufs.grid.areas import gaussian_latitudes
from graphufs.replay.pressure_levels import replay_layers
from graphufs.vocabulary import cf
from tests.products.test_convert import LAYERS, LEADS, TIMES, convert, forecast

eccodes = pytest.importorskip("eccodes")
cfgrib = pytest.importorskip("cfgrib")

NAMES = {"t": "temperature", "sp": "surface_pressure", "t2m": "2m_temperature", "tp": "total_precipitation_3hr"}


def written(dataset: xr.Dataset, folder, **options) -> xr.Dataset:
    """The GRIB2 file of the first initial time, read back: one dataset of all kinds of levels."""
    convert(dataset, "grib2", folder / "out", **options)
    path = folder / "out" / "1995010106.grib2"
    parts = cfgrib.open_datasets(str(path), indexpath="")
    together = xr.merge(
        compat="no_conflicts",
        objects=[part.drop_vars(["surface", "heightAboveGround"], errors="ignore") for part in parts],
    )
    return together.rename({short: name for short, name in NAMES.items() if short in together}).load()


def messages(path) -> list[dict[str, object]]:
    wanted = ("shortName", "typeOfLevel", "stepRange", "gridType", "NV", "centre")
    found = []
    with path.open("rb") as file:
        while (message := eccodes.codes_grib_new_from_file(file)) is not None:
            there = [name for name in wanted if eccodes.codes_is_defined(message, name)]
            found.append({name: eccodes.codes_get(message, name) for name in there})
            eccodes.codes_release(message)
    return found


def check_values(back: xr.Dataset, dataset: xr.Dataset, level: str, bits: int = 16) -> None:
    first = dataset.isel(time=0).rename(level=level, prediction_timedelta="step")
    np.testing.assert_array_equal(back["step"], LEADS)
    assert back["time"].values == TIMES[0]
    for name in map(str, dataset):
        scale = 1000.0 if name == "total_precipitation_3hr" else 1.0
        order = first[name].transpose(*back[name].dims).sel(latitude=back["latitude"], method="nearest")
        if level in order.dims and level == "isobaricInhPa":
            order = order.sel({level: back[level]})
        differences = np.abs(back[name].values - order.values * scale)
        # a field's range in 2**bits steps, of which a value is half a step off at most
        dims = [back[name].dims.index(dim) for dim in ("latitude", "longitude")]
        spread = np.ptp(order.values * scale, axis=tuple(dims), keepdims=True)
        float32 = 2e-7 * np.abs(order.values * scale).max()
        assert (differences <= spread / 2**bits + float32).all(), name


@pytest.mark.parametrize("members", [0, 3])
def test_values_survive_and_layers_members_and_steps_are_keyed(tmp_path, members):
    made = forecast(members=members)
    back = written(made, tmp_path)
    assert list(back["hybrid"].values) == [layer + 1 for layer in LAYERS.values()]
    if members:
        assert list(back["number"].values) == [0, 1, 2]
    check_values(back, made, "hybrid")
    listed = messages(tmp_path / "out" / "1995010106.grib2")
    assert len(listed) == 4 * 5 * (members or 1)
    assert {one["NV"] for one in listed if one["typeOfLevel"] == "hybrid"} == {2 * 128}
    assert {one["stepRange"] for one in listed if one["shortName"] == "tp"} == {"3-6", "9-12", "15-18", "21-24"}
    assert {one["gridType"] for one in listed} == {"regular_gg"}


def test_the_coefficients_of_interfaces_are_in_each_hybrid_message(tmp_path):
    convert(forecast()[["temperature"]], "grib2", tmp_path / "one.grib2", period=(TIMES[0], TIMES[0]))
    with (tmp_path / "one.grib2").open("rb") as file:
        message = eccodes.codes_grib_new_from_file(file)
        pv = eccodes.codes_get_array(message, "pv")
        eccodes.codes_release(message)
    layers = replay_layers()
    np.testing.assert_allclose(pv, np.concatenate([layers.a * 100, layers.b]), rtol=1e-6, atol=1e-9)


def test_pressure_levels_sigma_levels_and_even_grids_are_what_they_are(tmp_path):
    even = forecast(cf.PRESSURE, latitude=np.linspace(-90, 90, 9))
    check_values(written(even, tmp_path / "p"), even, "isobaricInhPa")
    listed = messages(tmp_path / "p" / "out" / "1995010118.grib2")
    assert {one["gridType"] for one in listed} == {"regular_ll"}
    sigma = forecast().assign_attrs(source=EMBEDDED)
    sigma = sigma.assign_coords(native_level=("level", [525.0, 955.0]))
    check_values(back := written(sigma, tmp_path / "s", bits=24), sigma, "sigma", bits=24)
    np.testing.assert_allclose(back["sigma"], [0.525, 0.955])


def test_missing_values_stay_missing(tmp_path):
    made = forecast()
    made["2m_temperature"][0, 1, 2, 3] = np.nan
    back = written(made, tmp_path)
    assert np.isnan(back["2m_temperature"].values).sum() == 1 and np.isnan(back["2m_temperature"].values[1, 2, 3])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda made: made.rename(surface_pressure="delz"), "no parameter here for delz; leave it out"),
        (
            lambda made: made.assign_coords(latitude=gaussian_latitudes(32)[::4]),
            "neither Gaussian nor evenly spaced.*--grid",
        ),
        (lambda made: made.assign_coords(native_level=("level", [1.0, 2.0])), "no layers of Replay's atmosphere"),
    ],
)
def test_what_grib2_has_no_name_for_is_refused(tmp_path, change, words):
    with pytest.raises(UserError, match=words):
        convert(change(forecast()), "grib2", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_infinite_values_and_more_members_than_a_byte_counts_are_refused(tmp_path):
    with pytest.raises(UserError, match="has infinite values, which GRIB2 cannot hold"):
        convert(forecast() * np.inf, "grib2", tmp_path / "out")
    with pytest.raises(UserError, match="counts 255 members at most, and there are 256"):
        convert(forecast(members=1).isel(time=[0], number=[0] * 256, drop=True), "grib2", tmp_path / "out")
    assert not (tmp_path / "out").exists()
