"""The look-alike stores have what the real ones have: names, dimensions, encodings, missing values."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from tests.support.lookalike import ATTRIBUTES, RD, START, Weather, build_atmosphere, gaussian_latitudes, hybrid_levels


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("all") / "fv3.zarr"
    return build_atmosphere(path, count=2, nan={"hgtsfc": ["1993-12-31T21"]})


def test_it_is_a_consolidated_store_of_format_2_chunked_by_stamp(everything: Path) -> None:
    metadata = json.loads((everything / ".zmetadata").read_text())["metadata"]
    assert metadata["tmp/.zarray"]["zarr_format"] == 2
    assert metadata["tmp/.zarray"]["chunks"] == [1, 127, 8, 16]
    assert metadata["pressfc/.zarray"]["chunks"] == [1, 8, 16]
    assert metadata["tmp/.zattrs"]["_ARRAY_DIMENSIONS"] == ["time", "pfull", "grid_yt", "grid_xt"]
    assert metadata["cftime/.zattrs"]["calendar"] == "julian"
    assert metadata["land_static/.zarray"]["dtype"] == "<i4"


def test_it_has_the_exact_levels_as_float32_and_latitudes_from_the_north(everything: Path) -> None:
    dataset = xr.open_zarr(everything, chunks=None, drop_variables=["cftime", "ftime"])
    assert dataset.pfull.dtype == np.float32
    assert [float(dataset.pfull[index]) for index in (43, 75, 126)] == [
        97.8232650756836,
        505.6520690917969,
        998.7807006835938,
    ]
    assert dataset.grid_yt[0] > dataset.grid_yt[-1]
    assert float(dataset.grid_xt[0]) == 0
    assert set(ATTRIBUTES) == set(dataset.data_vars)
    assert str(dataset.time.values[0]).startswith(START)


def test_levels_are_the_logarithmic_means_of_their_interfaces() -> None:
    ak, bk, pfull = hybrid_levels()
    half = (ak + 1e5 * bk) / 100
    mean = np.diff(half) / np.log(half[1:] / half[:-1])
    assert np.abs(mean / pfull - 1).max() < 2e-5


def test_its_fields_are_physical(everything: Path) -> None:
    dataset = xr.open_zarr(everything, chunks=None, drop_variables=["cftime", "ftime"]).isel(time=0)
    weather = Weather(gaussian_latitudes(64), np.arange(128) * 360 / 128)
    stamp = np.datetime64(START, "ns")
    assert 45000 < weather.field("pressfc", stamp).min() < 60000
    assert (dataset.delz < 0).all()
    assert (dataset.spfh == 0).any()
    assert (dataset.dswrf_avetoa == 0).any() and (dataset.dswrf_avetoa > 900).any()
    assert set(np.unique(weather.field("land", stamp))) == {0, 1, 2}
    assert np.allclose(dataset.dpres.sum("pfull") + 0.999, dataset.pressfc, rtol=1e-5)
    # delz is the hydrostatic thickness of what the store holds
    ak, bk, _ = hybrid_levels()
    half = ak[:, None, None] + bk[:, None, None] * dataset.pressfc.values.astype(np.float64)
    virtual = dataset.tmp.values * (1 + 0.6077 * dataset.spfh.values)
    expected = -RD / 9.80665 * virtual * np.diff(np.log(half), axis=0)
    assert np.allclose(dataset.delz, expected, rtol=1e-4)


def test_flawed_stamps_are_chunks_never_written(everything: Path) -> None:
    dataset = xr.open_zarr(everything, chunks=None, drop_variables=["cftime", "ftime"])
    assert np.isnan(dataset.hgtsfc.isel(time=1)).all() and not np.isnan(dataset.hgtsfc.isel(time=0)).any()
    assert not (everything / "hgtsfc" / "1.0.0").exists()
