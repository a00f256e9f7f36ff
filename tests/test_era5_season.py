"""`era5_season` on small stores laid out as the real ones: two months, and three with the same beginning."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.steps import CHAINS, run_step
from graphufs.storage.paths import Paths
from tests.conftest import TINY
from tests.support.analyses import write_weatherbench
from tests.support.training import assert_equal_arrays, final_arrays

SMALL = (
    "model={mesh_size: 1, latent_size: 8, message_steps: 1}",
    "training.stages.0.updates=4",
    "training.stages.0.learning_rate.warmup_updates=1",
    "training.stages.1.updates=2",
    "training.stages.1.learning_rate.warmup_updates=1",
    "forecast.every=72h",
)


def season(end: str) -> xr.Dataset:
    """Waves that drift and decay, from 1 December on, in the order and with the types of the real store."""
    times = np.arange(np.datetime64("2025-12-01T00", "ns"), np.datetime64(end, "ns"), np.timedelta64(6, "h"))
    latitude, longitude = np.linspace(-90, 90, 13), np.arange(24) * 15.0
    hours, lon, lat = np.arange(times.size)[:, None, None], np.deg2rad(longitude)[:, None], np.deg2rad(latitude)
    wave = np.cos(lat) * np.cos(3 * lon - 0.2 * hours) * (1.2 + np.sin(0.05 * hours))
    return xr.Dataset(
        {
            "mean_sea_level_pressure": (
                ("time", "longitude", "latitude"),
                (101_000 + 1500 * wave).astype(np.float32),
                {"units": "Pa"},
            ),
            "vorticity": (
                ("time", "level", "longitude", "latitude"),
                (-5e-5 * wave * np.sin(lat))[:, None].astype(np.float32),
                {"units": "s**-1"},
            ),
        },
        {"time": times, "longitude": longitude, "latitude": latitude, "level": [850]},
    )


def experiment(store: Path, *overrides: str) -> Experiment:
    path = TINY.with_name("era5_season.yaml")
    return loading.load(path, [f"data.source.url={store}", *SMALL, *overrides])


@pytest.fixture(scope="module")
def two_months(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """The whole chain on the two months, as they are shared: zipped."""
    root = tmp_path_factory.mktemp("two-months")
    made = experiment(write_weatherbench(root / "two.zarr.zip", season("2026-02-01")))
    for step in CHAINS["run"]:
        assert run_step(step, made, root)["status"] == "completed"
    return Paths(made, root)


@pytest.mark.long  # a whole training of a shipped experiment
def test_the_report_says_how_little_it_is(two_months: Paths) -> None:
    page = two_months.report.read_text()
    assert "Trained on 55 days of one season, 2025-12-01T00 to 2026-01-24T18" in page
    assert "The validation period overlaps the evaluation period" in page


@pytest.mark.long  # a second training, as that of the other test
def test_a_store_that_goes_on_trains_the_same_model_for_forecasts_of_what_follows(
    two_months: Paths, tmp_path: Path
) -> None:
    store = write_weatherbench(tmp_path / "three.zarr", season("2026-03-01"))
    later = experiment(store, "data.evaluation={start: 2026-02-01T00, end: 2026-02-28T18}")
    for step in ("prepare", "normalize"):
        run_step(step, later, tmp_path)
    # interrupted: the samples of later updates are moved as they would have been
    calls = count()
    assert run_step("train", later, tmp_path, should_stop=lambda: next(calls) >= 2)["status"] == "stopped"
    for step in CHAINS["run"]:
        assert run_step(step, later, tmp_path)["status"] in ("completed", "unchanged")
    paths = Paths(later, tmp_path)
    assert_equal_arrays(final_arrays(paths), final_arrays(two_months))
    times = xr.open_zarr(paths.forecasts)["time"].values
    assert (str(times[0])[:13], str(times[-1])[:13]) == ("2026-02-01T06", "2026-02-25T06")  # every 72 hours
    scores = xr.open_zarr(paths.scores)["mean_sea_level_pressure"].sel(metric="rmse")
    assert np.isfinite(scores.values).all()
    assert "The validation period overlaps" not in paths.report.read_text()
