"""An emulator as Earth2Studio's prognostic model: its names, and its workflows with the real package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphufs.data.loader import Batch
from graphufs.emulator import checkpoint
from graphufs.errors import UserError
from graphufs.forcings import derived_forcing
from graphufs.integrations.earth2studio_names import field_of
from graphufs.steps import run_step
from graphufs.storage.paths import Paths
from graphufs.storage.zarr_io import open_zarr
from tests.support.emulators import NOT_STORED, emulator, save
from tests.train.test_ensemble_training import ensemble

REPOSITORY = Path(__file__).parents[2]
PYTHON = REPOSITORY / ".venv-earth2studio" / "bin" / "python"
WORKFLOWS = Path(__file__).parent / "earth2studio_workflows.py"
TARGETS = {"sp": ("surface_pressure", None), "t500hl": ("temperature", 500), "t1000hl": ("temperature", 1000)}
"""Tiny's targets by Earth2Studio's name: WeatherBench2's name and level."""


@pytest.mark.parametrize(
    ("variable", "level", "vertical", "name", "scale"),
    [
        ("tmp", 500, "pressure", "t500", 1),
        ("temperature", 500, "pressure", "t500", 1),
        ("tmp", 500, "layers", "t500hl", 1),
        ("ugrd10m", None, "layers", "u10m", 1),
        ("hgtsfc_static", None, "layers", "z", 9.80665),
        ("prateb_ave", None, "layers", "tp03", 10.8),
        ("dzdt", 500, "layers", "dzdt500hl", 1),
        ("temp", 2.5, "depths", "temp2.5m", 1),
    ],
)
def test_fields_have_the_names_and_units_of_its_lexicon(variable, level, vertical, name, scale):
    assert field_of(variable, level, vertical) == (name, scale)


def test_without_earth2studio_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "earth2studio", None)
    monkeypatch.delitem(sys.modules, "graphufs.integrations.earth2studio", raising=False)
    with pytest.raises(UserError, match=r"graphufs\[job,earth2studio\]"):
        import graphufs.integrations.earth2studio  # noqa: F401


def from_waves(folder: Path) -> dict[str, Any]:
    """What its workflow is given: a model on pressure levels whose checkpoint has no static fields, as released."""
    made = emulator(data={"tisr_period": "3h"})
    channels = tuple(replace(channel, native=channel.level) for channel in made.domain.channels)
    static = {name: np.full((6, 12), np.nan, np.float32) for name in made.domain.static}
    place = save(
        replace(made, domain=replace(made.domain, channels=channels, static=static, on_pressure_levels=True)), folder
    )
    south_first, from_180 = np.linspace(-90, 90, 13), np.arange(-180, 180, 15)
    return {
        "checkpoint": str(place),
        "latitude": south_first.tolist(),
        "longitude": np.where(from_180 < 0, from_180 + 360, from_180).tolist(),
        "time": "1994-06-01T06",
        "steps": 3,
    }


def waves_of_our_own(given: dict[str, Any]) -> dict[str, np.ndarray]:
    """The same forecast by `predict`, in one rollout from the same waves: [lead, lat, lon] by Earth2Studio's name."""
    from graphufs.emulator.emulator import ReplayEmulator

    loaded = ReplayEmulator.from_checkpoint(given["checkpoint"])
    data, domain = loaded.experiment.data, loaded.domain

    def wave(name: str, stamp: np.datetime64) -> np.ndarray:
        hour, phase = stamp.astype("datetime64[h]").astype(np.int64), sum(map(ord, name))
        east, north = np.deg2rad(domain.longitude), np.deg2rad(domain.latitude)[:, None]
        return (np.sin(east * 2 + phase + hour / 24) * np.cos(north)).astype(np.float32)

    time = np.datetime64(given["time"], "ns")
    stamps = time + np.arange(1 - data.input_frames, given["steps"] + 1) * np.timedelta64(data.time_step, "h")
    names = [field_of(channel.variable, channel.level).name for channel in domain.channels]
    static = {name: wave(field_of(name).name, time) / np.float32(field_of(name).scale) for name in domain.static}
    frames = np.stack([[wave(name, stamp) for name in names] for stamp in stamps])
    derived = {
        name: derived_forcing(name, stamps, domain.latitude, domain.longitude, data.tisr_period)[None]
        for name in NOT_STORED
    }
    ready = replace(loaded, domain=replace(domain, static=static))
    found = ready.predict(Batch(frames[None], derived))
    flat = {name: values[0] for name, values in found.items()}
    return {
        field_of(channel.variable, channel.level).name: flat[channel.variable][
            :, place - domain.slices[channel.variable].start
        ]
        for place, channel in enumerate(domain.channels)
        if channel.variable in flat
    }


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_its_workflows_give_our_own_forecasts(tiny, finished_root, copy_of_root, tmp_path):
    if not PYTHON.exists():
        pytest.skip("there is no .venv-earth2studio")  # gigabytes of PyTorch: make setup-earth2studio
    root = copy_of_root(finished_root)
    members = ensemble(root)
    for step in ("train", "forecast"):
        assert run_step(step, members, root)["status"] == "completed"
    given = {
        "deterministic": asked(tiny, root),
        "ensemble": {**asked(members, root), "members": 3},
        "waves": from_waves(tmp_path / "waves"),
    }
    (tmp_path / "given.json").write_text(json.dumps(given))
    (results := tmp_path / "results").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu"}
    command = [str(PYTHON), str(WORKFLOWS), str(tmp_path / "given.json"), str(results)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]

    one = open_zarr(Paths(tiny, root).forecasts)
    found = np.load(results / "deterministic.npz")
    for name, (variable, level) in TARGETS.items():
        ours = (
            one[variable].isel(time=slice(2)) if level is None else one[variable].sel(level=level).isel(time=slice(2))
        )
        close(found[name][:, 1:], ours.values)
        assert np.isfinite(found[name][:, 0]).all()

    several = open_zarr(Paths(members, root).forecasts)
    found = np.load(results / "ensemble.npz")
    for name, (variable, level) in TARGETS.items():
        ours = several[variable] if level is None else several[variable].sel(level=level)
        ours = ours.isel(time=slice(2)).transpose("number", "time", ...)
        close(found[f"zero.{name}"][:, :, 1:], ours.values)
        perturbed, plain = found[f"gaussian.{name}"], found[f"zero.{name}"]
        assert np.isfinite(perturbed).all() and (perturbed[:, :, 0] != plain[:, :, 0]).any(axis=(1, 2, 3)).all()
        assert len({member.tobytes() for member in perturbed[:, 0]}) == 3

    found = np.load(results / "waves.npz")
    expected = waves_of_our_own(given["waves"])
    assert set(found) == set(expected)
    for name, values in expected.items():
        close(found[name][0, 1:], values)


def asked(experiment: Any, root: Path) -> dict[str, Any]:
    """The first two forecasts of an experiment, from its prepared data."""
    paths = Paths(experiment, root)
    times = [f"{time:%Y-%m-%dT%H}" for time in experiment.initial_times[:2]]
    steps = experiment.forecast.lead_time // experiment.data.time_step
    return {
        "checkpoint": str(checkpoint.last(paths.checkpoints)),
        "data": str(paths.data),
        "times": times,
        "steps": steps,
    }


def close(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal to rounding: a rollout in one program, and step after step, add in other orders."""
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max() and np.ptp(expected) > 0
