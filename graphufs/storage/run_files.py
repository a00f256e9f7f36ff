"""The single files of a run folder, with their checksums in the folder's `checksums.json`.

<run folder>/experiment.yaml    what is trained; its first line promises that there is a list
             metrics.jsonl      listed as it was at the last checkpoint: what was appended since is not in the list
             initial.json, reports/, comparisons/, and of nightly/<checkpoint>/ the report, holes.json and latest.json
             checkpoints/<update>/meta.json    of those that are kept, so that one which is gone is noticed

A run that version 0.1.0 began has no list until something is written there, and then one of what there is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from graphufs import reading
from graphufs.storage.atomic import write_text
from graphufs.storage.checksums import (
    CHECKSUMS,
    Damaged,
    Files,
    differences,
    forget_files,
    known_files,
    listed,
    note_files,
    read_checked,
)
from graphufs.storage.lock import locked

EXPERIMENT, METRICS = "experiment.yaml", "metrics.jsonl"
CHECKPOINT = "checkpoints/*/meta.json"
PROMISE = "# Sizes and checksums of this folder's files are in checksums.json.\n"
REMEDIES = {
    EXPERIMENT: "`graphufs train` writes it again",
    METRICS: "`graphufs train` keeps its whole lines, and says how many are lost",
    CHECKPOINT: "`graphufs train` goes on from the checkpoint before it, or without it",
    "initial.json": "`graphufs train` does without it; it only told what a warm start took over",
    "reports/*.html": "`graphufs report`, with the experiment of this report, makes it again",
    "comparisons/*.*": "`graphufs compare-models` makes it again",
    "nightly/*/holes.json": "`graphufs plan-nightly` finds them again",
    "nightly/*/latest.json": "`graphufs record-nightly` writes it again",
    "nightly/*/report.html": "`graphufs record-nightly` makes it again",
    CHECKSUMS: "`graphufs train` lists what there is",
}
"""The files that are listed, and what repairs each."""


def keep(run: Path, name: str, text: str) -> None:
    """Write a file of a run in one step, and list it."""
    with _alone(run):
        forget_files(run, [name])
        write_text(run / name, text)
        _note(run, name)


def note(run: Path, name: str) -> None:
    """List a file of a run as it is now, and those that a process wrote that was killed before it listed them."""
    with _alone(run):
        _note(run, name)


def forget(run: Path, name: str) -> None:
    """Take a file of a run off its list, before it is removed or written again."""
    with _alone(run):
        forget_files(run, [name])


def mend_list(run: Path) -> None:
    """Where a run's list of checksums is damaged or lost, list its files as they are now."""
    with _alone(run):
        if _read(run)[1] is not None or (promises(run) and not (run / CHECKSUMS).exists()):
            (run / CHECKSUMS).unlink(missing_ok=True)
            there = {path.relative_to(run).as_posix() for path in run.glob(CHECKPOINT)}
            note_files(run, sorted(present(run) | there))


def note_checkpoints(run: Path, kept: Iterable[str]) -> None:
    """List the checkpoints that are kept, by their folders' names, and no others.

    Call before the others are removed: then none that is listed goes away, at whatever moment the process is killed.
    """
    names = {f"checkpoints/{name}/meta.json" for name in kept}
    with _alone(run):
        before = set(_checkpoints(run))
        forget_files(run, before - names)
        note_files(run, sorted(names - before))


def lost_checkpoints(run: Path) -> list[str]:
    """The folders' names of checkpoints that are listed and are not there."""
    return [Path(name).parent.name for name in _checkpoints(run) if not (run / name).parent.exists()]


def damage(run: Path, name: str) -> str | None:
    """What is wrong with a file of a run, in a line that names what repairs it; None if nothing is known to be."""
    return next(_differences(run, (name,)), None)


def all_damage(run: Path) -> Iterator[str]:
    """The same of all files of a run, and of the list itself."""
    if promises(run) and not (run / CHECKSUMS).exists():
        yield f"{run / CHECKSUMS} is missing; {REMEDIES[CHECKSUMS]}"
    yield from _differences(run, None)


def _differences(run: Path, names: Collection[str] | None) -> Iterator[str]:
    files, wrong = _read(run)
    if wrong is not None:
        yield f"{wrong}; {REMEDIES[CHECKSUMS]}"
    for name in files if names is None else files.keys() & names:
        if Path(name).match(CHECKPOINT) and (run / name).parent.exists():
            continue  # it has checksums of its own
        for line in differences(run, {name: files[name]}, thorough=True, growing=(METRICS,)):
            yield f"{line}; {remedy(name)}"


def _read(run: Path) -> tuple[Files, str | None]:
    """The list, empty where there is none, and what is wrong with it."""
    path = run / CHECKSUMS
    try:
        return listed(read_checked(path)) or {}, None
    except (FileNotFoundError, NotADirectoryError):
        return {}, None
    except OSError as error:
        return {}, f"{path} cannot be read ({error.strerror})"
    except Damaged as error:
        return {}, str(error) if str(path) in str(error) else f"{path}: {error}"


def remedy(name: str) -> str:
    """What repairs a file of a run."""
    found = (told for pattern, told in REMEDIES.items() if Path(name).match(pattern))
    return next(found, REMEDIES[CHECKSUMS])


def promises(run: Path) -> bool:
    """Whether the version that began the run made a list."""
    try:
        return reading.read_file(run / EXPERIMENT).startswith(PROMISE.encode())
    except OSError:
        return False


def present(run: Path) -> set[str]:
    """The names of all files of a run, but those of checkpoints, that are or could be listed."""
    found = {path for pattern in REMEDIES if pattern not in (CHECKPOINT, CHECKSUMS) for path in run.glob(pattern)}
    return {path.relative_to(run).as_posix() for path in found if path.is_file() and not path.name.startswith(".")}


def _checkpoints(run: Path) -> list[str]:
    return [name for name in known_files(run) if Path(name).match(CHECKPOINT)]


def _note(run: Path, name: str) -> None:
    unlisted = present(run) - known_files(run).keys() - {METRICS}  # which its training alone lists
    note_files(run, sorted({name, *unlisted} & present(run)))


def _alone(run: Path) -> AbstractContextManager[None]:
    return locked(run, should_stop=lambda: False, waiting=lambda: None, name=".checksums.lock")
