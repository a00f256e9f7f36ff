"""A released model fine-tuned on an analysis that lacks some of its fields and has others, as GDAS has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from graphufs.cli.main import main
from graphufs.config import loading
from graphufs.deepmind.npz import from_deepmind, read_checkpoint
from graphufs.deepmind.released import import_checkpoint
from graphufs.emulator import checkpoint
from graphufs.errors import UserError
from graphufs.steps import CHAINS, run_step
from graphufs.storage.paths import Paths
from tests.support.analyses import write_weatherbench
from tests.support.lookalike import build_atmosphere
from tests.support.training import final_arrays

GOLDEN = Path(__file__).parents[1] / "golden" / "graphcast13" / "g1"
EXPERIMENTS = Path(__file__).parents[2] / "experiments"
PROGRESS = ["year_progress_sin", "year_progress_cos", "day_progress_sin", "day_progress_cos"]
TARGETS = ["2m_temperature", "surface_pressure", "temperature", "u_component_of_wind", "v_component_of_wind"]


def gdas(days: int) -> xr.Dataset:
    """Its short names, from north to south; there is no geopotential, precipitation or pressure at sea level."""
    times = np.datetime64("2021-01-01T00", "ns") + np.arange(4 * days) * np.timedelta64(6, "h")
    lat, lon, level = np.linspace(90.0, -90.0, 19), np.arange(0.0, 360.0, 10.0), np.array([500, 850])
    wave = np.cos(np.deg2rad(lat))[:, None] * np.cos(np.deg2rad(3 * lon) - 0.3 * np.arange(times.size)[:, None, None])
    flat, deep = ("time", "latitude", "longitude"), ("time", "level", "latitude", "longitude")
    fields: dict[str, Any] = {
        "t2m": (flat, 280 + 5 * wave, "K"),
        "sp": (flat, 98_000 + 800 * wave, "Pa"),
        "t": (deep, 200 + 0.08 * level[:, None, None] + 4 * wave[:, None], "K"),
        "u": (deep, 10 + 8 * wave[:, None] + 0 * level[:, None, None], "m s**-1"),
        "v": (deep, -6 * wave[:, None] + 0 * level[:, None, None], "m s**-1"),
        "lsm": (flat[1:], (wave[0] > 0).astype(float), "1"),
    }
    return xr.Dataset(
        {name: (dims, values.astype(np.float32), {"units": units}) for name, (dims, values, units) in fields.items()},
        {"time": times, "level": level, "latitude": lat, "longitude": lon},
    )


def written(store: Path, source: Path, **training: Any) -> str:
    forcings = ["toa_incident_solar_radiation", *PROGRESS]
    return json.dumps(
        {
            "name": "gdas",
            "data": {
                "source": {"url": str(store)},
                "inputs": [*TARGETS, *forcings, "land_sea_mask"],
                "targets": TARGETS,
                "forcings": forcings,
                "levels": [500, 850],
                "training": {"start": "2021-01-01T00", "end": "2021-01-03T18"},
                "validation": {"start": "2021-01-04T00", "end": "2021-01-04T18"},
                "evaluation": {"start": "2021-01-05T00", "end": "2021-01-06T18"},
            },
            "model": {"mesh_size": 2, "latent_size": 16, "message_steps": 2, "mesh2grid_ties": "reference"},
            "training": {
                "batch_size": 1,
                "init_from": str(source),
                "init_partial": True,
                "init_statistics": "rescaled",
                "init_new": "zero",
                "freeze": ["processor.*"],
                "stages": [{"name": "one-step", "updates": 2}],
                **training,
            },
            "forecast": {"lead_time": "12h", "every": "12h"},
        }
    )


@pytest.mark.long  # a training of its own
def test_a_released_model_learns_from_a_gdas_like_store(tmp_path: Path) -> None:
    store = write_weatherbench(tmp_path / "gdas.zarr", gdas(6))
    import_checkpoint(GOLDEN / "checkpoint.npz", GOLDEN, tmp_path / "released")
    experiment = loading.parse(written(store, tmp_path / "released"), origin="the test")
    for step in ("prepare", "normalize", "train"):
        assert run_step(step, experiment, tmp_path)["status"] == "completed"
    paths = Paths(experiment, tmp_path)
    became = {one["tensor"]: one["how"] for one in json.loads((paths.run / "initial.json").read_text())["tensors"]}
    assert {how for name, how in became.items() if name.startswith("mesh_gnn")} == {"kept"}
    assert "rescaled" in became.values() or "in part" in became.values()
    before = checkpoint.flatten(from_deepmind(read_checkpoint(GOLDEN / "checkpoint.npz").parameters), "network")
    after = final_arrays(paths)
    frozen = [name for name in before if name.startswith("network.processor.")]
    assert frozen
    for name in frozen:
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)
    assert any(not np.array_equal(values, after[name]) for name, values in before.items() if ".decoder." in name)


def test_what_such_a_store_lacks_is_not_left_behind_unasked(tmp_path: Path) -> None:
    store = write_weatherbench(tmp_path / "gdas.zarr", gdas(6))
    import_checkpoint(GOLDEN / "checkpoint.npz", GOLDEN, tmp_path / "released")
    experiment = loading.parse(written(store, tmp_path / "released", init_partial=False), origin="the test")
    for step in ("prepare", "normalize"):
        run_step(step, experiment, tmp_path)
    with pytest.raises(UserError, match="geopotential"):
        run_step("train", experiment, tmp_path)


@pytest.mark.long  # a training of its own
def test_the_recipe_runs_on_a_store_laid_out_as_replay(tmp_path: Path) -> None:
    store = build_atmosphere(tmp_path / "fv3.zarr", count=44)
    import_checkpoint(GOLDEN / "checkpoint.npz", GOLDEN, tmp_path / "released")
    overrides = [
        f"data.source={{url: {store}, component: fv3}}",
        "data.training={start: 1994-01-01T00, end: 1994-01-02T18}",
        "data.validation={start: 1994-01-03T00, end: 1994-01-03T18}",
        "data.evaluation={start: 1994-01-04T00, end: 1994-01-05T18}",
        "data.levels=[500, 850, 1000]",  # high up the look-alike has the same humidity at all times
        "model.mesh_size=2",
        "model.latent_size=16",
        "model.message_steps=2",
        f"training.init_from={tmp_path / 'released'}",
        "training.batch_size=1",
        "training.stages=[{name: one-step, updates: 2}]",
        "training.validation_forecasts={every: 1000, initial_times: 1, lead_time: 12h}",
        "forecast.lead_time=12h",
        "forecast.every=12h",
    ]
    recipe = EXPERIMENTS / "graphcast_small_replay.yaml"
    asked = [part for override in overrides for part in ("--set", override)]
    with pytest.raises(SystemExit) as ended:
        main(["check", str(recipe), "--root", str(tmp_path), *asked])
    assert not ended.value.code
    experiment = loading.load(recipe, overrides)
    for step in CHAINS["run"]:
        assert run_step(step, experiment, tmp_path)["status"] == "completed"
    paths = Paths(experiment, tmp_path)
    tensors = json.loads((paths.run / "initial.json").read_text())["tensors"]
    assert {one["how"] for one in tensors if one["tensor"].startswith("mesh_gnn")} == {"kept"}
    scores = xr.open_zarr(paths.scores).sel(metric="rmse")
    assert np.isfinite(scores["temperature"].values).all()
