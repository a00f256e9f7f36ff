"""Statistics of transformed variables: those of the transformed field, and never mistaken for the plain one's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from graphufs.config.experiment import Experiment
from graphufs.data.dataset import PreparedData
from graphufs.errors import UserError
from graphufs.grid.areas import row_areas
from graphufs.normalization.statistics import STORES, Statistics
from graphufs.normalization.transforms import statistics_names
from graphufs.replay.times import stamps_in
from graphufs.storage.paths import Paths
from tests.normalization.test_step import normalize
from tests.support.experiments import daily_experiment, ocean_experiment
from tests.support.lookalike import build_atmosphere, hybrid_levels

VARIABLES = ("spfh", "pressfc", "delz", "dswrf_avetoa", "hgtsfc_static")
TRANSFORMS = {
    "spfh": {"floor": 1e-6},  # zero near the poles
    "pressfc": {},
    "dswrf_avetoa": {"floor": 1.0},  # zero at night
    "hgtsfc_static": {"floor": 10.0},  # zero at sea
}


@pytest.fixture(scope="module")
def humid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty days with humidity, in which exact zeros are, one stamp a day."""
    return build_atmosphere(tmp_path_factory.mktemp("humid") / "fv3.zarr", count=80, step_hours=24, variables=VARIABLES)


def humid_experiment(store: Path, transforms: dict[str, Any], **settings: Any) -> Experiment:
    return daily_experiment(
        store,
        **{
            "inputs": ["spfh", "pressfc", "hgtsfc_static", "dswrf_avetoa"],
            "targets": ["spfh", "pressfc"],
            "levels": [500, 1000],
            "transforms": transforms,
            **settings,
        },
    )


def made(chosen: Experiment, root: Path) -> tuple[Statistics, PreparedData]:
    normalize(chosen, root)
    data = PreparedData.open(Paths(chosen, root).data)
    names = (*data.variables, *data.static)
    stored_as = statistics_names(chosen.data.transforms, names)
    folder = Paths(chosen, root).statistics()
    return Statistics.open(folder, names, sorted(chosen.data.levels), stored_as=stored_as), data


def expected(values: np.ndarray, weights: np.ndarray) -> tuple[float, float, float]:
    """Mean, deviation and deviation of differences of [time, lat, lon], what is NaN at the first time left out."""
    there, values = np.isfinite(values[0]), values.astype(np.float64)[:, np.isfinite(values[0])]
    weights = weights[:, there]
    mean = np.average(values, weights=weights)
    between, differences = (weights[1:] + weights[:-1]) / 2, np.diff(values, axis=0)
    shift = np.average(differences, weights=between)
    return (
        float(mean),
        float(np.sqrt(np.average((values - mean) ** 2, weights=weights))),
        float(np.sqrt(np.average((differences - shift) ** 2, weights=between))),
    )


def compare(statistics: Statistics, name: str, index: int, exact: tuple[float, float, float]) -> None:
    for kind, value in zip(STORES, exact, strict=True):
        assert getattr(statistics, kind)[name][index] == pytest.approx(value, rel=1e-11, abs=1e-12), (name, kind)


@pytest.mark.parametrize("weights", ["none", "volume"])
def test_they_equal_plain_passes_over_the_logarithm_with_zeros_in_the_field(
    humid: Path, tmp_path: Path, weights: str
) -> None:
    chosen = humid_experiment(humid, TRANSFORMS, normalization={"weights": weights})
    statistics, data = made(chosen, tmp_path)
    frames = data.read(stamps_in(chosen.data.training, 24)).astype(np.float64)
    area = row_areas(data.latitude, data.parent_latitude) if weights == "volume" else np.ones(8)
    for name in ("spfh", "pressfc", "dswrf_avetoa"):
        floor, part = chosen.data.transforms[name].floor, data.variable_slice(name)
        for index in range(part.stop - part.start):
            field = frames[:, part.start + index]
            weight = np.broadcast_to(area[:, None], field.shape)
            if weights == "volume" and name == "spfh":
                weight = weight * np.abs(frames[:, data.variable_slice("delz").start + index])
            compare(statistics, name, index, expected(np.log(np.maximum(field, floor)), weight))
        if name != "pressfc":
            assert frames[:, part].min() == 0  # or this would test nothing
    height = np.log(np.maximum(data.static["hgtsfc_static"].astype(np.float64), 10.0))
    weight = np.broadcast_to(area[:, None], height.shape)
    assert statistics.mean["hgtsfc_static"][0] == pytest.approx(np.average(height, weights=weight), rel=1e-12)


