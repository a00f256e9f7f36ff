"""What `graphufs check --thorough` does: read all outputs of an experiment again, and name those that are damaged.

Every file is compared with its checksum. Where an earlier version wrote an output, there are checksums of prepared
data, checkpoints and scores only: of other stores every chunk must be there and decode to its shape, and the metadata
must agree.
"""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import zarr

from graphufs.config.experiment import Experiment
from graphufs.data.manifest import STATIC, Manifest
from graphufs.emulator import checkpoint
from graphufs.nightly.extend_world import notes_damage
from graphufs.normalization.statistics import PROVENANCE, STORES, moments_damage, statistics_damage
from graphufs.registry import event_files, registry
from graphufs.replay.synthetic.growing_zarr import GROWING
from graphufs.replay.synthetic.store import NOTE, STORE, present, world_damage
from graphufs.storage import run_files
from graphufs.storage.checksums import CHECKSUMS, Damaged, growing_damage, known_files, listed, read_checked
from graphufs.storage.paths import PUBLISHED, Paths
from graphufs.storage.zarr_io import MARK, has_checksums, store_damage
from graphufs.train.tracking.tracking import RECORD
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.scoring.diagnostics import Diagnostics
from graphufs.weatherbench.scoring.histograms import Histograms

REMEDIES = {
    "world": "`graphufs prepare` makes it again, where the same versions made it",
    "data": "`graphufs prepare` reads it from the source again",
    "statistics": "`graphufs normalize` makes it again",
    "checkpoints": "`graphufs train` goes on from the checkpoint before it",
    "climatology": "`graphufs evaluate` makes it again",
    "forecasts": "`graphufs forecast`, with the experiment of these forecasts, makes them again",
    "scores": "`graphufs evaluate`, with the experiment of these scores, makes them again",
    "nightly scores": "`graphufs nightly` goes on from the version before, and scores later nights again",
    "published forecasts": "remove its folder, and `graphufs publish` with this experiment makes it again",
    "registry": "`graphufs models repair` restores it from its copy",
    "run": "`graphufs train` writes again what it can",
}
"""What repairs each kind of output."""
FOLDERS = ("checkpoints", "forecasts", "scores", "reports", "nightly", "comparisons")
"""Of a run."""


@dataclass
class Verified:
    """What was read again.

    By kind how many things and their bytes; a line for each damaged one, with its path and what repairs it; and the
    things of which only some files have checksums, as an earlier version wrote them.
    """

    kinds: dict[str, tuple[int, int]] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    unchecked: list[Path] = field(default_factory=list)


def verify(experiment: Experiment, root: Path) -> Verified:
    """Read again all that was made of an experiment below a root; a segment of data found damaged is noted as such."""
    verified, paths = Verified(), Paths(experiment, root)
    verified.damaged += _no_folders(paths)
    for kind, path in _outputs(paths):
        try:
            lines = list(_damage(kind, path))
        except Exception as error:  # codecs and parsers raise classes of their own
            lines = [" ".join(str(error).split()) or type(error).__name__]
        for line in lines:
            named = line if str(path.parent) in line else f"{path} cannot be read: {line}"
            verified.damaged.append(named if "`graphufs " in named else f"{named}; {REMEDIES[kind]}")
        if not lines and not _has_checksums(kind, path):
            verified.unchecked.append(path)
        if kind == "run":
            files = [path / name for name in run_files.present(path)]
        else:
            files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        count, size = verified.kinds.get(kind, (0, 0))
        verified.kinds[kind] = count + 1, size + sum(file.lstat().st_size for file in files)
    return verified


def _no_folders(paths: Paths) -> Iterator[str]:
    """A line on each place where a folder belongs and something else is: a file, say, or a link that leads nowhere."""
    told: set[Path] = set()
    for place, step in (
        (paths.world, "prepare"),
        (paths.data, "prepare"),
        (paths.moments.parent, "normalize"),
        *((path, "normalize") for path in sorted(paths.moments.parent.glob("[!.]*"))),
        (paths.climatology, "evaluate"),
        (paths.run, "train"),
        (paths.root / "registry", "register"),
    ):
        above = place.relative_to(paths.root).parents if place.is_relative_to(paths.root) else ()
        for folder in (*(paths.root / path for path in reversed(above)), place):
            if os.path.lexists(folder) and not folder.is_dir():
                if folder not in told:
                    yield f"{folder} is no folder; remove it, and `graphufs {step}` makes it again"
                told.add(folder)
                break


