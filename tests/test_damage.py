"""Damage to each kind of output: found by name, refused by the step that needs it, repaired by the command it names."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from graphufs.cli.verify import verify
from graphufs.config.experiment import Experiment
from graphufs.errors import UserError
from graphufs.registry import event_files
from graphufs.steps import run_step


class Damage(NamedTuple):
    """A file of an output; what to remove, so that a step needs it; that step, where one refuses; what repairs it."""

    file: str
    gone: tuple[str, ...]
    refuses: str | None
    repairs: str


RUN = "runs/tiny/*"
DAMAGES = {
    "the embedded world": Damage("worlds/*/fv3.zarr/tmp/0/0/0/0", ("data/*",), None, "prepare"),
    "the embedded world's metadata": Damage("worlds/*/fv3.zarr/.zmetadata", ("data/*",), None, "prepare"),
    "frames": Damage("data/*/segments/*/frames/c/0/0/0/0", ("statistics/*",), "normalize", "prepare"),
    "a static field": Damage("data/*/static.zarr/land_static/c/0/0", ("statistics/*",), "normalize", "prepare"),
    "the manifest": Damage("data/*/manifest.json", ("statistics/*",), "normalize", "prepare"),
    "the manifest's copy": Damage("data/*/.manifest.copy.json", (), None, "prepare"),
    "moments": Damage("statistics/*/moments/*.npz", (), None, "normalize"),
    "statistics": Damage("statistics/*/*/mean_by_level.zarr/tmp/*", (f"{RUN}/checkpoints",), "train", "normalize"),
    "what statistics are of": Damage("statistics/*/*/provenance.json", (f"{RUN}/checkpoints",), "train", "normalize"),
    "a checkpoint": Damage(f"{RUN}/checkpoints/00000016/emulator.npz", (f"{RUN}/forecasts",), "forecast", "train"),
    "an optimizer": Damage(f"{RUN}/checkpoints/00000016/training.npz", (f"{RUN}/forecasts",), "forecast", "train"),
    "a description": Damage(f"{RUN}/checkpoints/00000016/meta.json", (f"{RUN}/forecasts",), "forecast", "train"),
    "a forecast": Damage(f"{RUN}/forecasts/*.zarr/temperature/3.0.0.0.0", (f"{RUN}/scores",), "evaluate", "forecast"),
    "all forecasts": Damage(f"{RUN}/forecasts/*.zarr/.zmetadata", (f"{RUN}/scores",), "evaluate", "forecast"),
    "the climatology": Damage("climatology/*/*.zarr/temperature/0.0.0.0.0", (f"{RUN}/reports",), "report", "evaluate"),
    "a score": Damage(f"{RUN}/scores/*.zarr/temperature/*", (f"{RUN}/reports",), "report", "evaluate"),
    "the table": Damage(f"{RUN}/scores/*.csv", (), None, "evaluate"),
    "an event": Damage("registry/history/00000001.json", (), "register", "models repair"),
    "an event's copy": Damage("registry/copies/00000001.json", (), None, "models repair"),
}


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    """Cut off a file's last byte."""
    path.write_bytes(path.read_bytes()[:-1])


LASTING = re.compile(r"\.npz$|\.csv$|/[0-9.]+$|/c(/[0-9]+)+$|registry/")
"""Files without the time at which they were written."""


@pytest.fixture
def root(tiny: Experiment, finished_root: Path, copy_of_root: Callable[[Path], Path]) -> Path:
    """A root with all that a run makes, and a registered model."""
    root = copy_of_root(finished_root)
    run_step("register", tiny, root)
    return root


def repair(command: str, experiment: Experiment, root: Path) -> None:
    if command == "models repair":
        assert event_files.repair(root)
    else:
        assert run_step(command, experiment, root)["status"] in ("completed", "unchanged")  # no frame was read


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(what, marks=pytest.mark.long) if what in ("the climatology", "a score") else what
        for what in DAMAGES
    ],
)
@pytest.mark.parametrize(
    "fault", [flip, *(pytest.param(one, marks=pytest.mark.long) for one in (truncate, Path.unlink))]
)
def test_damage_is_found_refused_and_repaired(
    what: str, fault: Callable[[Path], None], tiny: Experiment, root: Path
) -> None:
    damage = DAMAGES[what]
    path = max(root.glob(damage.file), key=lambda one: one.stat().st_size)
    before = path.read_bytes()
    fault(path)
    lines = verify(tiny, root).damaged
    assert lines and all(str(path) in line or str(path.parent) in line for line in lines), lines
    assert any(f"`graphufs {damage.repairs}`" in line for line in lines), lines
    for pattern in damage.gone:
        for place in root.glob(pattern):
            shutil.rmtree(place)
    if damage.refuses is not None:
        with pytest.raises(UserError, match=f"`graphufs {damage.repairs}`") as refused:
            run_step(damage.refuses, tiny, root)
        places = [path, *path.parents][: len(path.relative_to(root).parts) - 1]
        assert any(str(place) in str(refused.value) for place in places)
    repair(damage.repairs, tiny, root)
    assert verify(tiny, root).damaged == []
    if LASTING.search(str(path)):
        assert path.read_bytes() == before
    if damage.refuses is not None:
        assert run_step(damage.refuses, tiny, root)["status"] in ("completed", "unchanged")