def test_land_stays_out_and_thickness_weighs_untransformed_even_where_it_is_transformed(
    ocean: Path, tmp_path: Path
) -> None:
    transforms = {"temp": {"floor": 12.0}, "ho": {}}
    settings: dict[str, Any] = {"inputs": ["temp", "ho"], "targets": ["temp", "ho"], "transforms": transforms}
    chosen = ocean_experiment(ocean, normalization={"weights": "volume"}, **settings)
    statistics, data = made(chosen, tmp_path)
    frames = data.read(stamps_in(chosen.data.training, 6)).astype(np.float64)
    assert np.isnan(frames).any()
    area = row_areas(data.latitude, data.parent_latitude)[:, None]
    temp, ho = data.variable_slice("temp"), data.variable_slice("ho")
    for level in range(3):
        thickness = frames[:, ho.start + level]
        warm = np.log(np.maximum(frames[:, temp.start + level], 12.0))
        compare(statistics, "temp", level, expected(warm, area * thickness))
        compare(statistics, "ho", level, expected(np.log(thickness), area * thickness))


def test_another_transform_has_its_own_statistics_and_leaves_the_other_variables_alone(
    humid: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"training": ("1993-12-31T18", "1994-01-20T18")}
    experiments = [
        humid_experiment(humid, transforms, **settings)
        for transforms in ({}, {"spfh": {"floor": 1e-6}}, {"spfh": {"floor": 1e-4}})
    ]
    results = [normalize(chosen, tmp_path) for chosen in experiments]
    assert [result["status"] for result in results] == ["completed"] * 3
    assert len({result["folder"] for result in results}) == 3
    assert len({Paths(chosen, tmp_path).moments for chosen in experiments}) == 3
    plain, low, high = (made(chosen, tmp_path)[0] for chosen in experiments)
    assert (low.mean["spfh"] < high.mean["spfh"]).all() and (high.mean["spfh"] < 0).all()
    assert (plain.mean["spfh"] > 0).all()
    for kind in STORES:
        for other in (low, high):
            np.testing.assert_allclose(getattr(other, kind)["pressfc"], getattr(plain, kind)["pressfc"], rtol=1e-13)


def test_they_are_kept_under_the_transforms_name_with_attributes_that_say_so(humid: Path, tmp_path: Path) -> None:
    chosen = humid_experiment(humid, {"spfh": {}})
    normalize(chosen, tmp_path)
    folder = Paths(chosen, tmp_path).statistics()
    for store in STORES.values():
        dataset = xr.open_zarr(folder / store, chunks=None)
        assert "log_spfh" in dataset and "spfh" not in dataset and "pressfc" in dataset
        assert dataset.log_spfh.dims == ("pfull",) and dataset.log_spfh.attrs["transform"] == "log"
        assert dataset.log_spfh.attrs["long_name"] == "natural logarithm of specific humidity"
        assert dataset.log_spfh.attrs["units"] == "ln(re 1 kg/kg)"
    with pytest.raises(UserError, match=r"has no variable 'spfh'"):
        Statistics.open(folder, ["spfh"], [500, 1000])


def publish(folder: Path, name: str) -> Path:
    """Statistics of one variable at every level as NOAA publishes them, mean of level k being -k."""
    for kind, store in STORES.items():
        values = np.arange(1, 128, dtype=np.float32) * (-1 if kind == "mean" else 1)
        levels = hybrid_levels()[2].astype(np.float32)
        dataset = xr.Dataset({name: ("pfull", values)}, coords={"pfull": ("pfull", levels)})
        dataset.to_zarr(folder / store, zarr_format=2, consolidated=True)
    return folder


def test_published_ones_are_those_of_the_logarithm(humid: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"inputs": ["spfh"], "targets": ["spfh"], "forcings": []}
    url = str(publish(tmp_path / "published", "log_spfh"))
    chosen = humid_experiment(humid, {"spfh": {}}, normalization={"url": url}, **settings)
    statistics, data = made(chosen, tmp_path)
    rows = [int(np.abs(hybrid_levels()[2] - channel.native).argmin()) for channel in data.channels]
    assert statistics.mean["spfh"].tolist() == [-1.0 - row for row in rows]
    plain = humid_experiment(humid, {}, normalization={"url": url}, **settings)
    with pytest.raises(UserError, match="has no variable 'spfh'"):
        normalize(plain, tmp_path)


def test_published_ones_of_the_plain_field_only_are_refused(humid: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"inputs": ["spfh"], "targets": ["spfh"], "forcings": []}
    url = str(publish(tmp_path / "published", "spfh"))
    chosen = humid_experiment(humid, {"spfh": {}}, normalization={"url": url}, **settings)
    with pytest.raises(UserError, match=r"has statistics of spfh but none of its transformed field, log_spfh, which"):
        normalize(chosen, tmp_path)
    assert not Paths(chosen, tmp_path).statistics().exists()