def _outputs(paths: Paths) -> Iterator[tuple[str, Path]]:
    """The kind and path of each output that is there."""
    if (paths.world / STORE).is_dir():
        yield "world", paths.world
    if paths.data.is_dir():
        yield "data", paths.data
    if run_files.present(paths.run) or (paths.run / CHECKSUMS).exists():
        yield "run", paths.run
    for path in sorted(paths.checkpoints.glob("[0-9]*")):
        yield "checkpoints", path
    for path in sorted(paths.moments.parent.glob("[!.]*")):
        if path.is_dir():
            yield "statistics", path
    for kind, folder in (
        ("climatology", paths.climatology),
        ("forecasts", paths.run / "forecasts"),
        ("scores", paths.run / "scores"),
        ("nightly scores", paths.run / "nightly"),
    ):
        for path in sorted((*folder.rglob("*.zarr"), *folder.glob("lag-correlation-*.json"))):
            begun = any(part.startswith(".") or part.endswith(".part") for part in path.relative_to(folder).parts)
            if not begun and (not path.is_symlink() or not path.exists()):
                yield kind, path
    for path in sorted((paths.root / PUBLISHED).glob(f"{paths.published('0').name[:-1]}*/[0-9]*/[0-9]*")):
        yield "published forecasts", path
    if event_files.numbers(paths.root):
        yield "registry", paths.root / "registry"


def _damage(kind: str, path: Path) -> Iterator[str]:
    """Lines on what is wrong with an output; may raise what codecs and parsers do."""
    if kind == "world":
        yield from filter(None, (world_damage(path), _metadata_damage(path / STORE)))
        if (path / NOTE).exists():
            read_checked(path / NOTE)
        elif present(path) is not None:
            yield f"{path / NOTE} is missing"
        yield from notes_damage(path)
    elif kind == "run":
        yield from _run_damage(path)
    elif kind == "data":
        yield from _data_damage(path)
    elif kind == "checkpoints":
        found = checkpoint.damage(path)
        if found is None:
            checkpoint.read_meta(path)  # whose it is
        yield from filter(None, (found,))
    elif kind == "statistics":
        yield from _moments_damage(path) if path.name == "moments" else _statistics_damage(path)
    elif kind == "published forecasts":
        yield from growing_damage(path, promised=True)
    elif kind == "registry":
        yield from event_files.damage(path.parent)
        registry.models(path.parent)
    elif path.suffix == ".json":
        read_checked(path)
    else:
        yield from filter(None, (_store_damage(path),))
        if kind in ("scores", "nightly scores"):
            yield from _scores_damage(path)


def _has_checksums(kind: str, path: Path) -> bool:
    """Whether an output that is whole has checksums of all its files."""
    if kind == "world":
        chunks = (file for file in (path / STORE).rglob("*") if file.is_file() and not file.name.startswith("."))
        return known_files(path).keys() >= {file.relative_to(path).as_posix() for file in chunks}
    if kind == "data":
        manifest = Manifest.read(path)
        return manifest is not None and manifest.static is not None
    if kind == "run":
        return known_files(path).keys() >= run_files.present(path)
    if kind == "checkpoints":
        return "checked" in (path / "meta.json").read_text()
    if kind == "statistics":
        if path.name == "moments":
            return set(known_files(path)) >= {file.name for file in path.glob("*.npz")}
        return listed(read_checked(path / PROVENANCE)) is not None
    if kind == "published forecasts":
        return True
    if kind == "registry":
        return all("checked" in file.read_text() for file in (path / "history").glob("*.json"))
    return "checked" in path.read_text() if path.suffix == ".json" else has_checksums(path)


