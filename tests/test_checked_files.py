"""No file of a root is without a checksum: `graphufs check --thorough` names each that is not as it was written.

A kind of file that is new is tried here by itself, and found out where nothing looks at it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path

import pytest

from graphufs.cli import verify as module
from graphufs.cli.verify import verify
from graphufs.config.experiment import Experiment
from graphufs.steps import run_step
from graphufs.storage.paths import Paths
from tests.test_damage import flip, truncate

PASSING = re.compile(r"\.lock$|^cache/|^jobs/|^mlflow/")
"""Locks are empty; what is compiled, JAX checks; states of jobs and what MLflow keeps are no outputs."""
NUMBERS = re.compile(r"[0-9a-f]{8,}|[0-9]+")


def by_output(experiment: Experiment, root: Path) -> dict[Path, list[Path]]:
    """Of each output one file of each kind; those that are of no output under the root itself."""
    outputs = sorted({path for _, path in module._outputs(Paths(experiment, root))}, key=lambda one: -len(one.parts))
    kinds: dict[tuple[Path, str], Path] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not path.is_symlink() and not PASSING.search(name):
            of = next((one for one in outputs if path == one or one in path.parents), root)
            of = path.with_suffix(".zarr") if path.suffix == ".csv" else of  # damaged, that alone is told of
            kinds.setdefault((of, NUMBERS.sub("#", name)), path)
    found: dict[Path, list[Path]] = {}
    for (of, _), path in kinds.items():
        found.setdefault(of, []).append(path)
    return found


def unnoticed(experiment: Experiment, root: Path, fault: Callable[[Path], None]) -> Iterator[Path]:
    """The files, one of each kind, to which a fault may happen and nobody is told; one of each output at a time."""
    kept = {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and path.stat().st_size < 2**16}
    for paths in zip_longest(*by_output(experiment, root).values()):
        damaged = [path for path in paths if path is not None and path.stat().st_size]
        before = {path: path.read_bytes() for path in damaged}
        for path in damaged:
            fault(path)
        lines = verify(experiment, root).damaged
        for path in damaged:
            names = (str(path),) if path.exists() else (str(path), f"missing from {path.parent}")
            if not any(name in line for name in names for line in lines):
                yield path
        for path, content in (kept | before).items():  # a segment found damaged is noted as such
            if not path.is_file() or path.read_bytes() != content:
                path.write_bytes(content)


@pytest.fixture
def root(tiny: Experiment, finished_root: Path, copy_of_root: Callable[[Path], Path]) -> Path:
    """A root with all that the steps of a run make, and a registered model."""
    root = copy_of_root(finished_root)
    run_step("register", tiny, root)
    return root


@pytest.mark.long  # everything of a root is read again a dozen times
@pytest.mark.parametrize("fault", [flip, truncate, Path.unlink])
def test_each_kind_of_file_is_looked_at(fault: Callable[[Path], None], tiny: Experiment, root: Path) -> None:
    found = [str(path.relative_to(root)) for path in unnoticed(tiny, root, fault)]
    if fault is Path.unlink:  # `evaluate` looks for it and learns it anew
        found = [name for name in found if "/lag-correlation-" not in name]
    assert found == []
    assert verify(tiny, root).damaged == []
