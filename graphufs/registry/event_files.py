"""The files of a registry's events: each with its own checksum, and once more as a copy.

<root>/registry/history/00000001.json    an event, created once and never changed
                copies/00000001.json     the same, since nothing else could make an event again

Registries of earlier versions have neither checksums nor copies.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphufs.errors import UserError
from graphufs.storage.atomic import create_json
from graphufs.storage.checksums import Damaged, checked, read_checked, write_checked
from graphufs.storage.formats import FORMATS

FORMAT = FORMATS["registry"]


def numbers(root: Path) -> list[int]:
    """The numbers of all events, ascending; those of which there is a copy alone are among them."""
    return sorted({int(path.stem) for folder in _folders(root) for path in folder.glob("*.json") if _is_event(path)})


def odd(root: Path) -> list[Path]:
    """What lies among the events and is none by its name, as a copy: it is not read."""
    found = []
    for folder in _folders(root):
        found += [path for path in sorted(folder.glob("[!.]*")) if not _is_event(path)]
    return found


def create(root: Path, number: int, event: Mapping[str, Any]) -> bool:
    """Write a new event and its copy; False if there is an event of that number already."""
    if not create_json(event_file(root, number), checked({"format": FORMAT, **event})):
        return False
    for earlier in without_copy(root):
        copy(root, earlier)
    return True


def without_copy(root: Path) -> list[int]:
    """The numbers of events that have no copy, as earlier versions made none."""
    return [number for number in numbers(root) if not _pair(root, number)[1].is_file()]


def copy(root: Path, number: int) -> None:
    """Write an event's copy; nothing where the event is damaged or gone."""
    with contextlib.suppress(Damaged, FileNotFoundError):
        write_checked(_pair(root, number)[1], read_checked(event_file(root, number)))


def read(root: Path, number: int, from_copies: list[str] | None = None) -> dict[str, Any]:
    """The content of an event.

    Where a list `from_copies` is given, a whole copy stands in for a damaged event, and a line is added to the list.

    Raises
    ------
    UserError
        If it is missing, or not what was written.
    """
    path, copy = _pair(root, number)
    try:
        return _read(path, number)
    except FileNotFoundError:
        why = (
            f"event {number} of {numbers(root)[-1]} is missing from {path.parent}, so the registry cannot be read; "
            f"{remedy(root, number)}"
        )
    except (OSError, Damaged) as error:
        why = f"{path} is not an event of a registry ({error}); {remedy(root, number)}"
    if from_copies is not None:
        with contextlib.suppress(OSError, Damaged):
            content = _read(copy, number)
            from_copies.append(why.replace("the registry cannot be read", "its copy is shown"))
            return content
    raise UserError(why)


def remedy(root: Path, number: int) -> str:
    """What to do about a damaged event."""
    if _pair(root, number)[1].is_file():
        return "`graphufs models repair` restores it from its copy"
    return f"restore {event_file(root, number).name} from a copy"


def damage(root: Path) -> list[str]:
    """What is wrong with events and copies; earlier versions' lack of copies is nothing wrong."""
    wrong = []
    for number in numbers(root):
        event, copy = _pair(root, number)
        for path in (event, copy):
            try:
                _read(path, number)
            except FileNotFoundError:
                if path == event or (event.is_file() and "checked" in event.read_text(errors="replace")):
                    wrong.append(f"{path} is missing")
            except (OSError, Damaged) as error:
                wrong.append(str(error))
    return wrong


def repair(root: Path) -> list[Path]:
    """Write what is damaged or missing again, events from their copies and copies from their events; what was written.

    Raises
    ------
    UserError
        If neither is whole.
    """
    written = []
    for number in numbers(root):
        whole: dict[Path, dict[str, Any]] = {}
        for path in _pair(root, number):
            with contextlib.suppress(OSError, Damaged):
                whole[path] = _read(path, number)
        if not whole:
            raise UserError(f"{event_file(root, number)} and its copy are both damaged; restore one from a backup")
        for path in _pair(root, number):
            if path not in whole:
                write_checked(path, next(iter(whole.values())))
                written.append(path)
    return written


def event_file(root: Path, number: int) -> Path:
    """Where an event lies."""
    return _pair(root, number)[0]


def _read(path: Path, number: int) -> dict[str, Any]:
    content = read_checked(path)
    if content.get("number") != number:
        raise Damaged(f"{path} holds event {content.get('number')}")
    return content


def _pair(root: Path, number: int) -> tuple[Path, Path]:
    history, copies = (folder / f"{number:08d}.json" for folder in _folders(root))
    return history, copies


def _folders(root: Path) -> tuple[Path, Path]:
    return root / "registry" / "history", root / "registry" / "copies"


def _is_event(path: Path) -> bool:
    return path.stem.isascii() and path.stem.isdigit() and path.name == f"{int(path.stem):08d}.json"