def _run_damage(run: Path) -> Iterator[str]:
    yield from run_files.all_damage(run)
    if (run / RECORD).is_file():
        try:
            read_checked(run / RECORD)
        except Damaged as error:
            yield f"{error}; `graphufs track` sends the run to MLflow again, and writes it anew"
    known = known_files(run)
    if run_files.EXPERIMENT not in known and (run / "checkpoints").is_dir() and not (run / "experiment.yaml").exists():
        yield f"{run / run_files.EXPERIMENT} is missing; {run_files.remedy(run_files.EXPERIMENT)}"
    for name in FOLDERS:
        if os.path.lexists(run / name) and not (run / name).is_dir():
            yield f"{run / name} is no folder; remove it, and `graphufs train` and the steps after it make it again"
    for name in run_files.present(run) - known.keys():
        if name.startswith("comparisons/") and name.endswith(".json"):  # of itself it has a checksum, too
            try:
                read_checked(run / name)
            except Damaged as error:
                yield f"{error}; {run_files.remedy(name)}"


def _data_damage(folder: Path) -> Iterator[str]:
    if found := Manifest.damage(folder):
        yield found
    manifest = Manifest.recover(folder)
    if manifest is None:
        return
    if found := manifest.static_damage(folder):
        yield found
    elif manifest.static is None:
        _decode(folder / STATIC)
    for segment in manifest.segments:
        if found := segment.damage(folder, thorough=True):
            segment.suspect(folder)  # `prepare` compares no checksums but of these
            yield found


def _moments_damage(folder: Path) -> Iterator[str]:
    yield from moments_damage(folder)
    for path in sorted(set(folder.glob("*.npz")) - {folder / name for name in known_files(folder)}):
        try:
            with zipfile.ZipFile(path) as file:  # np.load would advise to unpickle what is not a zip
                if (name := file.testzip()) is not None:
                    yield f"{path} cannot be read: the checksum of {name} differs"
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            yield f"{path} cannot be read: {error}"


def _statistics_damage(folder: Path) -> Iterator[str]:
    if found := statistics_damage(folder):
        yield found
    elif listed(read_checked(folder / PROVENANCE)) is None:
        for store in STORES.values():
            _decode(folder / store)


def _store_damage(path: Path) -> str | None:
    found = store_damage(path)
    if found is None and not has_checksums(path):
        _decode(path)
    return found


def _scores_damage(path: Path) -> Iterator[str]:
    if store_damage(path) is not None:
        return  # told
    scores = Scores.open(path)
    yield from filter(None, (scores.table_damage(path),))
    scores.states()
    if scores.diagnostics is not None:
        Diagnostics.restore(scores.diagnostics)
    if scores.histograms is not None:
        Histograms.restore(scores.histograms)


def _metadata_damage(path: Path) -> str | None:
    """Where the files of a zarr v2 store's metadata are not what the consolidated ones say.

    An array may be longer than these say: then a process was killed while it published a block.
    """
    try:
        together = read_checked(path / MARK)["metadata"]
    except FileNotFoundError:
        return f"{path / MARK} is missing"
    except (Damaged, KeyError) as error:
        return str(error)
    for name, content in together.items():
        file = path / name
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, IndexError):
            text = file.read_text()
            own = json.loads(text)
            canonical = json.dumps(own, indent=1, sort_keys=True) == text
            growing = name.endswith(".zarray") and GROWING in together[name.replace(".zarray", ".zattrs")].get(
                "_ARRAY_DIMENSIONS", ()
            )
            if growing and own["shape"][0] >= content["shape"][0]:
                own["shape"][0] = content["shape"][0]
            if canonical and own == content:
                continue
        return f"{file} is not what {path / MARK} says"
    return None


def _decode(path: Path) -> None:
    """Read a store without checksums.

    Raises
    ------
    Damaged
        If its metadata do not agree, or an array cannot be read.
    """
    for together in path.rglob(MARK):
        for name, content in json.loads(together.read_text())["metadata"].items():
            file = together.parent / name
            if file.name != ".zgroup" and json.dumps(json.loads(file.read_text())) != json.dumps(content):
                raise Damaged(f"{file} is not what {together} says")
    for name, array in zarr.open_group(path, mode="r", use_consolidated=False).members(max_depth=None):
        if isinstance(array, zarr.Array):
            try:
                for first in range(0, *array.shape[:1], *array.chunks[:1]) if array.ndim else ():
                    array[first : first + array.chunks[0]]
            except Exception as error:  # as above
                raise Damaged(f"{path / name} cannot be read: {type(error).__name__}: {error}") from error
