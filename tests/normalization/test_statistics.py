from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from graphufs.errors import UserError
from graphufs.normalization.statistics import STORES, Statistics
from tests.support.lookalike import hybrid_levels


def statistics() -> Statistics:
    return Statistics(
        mean={"tmp": np.array([200.0, 250.0, 280.0]), "pressfc": np.array([98000.0]), "land_static": np.array([0.3])},
        std={"tmp": np.array([5.0, 10.0, 15.0]), "pressfc": np.array([9000.0]), "land_static": np.array([0.45])},
        diffs_std={"tmp": np.array([1.0, 2.0, 3.0]), "pressfc": np.array([250.0])},
        native={"tmp": np.array([97.8232650756836, 505.6520690917969, 998.7807006835938])},
        vertical={"tmp": "pfull"},
    )


def published(folder: Path, pfull: np.ndarray, diffs: bool = True) -> Path:
    """Statistics as NOAA publishes them: every level, float32, mean of level k is k."""
    for kind, store in STORES.items():
        values = np.arange(127, dtype=np.float32) + {"mean": 0, "std": 1000, "diffs_std": 2000}[kind]
        dataset = xr.Dataset(
            {"tmp": ("pfull", values), "pressfc": ((), np.float64(values[3]))}, coords={"pfull": ("pfull", pfull)}
        )
        if kind != "diffs_std":
            dataset["land_static"] = ((), np.float64(0.3))
        elif not diffs:
            dataset = dataset.drop_vars("pressfc")
        dataset.to_zarr(folder / store, zarr_format=2, consolidated=True)
    return folder


def test_what_is_saved_is_opened_again(tmp_path: Path) -> None:
    saved = statistics()
    saved.save(tmp_path, {"mean": {"tmp": {"units": "K"}}}, {"source": "here"})
    found = Statistics.open(tmp_path, ["tmp", "pressfc", "land_static"], [100, 500, 1000])
    for kind in STORES:
        assert getattr(found, kind).keys() == getattr(saved, kind).keys()
        for name, values in getattr(saved, kind).items():
            assert np.array_equal(getattr(found, kind)[name], values)
            assert getattr(found, kind)[name].dtype == np.float64
    assert np.array_equal(found.native["tmp"], saved.native["tmp"])


def test_the_stores_have_the_form_replay_users_know(tmp_path: Path) -> None:
    statistics().save(tmp_path, {"mean": {"tmp": {"units": "K"}}}, {"source": "here"})
    mean = xr.open_zarr(tmp_path / "mean_by_level.zarr", chunks=None)
    assert mean.tmp.dims == ("pfull",) and mean.pressfc.dims == ()
    assert mean.tmp.attrs["units"] == "K" and mean.attrs["source"] == "here"
    assert (tmp_path / "stddev_by_level.zarr" / ".zmetadata").exists()
    assert "land_static" not in xr.open_zarr(tmp_path / "diffs_stddev_by_level.zarr", chunks=None)


@pytest.mark.parametrize("spelling", ["float32", "float64", "rounded"])
def test_published_stores_give_the_wanted_levels_in_the_order_asked(tmp_path: Path, spelling: str) -> None:
    pfull = hybrid_levels()[2]
    pfull = {"float32": pfull.astype(np.float32), "float64": pfull, "rounded": np.round(pfull, 4)}[spelling]
    found = Statistics.open(published(tmp_path, pfull), ["tmp", "pressfc"], [1000, 100])
    assert found.mean["tmp"].tolist() == [126, 43]
    assert found.std["tmp"].tolist() == [1126, 1043]
    assert found.diffs_std["tmp"].tolist() == [2126, 2043]
    assert found.mean["pressfc"].tolist() == [3]


def test_a_variable_or_level_the_stores_lack_is_named(tmp_path: Path) -> None:
    folder = published(tmp_path, hybrid_levels()[2])
    with pytest.raises(UserError, match=r"mean_by_level.zarr has no variable 'presfc' \(did you mean pressfc"):
        Statistics.open(folder, ["presfc"])
    with pytest.raises(UserError, match="within a tenth of 2000"):
        Statistics.open(folder, ["tmp"], [2000])


def test_a_folder_without_statistics_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot open the statistics at .*nowhere/mean_by_level\.zarr"):
        Statistics.open(tmp_path / "nowhere", ["tmp"], [500])


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("std", 0.0, r"the standard deviation of tmp at 505\.6521 over there is 0"),
        ("std", np.nan, r"the standard deviation of tmp at 505\.6521 over there is nan"),
        ("mean", np.inf, r"the mean of tmp at 505\.6521 over there is inf"),
        ("diffs_std", 0.0, r"the standard deviation of differences of tmp at 505\.6521 over there is 0"),
    ],
)
def test_what_cannot_scale_is_refused_with_variable_and_level(kind: str, value: float, message: str) -> None:
    chosen = statistics()
    getattr(chosen, kind)["tmp"][1] = value
    with pytest.raises(UserError, match=message):
        chosen.check(["tmp", "pressfc"], "there")


def test_only_targets_need_differences_that_vary() -> None:
    chosen = statistics()
    chosen.diffs_std["pressfc"][0] = 0.0
    chosen.check(["tmp"], "there")
    with pytest.raises(UserError, match="pressfc"):
        chosen.check(["pressfc"], "there")
    del chosen.diffs_std["pressfc"]
    with pytest.raises(UserError, match="there has no standard deviation of differences of pressfc"):
        chosen.check(["pressfc"], "there")
