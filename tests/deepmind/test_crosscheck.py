"""The crosscheck, run against a look-alike of DeepMind's packages (tests/official): the real ones are not installed.

The look-alike's network is a plain one of its own. That it makes what DeepMind's makes is tested here too, against
outputs that the real package recorded (tests/golden/graphcast).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from graphufs.deepmind import crosscheck
from graphufs.deepmind.names import Label, Labels
from graphufs.deepmind.npz import read_checkpoint
from graphufs.errors import UserError
from tests.support.emulators import PROGRESS, emulator, save

OFFICIAL = Path(__file__).parents[1] / "official"
GOLDEN = Path(__file__).parents[1] / "golden" / "graphcast"


def forget() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in ("graphcast", "haiku")]:
        del sys.modules[name]


@pytest.fixture
def official(monkeypatch: pytest.MonkeyPatch) -> Iterator[crosscheck.Official]:
    forget()
    monkeypatch.syspath_prepend(OFFICIAL)
    yield crosscheck.Official.load()
    forget()


@pytest.mark.parametrize("case", ["c1", "c2"])
def test_the_look_alike_makes_what_deepminds_network_made(official: crosscheck.Official, case: str) -> None:
    with np.load(GOLDEN / f"{case}_step.npz") as step, np.load(GOLDEN / f"{case}_data.npz") as data:
        x, y = (step[f"cap/{name}_stacked"].swapaxes(0, 1) for name in "xy")
        latitude, longitude = data["lat"].astype(np.float64), data["lon"].astype(np.float64)
    checkpoint = read_checkpoint(GOLDEN / f"{case}_checkpoint_official.npz")
    made = crosscheck.official_outputs(official, checkpoint, Labels.of_checkpoint(checkpoint), x, latitude, longitude)
    assert np.abs(made - y).max() <= 1e-5 * np.abs(y).max()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"grid": (13, 24), "hidden_layers": 2, "data": {"input_frames": 3}},
        {"targets": ["delz", "tmp"], "forcings": ["dswrf_avetoa", *PROGRESS]},  # levels under a name of Replay's
        {"targets": ["pressfc", "ugrd10m"], "levels": []},
        {"forcings": []},
    ],
    ids=["official names", "deeper", "neutral names", "no levels", "no forcings"],
)
def test_both_networks_make_the_same(official: crosscheck.Official, tmp_path: Path, options: dict[str, Any]) -> None:
    small = emulator(**options)
    result = crosscheck.crosscheck(save(small, tmp_path), seed=3)
    assert result.agrees and result.relative < 1e-5
    assert result.points == small.domain.latitude.size * small.domain.longitude.size
    assert result.tied <= 3
    assert len(result.channels) == small.channels.output_size
    assert 0 < max(channel.absolute for channel in result.channels) == result.absolute


def test_a_network_that_differs_is_found_out(
    official: crosscheck.Official, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(emulator(), tmp_path)
    # an export that forgets to permute: the mistake that names alone would hide
    monkeypatch.setattr("graphufs.deepmind.export.permute", lambda network, have, want: network)
    result = crosscheck.crosscheck(path)
    assert not result.agrees and result.relative > 1e-2


def test_points_that_the_checkpoints_rule_puts_into_other_triangles_are_counted_and_not_left_out(
    official: crosscheck.Official, tmp_path: Path
) -> None:
    path = save(emulator(), tmp_path / "own")
    result = crosscheck.crosscheck(path)
    assert (result.points, result.tied) == (72, 1) and result.agrees
    console = Console(width=120, record=True, file=open("/dev/null", "w"))
    console.print(result.table())
    assert "72 points, 1 tied otherwise" in console.export_text()
    path = save(emulator(mesh2grid_ties="reference"), tmp_path / "reference")
    result = crosscheck.crosscheck(path)
    assert result.tied == 0 and result.agrees


def test_a_graph_that_differs_is_found_out(
    official: crosscheck.Official, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(emulator(), tmp_path)
    monkeypatch.setattr(official.grid_mesh_connectivity, "OTHER_TRIANGLE_AT", [5])
    assert not crosscheck.crosscheck(path).agrees


def test_the_differences_are_by_channel() -> None:
    theirs = np.zeros((1, 3, 2), np.float32)
    theirs[0, :, 0], theirs[0, :, 1] = [1, 2, -4], [10, 20, 30]
    ours = theirs.copy()
    ours[0, 1, 0] += 1
    outputs = [Label("tmp", 1, 500.0), Label("pressfc", 1)]
    result = crosscheck.compare(ours, theirs, outputs, 1)
    assert [(channel.channel, channel.absolute, channel.relative) for channel in result.channels] == [
        ("tmp 500 at t+1", 1.0, 0.25),
        ("pressfc at t+1", 0.0, 0.0),
    ]
    assert (result.absolute, result.relative, result.points, result.tied) == (1.0, 1 / 30, 3, 1)
    assert not result.agrees and json.loads(json.dumps(result.to_json()))["agrees"] is False
    ours[0, 0] = np.nan
    assert not crosscheck.compare(ours, theirs, outputs, 1).agrees


def test_without_the_packages_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(crosscheck, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"not installed: .*google-deepmind/graphcast@v0\.2.*on PyPI is unrelated"):
        crosscheck.crosscheck(tmp_path)


def test_an_unrelated_package_of_that_name_is_not_even_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forget()
    (tmp_path / "graphcast").mkdir()
    (tmp_path / "graphcast" / "__init__.py").write_text("raise SystemExit('run')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="is not DeepMind's; remove it"):
        crosscheck.crosscheck(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [("import a_module_nobody_has", "cannot be imported.*a_module_nobody_has"), ("", "has no GraphCast")],
)
def test_a_package_that_lacks_something_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str, message: str
) -> None:
    forget()
    (tmp_path / "graphcast").mkdir()
    for name in ("graphcast", "checkpoint", "xarray_jax", "icosahedral_mesh", "grid_mesh_connectivity"):
        (tmp_path / "graphcast" / f"{name}.py").write_text(content if name == "graphcast" else "")
    (tmp_path / "haiku.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=message):
        crosscheck.crosscheck(tmp_path)
    forget()
