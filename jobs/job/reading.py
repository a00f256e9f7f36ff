"""Reading what lies in a job's folder: whatever is wrong with it is one error, which names the file and says why.

Folders are copied, disks fill up, people edit, newer versions add keys. So nothing in a folder is taken for granted:
each file is read here, and who looks at many jobs leaves out the one that is `Broken` and names it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from graphufs import reading
from graphufs.errors import UserError
from graphufs.storage import formats

Kind = TypeVar("Kind")


class Broken(UserError):
    """Something in a job's folder cannot be read: the `path` of what, and the `reason`.

    It is `later` where nothing is wrong with it but that a later version wrote it.
    """

    def __init__(self, path: Path, reason: str, *, later: bool = False) -> None:
        self.path, self.reason, self.later = path, reading.cut(reason, 300), later
        places = [index for index, part in enumerate(path.parts[:-1]) if part == "jobs"]
        self.folder = path.parts[places[-1] + 1] if places else path.name
        """The name of the job's folder that it belongs to."""
        super().__init__(f"{path} cannot be read: {self.reason}{'' if later else '; see `graphufs-jobs doctor`'}")

    def to_json(self) -> dict[str, str]:
        """For programs."""
        return {"folder": self.folder, "path": str(self.path), "reason": self.reason}


class NoJob(UserError):
    """There is no job of a key."""


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """Around what reads a file or folder of a job: what can go wrong with its content is that it is broken.

    Raises
    ------
    Broken
        In the place of such errors.
    """
    try:
        yield
    except (Broken, NoJob):
        raise
    except UserError as error:
        raise Broken(path, str(error)) from None
    except OSError as error:
        raise Broken(path, error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise Broken(path, f"byte {error.start} is not UTF-8") from error
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        words = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
        raise Broken(path, words) from error


def entries(folder: Path) -> list[str]:
    """The names in a folder, sorted, without hidden ones; none where there is no folder.

    Raises
    ------
    Broken
        If it cannot be listed. A pattern would find nothing then, and a job seem never to have been submitted.
    """
    with unreadable(folder):
        try:
            return sorted(name for name in os.listdir(folder) if not name.startswith("."))
        except FileNotFoundError:
            if os.path.islink(folder):
                raise ValueError("it is a link that leads nowhere") from None
            return []


def read_json(path: Path, **needed: type | tuple[type, ...]) -> dict[str, Any] | None:
    """The content of a file that is written in one step, or None if it is not there.

    Raises
    ------
    Broken
        If it is no JSON object, or has not what is `needed`, of these types.
    """
    with unreadable(path):
        try:
            text = reading.read_file(path).decode()
        except FileNotFoundError:
            if os.path.islink(path):
                raise ValueError("it is a link that leads nowhere") from None
            return None
        if not text.strip():
            raise ValueError("it is empty")
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"it is not JSON ({error})") from None
        if not isinstance(content, dict):
            raise ValueError("it is not a JSON object")
        for name, kind in needed.items():
            if not isinstance(content.get(name), kind):
                raise ValueError(f"its {name} is {reading.shown(content[name]) if name in content else 'missing'}")
        return content


def formatted(content: dict[str, Any]) -> dict[str, Any]:
    """What a file is to hold, of a dataclass as a dictionary: what is `more` in its place again, and the format.

    Where that is 1 it is left out, since version 0.1.0 refuses keys that it does not know.
    """
    number = formats.FORMATS["job"]
    known = {name: value for name, value in content.items() if name != "more"}
    return {**content["more"], **known, **({"format": number} if number > 1 else {})}


def known_keys(kind: type[Kind], path: Path, content: dict[str, Any]) -> Kind:
    """A dataclass of what a file holds; keys that it does not know are its `more`.

    Raises
    ------
    Broken
        If a key is missing or its value of another type, or the file of a later format than this version reads.
    """
    if why := formats.later(content.get("format", 1), "job"):
        raise Broken(path, why, later=True)
    names = {field.name for field in fields(kind)} - {"more"}  # type: ignore[arg-type]
    known = {name: value for name, value in content.items() if name in names}
    more = {name: value for name, value in content.items() if name not in names}
    try:
        made: Kind = _adapter(kind).validate_python({**known, "more": more})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        raise Broken(path, f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}") from None
    return made


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
