"""`graphufs check --thorough`: what is whole is counted, and what is damaged is named."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import zarr

from graphufs.cli.verify import Verified, verify
from graphufs.config.experiment import Experiment
from graphufs.emulator import checkpoint
from graphufs.errors import UserError
from graphufs.steps import run_step
from graphufs.storage import run_files
from graphufs.storage.paths import Paths
from graphufs.train.resume import remove_lost
from tests.cli.test_main import graphufs
from tests.conftest import TINY
from tests.support.earlier import as_before

WHICH = {
    "a chunk of prepared data": ("data/*/segments/*.zarr/**/*", "has changed since it was written"),
    "a static field": ("data/*/static.zarr/**/*", "has changed since it was written"),
    "the manifest": ("data/*/manifest.json", "manifest.json is not JSON"),
    "moments": ("statistics/*/moments/*.npz", "has changed since it was written"),
    "statistics": ("statistics/*/*/mean_by_level.zarr/*/*", "has changed since it was written"),
    "the climatology": ("climatology/*/**/*.zarr/**/*", "has changed since it was written"),
    "a checkpoint": ("runs/tiny/*/checkpoints/00000016/emulator.npz", "has changed since it was written"),
    "the optimizer's state": ("runs/tiny/*/checkpoints/00000016/training.npz", "has changed since it was written"),
    "a checkpoint's description": ("runs/tiny/*/checkpoints/00000016/meta.json", "meta.json is not JSON"),
    "a forecast": ("runs/tiny/*/forecasts/*.zarr/*/*", "has changed since it was written"),
    "a score": ("runs/tiny/*/scores/*.zarr/*/*", "has changed since it was written"),
    "maps of the error": ("runs/tiny/*/scores/*.zarr/diagnostics/*/*", "has changed since it was written"),
}


def flip(path: Path, at: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


def largest(root: Path, pattern: str) -> Path:
    """The largest file of a pattern that holds values."""
    return max(
        (path for path in root.glob(pattern) if path.is_file() and not path.name.startswith((".", "zarr.json"))),
        key=lambda path: path.stat().st_size,
    )


def test_a_whole_root_is_told_by_kind_with_its_size(tiny: Experiment, finished_root: Path) -> None:
    result = graphufs("check", TINY, "--root", finished_root, "--thorough")
    assert result.returncode == 0, result.stdout + result.stderr
    kinds = [line.partition(":")[0] for line in result.stdout.splitlines()]
    assert kinds == [
        "world",
        "data",
        "run",
        "checkpoints",
        "statistics",
        "climatology",
        "forecasts",
        "scores",
        "damaged",
    ]
    assert result.stdout.endswith("damaged: nothing\n")
    assert "checkpoints: 2 read, " in result.stdout and result.stdout.count(" MiB\n") == 8


@pytest.mark.parametrize("what", WHICH)
def test_a_flipped_byte_is_named_with_its_file(
    what: str, tiny: Experiment, finished_root: Path, copy_of_root: Callable[[Path], Path]
) -> None:
    root, (pattern, words) = copy_of_root(finished_root), WHICH[what]
    path = largest(root, pattern)
    flip(path)
    (line,) = verify(tiny, root).damaged
    named = Path(line.split(" ")[0].rstrip(":"))
    assert (named == path or named in path.parents) and len(named.relative_to(root).parts) > 2, line
    assert re.search(words, line), line


def test_all_that_is_damaged_is_named_with_exit_code_1(
    finished_root: Path, copy_of_root: Callable[[Path], Path]
) -> None:
    root = copy_of_root(finished_root)
    paths = [largest(root, WHICH[what][0]) for what in ("a static field", "moments", "a checkpoint", "a forecast")]
    for path in paths:
        flip(path, at=path.stat().st_size // 2 if path.suffix == ".npz" else 0)
    paths.append(largest(root, WHICH["a chunk of prepared data"][0]))
    paths[-1].unlink()
    result = graphufs("check", TINY, "--root", root, "--thorough", "--json")
    assert result.returncode == 1 and "Repeat the command" in result.stderr
    lines = json.loads(result.stdout)["damaged"]
    assert len(lines) == 5 and all(str(root) in line for line in lines)
    assert any(line.startswith(f"{paths[-1]} is missing; `graphufs prepare`") for line in lines)


def test_values_that_decode_but_are_others_are_found_where_there_is_a_checksum(
    tiny: Experiment, finished_root: Path, copy_of_root: Callable[[Path], Path]
) -> None:
    layout = Paths(tiny, copy_of_root(finished_root))
    for group, words in (("", "checksum differs"), ("/statistics", "checksum differs"), ("/diagnostics", "checksum")):
        shutil.rmtree(layout.scores)
        shutil.copytree(Paths(tiny, finished_root).scores, layout.scores)
        as_before(layout.scores)
        store = zarr.open_group(f"{layout.scores}{group}", mode="r+", use_consolidated=False)
        _, array = max(((name, array) for name, array in store.arrays() if array.ndim > 2), key=lambda one: one[1].size)
        array[...] = array[...] + 1
        (line,) = verify(tiny, layout.root).damaged
        assert line.startswith(str(layout.scores)) or str(layout.scores) in line, line
        assert words in line


def test_metadata_that_disagree_are_damage(
    tiny: Experiment, finished_root: Path, copy_of_root: Callable[[Path], Path]
) -> None:
    layout = Paths(tiny, copy_of_root(finished_root))
    as_before(layout.forecasts)
    file = layout.forecasts / "temperature" / ".zattrs"
    file.write_text(file.read_text().replace("K", "C"))
    (line,) = verify(tiny, layout.root).damaged
    assert line.startswith(f"{file} is not what {layout.forecasts / '.zmetadata'} says; ")


def test_stores_without_checksums_are_read_said_and_must_be_complete(
    tiny: Experiment, finished_root: Path, copy_of_root: Callable[[Path], Path]
) -> None:
    root = copy_of_root(finished_root)
    layout = Paths(tiny, root)
    stores = [layout.forecasts, layout.scores, next(layout.climatology.glob("*.zarr"))]
    for store in stores:
        as_before(store)
    found = verify(tiny, root)
    assert found.damaged == [] and sorted(found.unchecked) == sorted(stores)
    for step in ("forecast", "evaluate"):
        assert run_step(step, tiny, root)["status"] == "unchanged"
    lost = layout.forecasts / "temperature" / "3.0.0.0.0"
    lost.unlink()
    shutil.rmtree(layout.scores)
    (line,) = verify(tiny, root).damaged
    assert line.startswith(f"{lost} is missing")
    with pytest.raises(UserError, match=f"{lost} is missing.*`graphufs forecast`"):
        run_step("evaluate", tiny, root)
    assert "made again" in run_step("forecast", tiny, root)["warnings"][0]
    assert run_step("evaluate", tiny, root)["status"] == "completed"


def test_where_nothing_is_made_there_is_nothing_to_verify(tiny: Experiment, tmp_path: Path) -> None:
    assert verify(tiny, tmp_path) == Verified()


def test_what_stands_in_the_place_of_a_folder_above_is_named_once(tiny: Experiment, tmp_path: Path) -> None:
    for name in ("runs", "worlds"):
        (tmp_path / name).write_text("")
    (tmp_path / "data").symlink_to("gone")
    (tmp_path / "registry").symlink_to("registry")
    lines = verify(tiny, tmp_path).damaged
    steps = {"worlds": "prepare", "data": "prepare", "runs": "train", "registry": "register"}
    made = [
        f"{tmp_path / name} is no folder; remove it, and `graphufs {step}` makes it again"
        for name, step in steps.items()
    ]
    assert lines == made
    (tmp_path / "file").write_text("")
    (line,) = verify(tiny, tmp_path / "file").damaged
    assert line.startswith(f"{tmp_path / 'file'} is no folder")


def test_links_to_themselves_and_files_for_folders_are_damage(tiny: Experiment, tmp_path: Path) -> None:
    run = Paths(tiny, tmp_path).run
    run_files.keep(run, run_files.EXPERIMENT, run_files.PROMISE)
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "00000016").symlink_to("00000016")
    (run / "scores").write_text("")
    lines = verify(tiny, tmp_path).damaged
    assert len(lines) == 2 and all("`graphufs train`" in line for line in lines)
    assert f"{run / 'scores'} is no folder" in lines[0] and "00000016" in lines[1]
    (run / "checkpoints" / "0²").mkdir()
    assert checkpoint.updates(run / "checkpoints") == [16], "a superscript is a digit, and no number"
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").write_text("")
    with pytest.raises(UserError, match="checkpoints is no folder"):
        remove_lost(run / "checkpoints")
    paths = Paths(tiny, tmp_path)
    for place, step in ((paths.data, "prepare"), (paths.statistics(), "normalize")):
        place.parent.mkdir(parents=True)
        place.write_text("")
        assert (
            f"{place} is no folder; remove it, and `graphufs {step}` makes it again" in verify(tiny, tmp_path).damaged
        )
    (run / "forecasts").mkdir()
    (run / "forecasts" / "ab.zarr").symlink_to("ab.zarr")
    assert any("ab.zarr" in line and "`graphufs forecast`" in line for line in verify(tiny, tmp_path).damaged)
