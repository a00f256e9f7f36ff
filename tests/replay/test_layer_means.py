"""Thick layers: means of native ones between interfaces, weighted by their thickness."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphufs.config import loading
from graphufs.data.selection import select
from graphufs.errors import UserError
from graphufs.replay.layer_means import LayerMeans
from graphufs.replay.source import ReplayStore, open_store
from graphufs.storage.paths import Paths
from tests.conftest import TINY
from tests.support.experiments import experiment
from tests.support.lookalike import Weather, build_atmosphere, hybrid_levels

SIXTEEN = tuple(range(200, 1001, 50))
"""The interfaces of graph-ufs's prototype P2."""
VARIABLES = ("tmp", "delz", "pressfc", "ugrd10m", "dswrf_avetoa", "land_static", "hgtsfc_static")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ReplayStore:
    path = tmp_path_factory.mktemp("store") / "fv3.zarr"
    build_atmosphere(path, count=3, variables=VARIABLES, latitudes=4, longitudes=8)
    return open_store(str(path), "fv3")


def of_layers(store: ReplayStore, stamp: np.datetime64) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """The native layers between each two of the nearest native interfaces, their temperature and thickness."""
    ak, bk, pfull = hybrid_levels()
    native = (ak + bk * 1e5) / 100
    edges = [native[np.abs(native - wanted).argmin()] for wanted in SIXTEEN]
    groups = [
        np.flatnonzero((pfull > top) & (pfull < bottom)) for top, bottom in zip(edges[:-1], edges[1:], strict=True)
    ]
    weather = Weather(store.latitude, store.longitude)
    return groups, *(weather.field(name, stamp).astype(np.float64) for name in ("tmp", "delz"))


def test_sixteen_layers_are_the_weighted_means_of_the_native_ones_between_them(store: ReplayStore) -> None:
    means, stamps = LayerMeans(store, SIXTEEN), store.times[1:]
    groups, temperature, thickness = of_layers(store, stamps[1])
    assert sorted(np.concatenate(groups)) == list(range(min(groups[0]), 127))  # each layer once, down to the ground
    found, depth = (means.read(name, stamps)[1] for name in ("tmp", "delz"))
    for level, layers in enumerate(groups):
        expected = np.average(temperature[layers], axis=0, weights=thickness[layers])
        np.testing.assert_allclose(found[level], expected, rtol=1e-6)
        np.testing.assert_allclose(depth[level], thickness[layers].sum(axis=0), rtol=1e-6)
    assert found.dtype == np.float32 and means.levels("pfull").shape == (16,)
    np.testing.assert_allclose(means.levels("pfull"), np.arange(225, 1000, 50), atol=8)


def test_some_levels_alone_are_the_same(store: ReplayStore) -> None:
    means = LayerMeans(store, SIXTEEN)
    whole, some = means.read("tmp", store.times[:1]), means.read("tmp", store.times[:1], np.array([15, 3]))
    np.testing.assert_array_equal(some, whole[:, [15, 3]])
    np.testing.assert_array_equal(means.read("pressfc", store.times[:1]), store.read("pressfc", store.times[:1]))
    one, all_of_it = (means.bytes_per_chunk_row("tmp", levels) for levels in (np.array([3]), None))
    assert 2 * store.bytes_per_chunk_row("tmp", np.array([60])) <= one <= all_of_it


def test_an_experiment_takes_the_middles_as_its_levels(store: ReplayStore) -> None:
    asked = experiment(store.url, levels=[], interfaces=SIXTEEN)
    assert asked.data.levels == tuple(range(225, 1000, 50))
    assert loading.parse(loading.dump(asked)) == asked
    chosen = select(LayerMeans(store, asked.data.interfaces), asked)
    assert [channel.level for channel in chosen.channels if channel.variable == "tmp"] == list(asked.data.levels)


def test_means_are_other_data_than_the_nearest_layers() -> None:
    nearest, means = (
        Paths(loading.load(TINY, settings), "nowhere").hashes
        for settings in (["data.levels=[500, 800]"], ["data.levels=[]", "data.interfaces=[400, 600, 1000]"])
    )
    assert {name for name in nearest if nearest[name] == means[name]} == {"world"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["data.interfaces=[400, 600]"], "data.levels must be the middles of data.interfaces .400, 600."),
        (["data.levels=[]", "data.interfaces=[600, 400]"], "are 600, 400; give at least two, ascending"),
        (["data.levels=[]", "data.interfaces=[600]"], "give at least two"),
        (["data.levels=[]", "data.interfaces=[1, 2]", "data.source.component=mom6"], "the source is of the ocean"),
    ],
)
def test_interfaces_that_make_no_layers_are_refused(settings: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        loading.load(TINY, settings)


def test_a_store_that_cannot_make_them_is_refused(store: ReplayStore, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no layer between the interfaces 500 and 500.5 hPa"):
        LayerMeans(store, [500, 500.5, 600])
    path = build_atmosphere(tmp_path / "fv3.zarr", count=2, variables=("tmp", "pressfc"), latitudes=4, longitudes=8)
    with pytest.raises(UserError, match="has no delz, which weights the means"):
        LayerMeans(open_store(str(path), "fv3"), SIXTEEN)
