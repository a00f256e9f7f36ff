"""What `graphufs check --thorough` does: read all outputs of an experiment again, and name those that are damaged.

Prepared data, checkpoints, scores and npz files have checksums. Of other zarr stores (forecasts, statistics,
climatologies) every chunk must decode to its shape, and the metadata must agree; a value that changed within these
limits is not seen.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import zarr

from graphufs.config.experiment import Experiment
from graphufs.data.manifest import MANIFEST, STATIC, Manifest
from graphufs.emulator import checkpoint
from graphufs.storage.paths import Paths
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.scoring.diagnostics import Diagnostics


def verify(experiment: Experiment, root: Path) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """Read again an experiment's data, statistics, climatology, checkpoints, forecasts and scores below a root.

    By kind how many things were read and their bytes; and a line for each damaged thing, with its path.
    """
    found: dict[str, tuple[int, int]] = {}
    damaged: list[str] = []
    for kind, path, read in _outputs(Paths(experiment, root)):
        try:
            read(path)
        except Exception as error:  # codecs and parsers raise classes of their own
            for one in error.exceptions if isinstance(error, ExceptionGroup) else [error]:
                line = " ".join(str(one).split()) or type(one).__name__
                damaged.append(line if str(path) in line else f"{path} cannot be read: {line}")
        files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        count, size = found.get(kind, (0, 0))
        found[kind] = count + 1, size + sum(file.stat().st_size for file in files)
    return found, damaged


def _outputs(paths: Paths) -> Iterator[tuple[str, Path, Callable[[Path], None]]]:
    """The kind and path of each output that is there, and what raises an error if it is damaged."""
    if paths.data.is_dir():
        yield "data", paths.data, _read_data
    for path in sorted(paths.checkpoints.glob("[0-9]*")):
        yield "checkpoints", path, _read_checkpoint
    for kind, folder, read in (
        ("statistics", paths.moments.parent, _read_zarr),
        ("climatology", paths.climatology, _read_zarr),
        ("forecasts", paths.run / "forecasts", _read_zarr),
        ("scores", paths.run / "scores", _read_scores),
        ("nightly scores", paths.run / "nightly", _read_scores),
    ):
        for path in sorted((*folder.rglob("*.zarr"), *folder.rglob("*.npz"))):
            begun = any(part.startswith(".") or part.endswith(".part") for part in path.relative_to(folder).parts)
            if not begun and not path.is_symlink():
                yield kind, path, _read_npz if path.suffix == ".npz" else read


def _read_data(folder: Path) -> None:
    manifest = Manifest.read(folder)
    if manifest is None:
        raise ValueError(f"{folder / MANIFEST} is missing")
    found = [segment.damage(folder, thorough=True) for segment in manifest.segments]
    damaged = [ValueError(line) for line in found if line]
    try:
        _read_zarr(folder / STATIC)
    except Exception as error:  # as above
        damaged.append(ValueError(str(error)))
    if damaged:
        raise ExceptionGroup("damaged data", damaged)


def _read_npz(path: Path) -> None:
    with zipfile.ZipFile(path) as file:  # np.load would advise to unpickle what is not a zip
        if (name := file.testzip()) is not None:
            raise ValueError(f"the checksum of {name} differs")


def _read_checkpoint(path: Path) -> None:
    for name in checkpoint.read_meta(path)["sha256"]:
        checkpoint.read_arrays(path, name)


def _read_scores(path: Path) -> None:
    _read_zarr(path)
    scores = Scores.open(path)
    scores.states()
    if scores.diagnostics is not None:
        Diagnostics.restore(scores.diagnostics)


def _read_zarr(path: Path) -> None:
    for together in path.rglob(".zmetadata"):
        for name, content in json.loads(together.read_text())["metadata"].items():
            file = together.parent / name
            if file.name != ".zgroup" and json.dumps(json.loads(file.read_text())) != json.dumps(content):
                raise ValueError(f"{file} is not what {together} says")
    for name, array in zarr.open_group(path, mode="r", use_consolidated=False).members(max_depth=None):
        if isinstance(array, zarr.Array):
            try:
                for first in range(0, *array.shape[:1], *array.chunks[:1]) if array.ndim else ():
                    array[first : first + array.chunks[0]]
            except Exception as error:  # as above
                raise ValueError(f"{path / name} cannot be read: {type(error).__name__}: {error}") from error
