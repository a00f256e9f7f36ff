"""Parity with official WeatherBench2 in regridding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import KDTree

from graphufs.grid.grid import Grid
from graphufs.grid.regridding import Method, Regridder, latitude_overlap, longitude_overlap
from tests.golden.weatherbench2_sets import pytest_generate_tests

__all__ = ["pytest_generate_tests"]

FLOAT32 = 3e-5
"""The official regridding computes in float32."""


class Case:
    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            self.content = {name: file[name] for name in file.files}
        self.source, self.target = (
            Grid(self.content[f"{side}_lat"], self.content[f"{side}_lon"]) for side in ("src", "dst")
        )

    def regridded(self, method: Method) -> np.ndarray:
        return Regridder(self.source, self.target, method)(self.content["field"])


@pytest.mark.parametrize("method", ["conservative", "bilinear"])
def test_fields_are_the_official_ones(official_regridding: Path, method: Method) -> None:
    case = Case(official_regridding)
    ours, theirs = case.regridded(method), case.content[method]
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    np.testing.assert_allclose(ours, theirs, rtol=FLOAT32, atol=3e-6 * np.nanmax(np.abs(theirs)))


def test_the_nearest_values_are_the_official_ones_where_one_point_is_nearest(official_regridding: Path) -> None:
    case = Case(official_regridding)

    def on_sphere(grid: Grid) -> np.ndarray:
        lat, lon = np.meshgrid(np.deg2rad(grid.latitude), np.deg2rad(grid.longitude), indexing="ij")
        return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], -1).reshape(-1, 3)

    near = KDTree(on_sphere(case.source)).query(on_sphere(case.target), k=2)[0]
    alone = (near[:, 1] > near[:, 0] + 1e-9).reshape(case.target.shape)
    assert alone.mean() > 0.5
    ours, theirs = case.regridded("nearest"), case.content["nearest"]
    np.testing.assert_array_equal(ours[:, alone], theirs[:, alone])


def test_conservative_weights_are_the_official_ones(official_regridding: Path) -> None:
    case = Case(official_regridding)
    rows = latitude_overlap(case.source.latitude, case.target.latitude).toarray()
    columns = longitude_overlap(case.source.longitude, case.target.longitude).toarray()
    np.testing.assert_allclose(rows, case.content["lat_weights"], rtol=0, atol=3e-5)
    np.testing.assert_allclose(columns, case.content["lon_weights"], rtol=0, atol=3e-5)
