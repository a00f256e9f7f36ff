"""Damage to each kind of output: found by name, refused by the step that needs it, repaired by the command it names."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from unittest.mock import ANY

import numpy as np
import pytest

from graphufs.cli.verify import Verified, verify
from graphufs.config.data import World
from graphufs.config.experiment import Experiment
from graphufs.errors import UserError
from graphufs.registry import event_files
from graphufs.replay.synthetic import store
from graphufs.replay.synthetic.growing_zarr import GrowingZarr
from graphufs.replay.synthetic.replay_layout import ARRAYS, STAMP, WORLD_START
from graphufs.steps import run_step
from graphufs.storage.checksums import note_files, write_checked
from graphufs.storage.paths import Paths
from graphufs.train.resume import mend_files, remove_lost


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
    "what made the embedded world": Damage("worlds/*/world.json", ("data/*",), None, "prepare"),
    "the embedded world's checksums": Damage("worlds/*/checksums.json", ("data/*",), None, "prepare"),
    "frames": Damage("data/*/segments/*/frames/c/0/0/0/0", ("statistics/*",), "normalize", "prepare"),
    "a static field": Damage("data/*/static.zarr/land_static/c/0/0", ("statistics/*",), "normalize", "prepare"),
    "the manifest": Damage("data/*/manifest.json", ("statistics/*",), "normalize", "prepare"),
    "the manifest's copy": Damage("data/*/.manifest.copy.json", (), None, "prepare"),
    "moments": Damage("statistics/*/moments/*.npz", (), None, "normalize"),
    "the moments' checksums": Damage("statistics/*/moments/checksums.json", (), None, "normalize"),
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
    "the log": Damage(f"{RUN}/metrics.jsonl", (f"{RUN}/reports",), "report", "train"),
    "the run's experiment": Damage(f"{RUN}/experiment.yaml", (), None, "train"),
    "a report": Damage(f"{RUN}/reports/*.html", (), None, "report"),
    "the run's checksums": Damage(f"{RUN}/checksums.json", (), None, "train"),
    "an event": Damage("registry/history/00000001.json", (), "register", "models repair"),
    "an event's copy": Damage("registry/copies/00000001.json", (), None, "models repair"),
}

LISTS = ("the embedded world's checksums", "the moments' checksums", "the run's checksums")
SELDOM = (
    *("the climatology", "a score", "what made the embedded world", "the embedded world's metadata", *LISTS),
    *("a static field", "the manifest's copy", "an optimizer", "all forecasts", "the run's experiment"),
)
"""Of which `make test` leaves the repair to `make test-long`."""


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
    [pytest.param(what, marks=pytest.mark.long) if what in SELDOM else what for what in DAMAGES],
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
    assert not [line for line in verify(tiny, root).damaged if str(path) in line]
    if LASTING.search(str(path)):
        assert path.read_bytes() == before
    if damage.refuses is not None:
        assert run_step(damage.refuses, tiny, root)["status"] in ("completed", "unchanged")
    assert verify(tiny, root).damaged == []


def test_a_checkpoint_that_is_gone_as_a_whole_is_found_and_told(tiny: Experiment, root: Path) -> None:
    (first,) = root.glob(f"{RUN}/checkpoints/00000012")
    shutil.rmtree(first)
    (line,) = verify(tiny, root).damaged
    assert line.startswith(f"{first / 'meta.json'} is missing; `graphufs train`")
    result = run_step("train", tiny, root)
    assert result["status"] == "unchanged" and result["warnings"][0] == "the checkpoint of update 12 is gone"
    assert verify(tiny, root).damaged == []
    for path in root.glob(f"{RUN}/checkpoints/*"):
        shutil.rmtree(path)
    (line,) = verify(tiny, root).damaged
    assert "00000016" in line
    (run,) = root.glob(RUN)
    assert remove_lost(run / "checkpoints") == [
        "the checkpoint of update 16 is gone",
        "the training goes on from the start",
    ]
    mend_files(Paths(tiny, root))
    assert verify(tiny, root).damaged == []


def test_that_a_list_of_checksums_is_gone_is_found_unless_an_earlier_version_made_none(
    tiny: Experiment, tmp_path: Path
) -> None:
    paths = Paths(tiny, tmp_path)
    begin_world(paths.world, tiny.data.source.world)
    paths.moments.mkdir(parents=True)
    np.savez(paths.moments / "1994-01.npz", stamps=np.arange(3))
    note_files(paths.moments, ["1994-01.npz"])
    made_of = paths.statistics() / "provenance.json"
    write_checked(made_of, {"fingerprint": "0", "files": {}})
    until = WORLD_START + (store.BLOCK - 1) * STAMP
    lists = {paths.world / "checksums.json": "prepare", paths.moments / "checksums.json": "normalize"}
    assert verify(tiny, tmp_path) == Verified({"world": ANY, "statistics": ANY})
    for path, command in lists.items():
        whole = path.read_bytes()
        path.unlink()
        (line,) = verify(tiny, tmp_path).damaged
        assert line.startswith(f"{path} is missing; `graphufs {command}`")
        path.write_bytes(whole)
    note = paths.world / "world.json"
    for content in (None, note.read_bytes()[:-9]):
        note.unlink() if content is None else note.write_bytes(content)
        (line,) = verify(tiny, tmp_path).damaged
        assert str(note) in line and "`graphufs prepare`" in line
        store.ensure_world(paths.world, tiny.data.source.world, until)
        assert verify(tiny, tmp_path).damaged == []
    for path in lists:  # as 0.1.0 had it
        path.unlink()
    for path in (note, made_of):
        content = json.loads(path.read_text())
        path.write_text(json.dumps({name: content[name] for name in content if name not in ("checked", "crc32")}))
    found = verify(tiny, tmp_path)
    assert found.damaged == [] and {path.parent for path in lists} <= {*found.unchecked}
    note.unlink()
    store.ensure_world(paths.world, tiny.data.source.world, until)
    assert verify(tiny, tmp_path).damaged == [], "a note that is written again promises what is there, and no more"


def begin_world(folder: Path, world: World) -> None:
    """The first block of a store of an embedded world, in which nothing is but zeros."""
    made_by, sizes = store._provenance(world), {"pfull": 2, "grid_yt": 2, "grid_xt": 2, "time": store.BLOCK}
    store._claim(folder, world, made_by)
    growing = GrowingZarr(folder / store.STORE, ARRAYS, sizes, store.BLOCK, store._attributes(made_by))
    growing.write_block(0, {a.name: np.zeros([sizes[one] for one in a.dimensions], a.dtype) for a in ARRAYS})
    note_files(folder, [f"{store.STORE}/{name}" for name in growing.chunks(0)])
    growing.commit(store.BLOCK)
