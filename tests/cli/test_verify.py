"""`graphufs check --thorough`: what is whole is counted, and what is damaged is named."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import zarr

from graphufs.cli.verify import verify
from graphufs.config.experiment import Experiment
from graphufs.storage.paths import Paths
from tests.cli.test_main import graphufs
from tests.conftest import TINY

WHICH = {
    "a chunk of prepared data": ("data/*/segments/*.zarr/**/*", "has changed since it was written"),
    "a static field": ("data/*/static.zarr/**/*", "cannot be read"),
    "the manifest": ("data/*/manifest.json", "manifest.json is not JSON"),
    "moments": ("statistics/*/moments/*.npz", "cannot be read"),
    "statistics": ("statistics/*/*/mean_by_level.zarr/*/*", "cannot be read"),
    "the climatology": ("climatology/*/**/*.zarr/**/*", "cannot be read"),
    "a checkpoint": ("runs/tiny/*/checkpoints/00000016/emulator.npz", "damaged or missing"),
    "the optimizer's state": ("runs/tiny/*/checkpoints/00000016/training.npz", "damaged or missing"),
    "a checkpoint's description": ("runs/tiny/*/checkpoints/00000016/meta.json", "is not a checkpoint"),
    "a forecast": ("runs/tiny/*/forecasts/*.zarr/*/*", "cannot be read"),
    "a score": ("runs/tiny/*/scores/*.zarr/*/*", "cannot be read"),
    "maps of the error": ("runs/tiny/*/scores/*.zarr/diagnostics/*/*", "cannot be read"),
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
    assert kinds == ["data", "checkpoints", "statistics", "climatology", "forecasts", "scores", "damaged"]
    assert result.stdout.endswith("damaged: nothing\n")
    assert "checkpoints: 2 read, " in result.stdout and result.stdout.count(" MiB\n") == 6


@pytest.mark.parametrize("what", WHICH)
def test_a_flipped_byte_is_named_with_its_file(
    what: str, tiny: Experiment, finished_root: Path, copy_of_root: Callable[[Path], Path]
) -> None:
    root, (pattern, words) = copy_of_root(finished_root), WHICH[what]
    path = largest(root, pattern)
    flip(path)
    _, (line,) = verify(tiny, root)
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
    assert result.returncode == 1 and "repeat the step" in result.stderr
    lines = json.loads(result.stdout)["damaged"]
    assert len(lines) == 5 and all(str(root) in line for line in lines)
    assert any(f"{paths[-1]} is missing" == line for line in lines)


def test_values_that_decode_but_are_others_are_found_where_there_is_a_checksum(
    tiny: Experiment, finished_root: Path, copy_of_root: Callable[[Path], Path]
) -> None:
    layout = Paths(tiny, copy_of_root(finished_root))
    for group, words in (("", "checksum differs"), ("/statistics", "checksum differs"), ("/diagnostics", "checksum")):
        shutil.rmtree(layout.scores)
        shutil.copytree(Paths(tiny, finished_root).scores, layout.scores)
        store = zarr.open_group(f"{layout.scores}{group}", mode="r+", use_consolidated=False)
        _, array = max(((name, array) for name, array in store.arrays() if array.ndim > 2), key=lambda one: one[1].size)
        array[...] = array[...] + 1
        _, (line,) = verify(tiny, layout.root)
        assert line.startswith(str(layout.scores)) or str(layout.scores) in line, line
        assert words in line


def test_metadata_that_disagree_are_damage(
    tiny: Experiment, finished_root: Path, copy_of_root: Callable[[Path], Path]
) -> None:
    layout = Paths(tiny, copy_of_root(finished_root))
    file = layout.forecasts / "temperature" / ".zattrs"
    file.write_text(file.read_text().replace("K", "C"))
    _, (line,) = verify(tiny, layout.root)
    assert line == f"{file} is not what {layout.forecasts / '.zmetadata'} says"


def test_where_nothing_is_made_there_is_nothing_to_verify(tiny: Experiment, tmp_path: Path) -> None:
    assert verify(tiny, tmp_path) == ({}, [])
