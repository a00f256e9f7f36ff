"""Checksums of outputs: of files in a list, and of the JSON document that holds the list in the document itself.

The list, size and CRC-32 by path, lies in what says that an output is complete: a zarr store's `.zmetadata`, the
statistics' `provenance.json`, the manifest of prepared data. A folder that grows file by file has `checksums.json`.
What earlier versions wrote has no such list.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from graphufs import reading
from graphufs.storage.atomic import write_text

CHECKSUMS = "checksums.json"
BLOCK = 1 << 22
LONGEST = 1 << 28
"""Bytes of a document; the longest are lists of the chunks of large stores."""

Files = dict[str, tuple[int, int]]
"""Size in bytes and CRC-32 by path, relative to a folder."""

CHECKED, CHECKSUM = "checked", "crc32"
"""The keys of a checked document: the first says that the second must be there, so that neither can be lost alone."""


class Damaged(ValueError):
    """What was read is not what was written. The message names the file and what is wrong with it."""


def crc32(path: Path, size: int | None = None) -> int:
    """The CRC-32 of a file, or of its first `size` bytes."""
    checksum, left = 0, path.stat().st_size if size is None else size
    with reading.open_file(path) as file:
        while left > 0 and (block := file.read(min(left, BLOCK))):
            checksum, left = zlib.crc32(block, checksum), left - len(block)
    return checksum


def files_of(
    folder: Path, *, without: str = CHECKSUMS, known: Mapping[str, tuple[int, int]] = MappingProxyType({})
) -> Files:
    """Size and checksum of all files below a folder, except the one that is to hold the list.

    Those that are `known` are not read.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / without)
    names = {path.relative_to(folder).as_posix(): path for path in files}
    return {name: known.get(name) or (path.stat().st_size, crc32(path)) for name, path in names.items()}


def listed(content: Mapping[str, Any], key: str = "files") -> Files | None:
    """The list of files in a JSON object; None where it has none.

    Raises
    ------
    Damaged
        If it is something else.
    """
    if key not in content:
        return None
    try:
        return {name: (int(size), int(checksum)) for name, (size, checksum) in content[key].items()}
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise Damaged(f"the list of files cannot be read ({error})") from None


def note_files(folder: Path, names: Iterable[str], *, instead_of: Iterable[str] = ()) -> None:
    """Add files, or what they are now, to the list of a folder that grows, and take others off.

    One writer at a time: the caller holds a lock.
    """
    new = {name: ((folder / name).stat().st_size, crc32(folder / name)) for name in names}
    if new:
        files = known_files(folder) | new
        write_checked(folder / CHECKSUMS, {"files": {name: files[name] for name in sorted({*files} - {*instead_of})}})


def forget_files(folder: Path, names: Iterable[str]) -> None:
    """Take files from the list of a folder that grows, before they are removed or written again."""
    files = known_files(folder)
    if gone := set(names) & files.keys():
        write_checked(folder / CHECKSUMS, {"files": {name: files[name] for name in files if name not in gone}})


def growing_damage(folder: Path, *, promised: bool) -> list[str]:
    """What is wrong with the files of a folder that grows.

    That it has no list is wrong where one is `promised`, by something else that the version which wrote it left.
    """
    try:
        return list(differences(folder, listed(read_checked(folder / CHECKSUMS)) or {}, thorough=True))
    except FileNotFoundError:
        return [f"{folder / CHECKSUMS} is missing"] if promised else []
    except (OSError, Damaged) as error:
        return [str(error)]


def known_files(folder: Path) -> Files:
    """The list of a folder that grows; empty where there is none, or it cannot be read."""
    try:
        return listed(read_checked(folder / CHECKSUMS)) or {}
    except (OSError, Damaged):
        return {}


def differences(
    folder: Path,
    files: Mapping[str, tuple[int, int]],
    *,
    thorough: bool | Callable[[str], bool],
    growing: Collection[str] = (),
) -> Iterator[str]:
    """What is wrong with each file below a folder that is not as listed. Checksums are compared if `thorough`.

    `thorough` may also say by name of which files. To files that are `growing` something may have been appended since
    they were listed.
    """
    for name, (size, checksum) in files.items():
        path = folder / name
        try:
            found = path.stat().st_size
            if found != size and not (name in growing and found > size):
                yield f"{path} has {found} bytes instead of {size}"
            elif (thorough(name) if callable(thorough) else thorough) and crc32(path, size) != checksum:
                yield f"{path} has changed since it was written"
        except (FileNotFoundError, NotADirectoryError):
            yield f"{path} is missing"
        except OSError as error:
            yield f"{path} cannot be read ({error.strerror})"


def checked(content: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with its own checksum."""
    whole = {name: value for name, value in content.items() if name not in (CHECKED, CHECKSUM)} | {CHECKED: True}
    return {**whole, CHECKSUM: zlib.crc32(_text(whole).encode())}


def checked_text(content: Mapping[str, Any]) -> str:
    """A JSON object with its own checksum, as it is written."""
    whole = _text({name: value for name, value in content.items() if name not in (CHECKED, CHECKSUM)} | {CHECKED: True})
    return whole.removesuffix(_END) + _last_line(whole)


def write_checked(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object with its own checksum, in one step."""
    write_text(path, checked_text(content))


def is_checked(path: Path) -> bool:
    """Whether a JSON object is there and has its own checksum, as none has that an earlier version wrote."""
    try:
        return CHECKED in json.loads(reading.read_file(path, LONGEST))
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def read_checked(path: Path) -> dict[str, Any]:
    """A JSON object, after comparing its checksum where it has one.

    Raises
    ------
    Damaged
        If it is not what was written. The file that is not there raises FileNotFoundError.
    """
    try:
        text = reading.read_file(path, LONGEST).decode()
        content = json.loads(text)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise Damaged(f"{path} is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise Damaged(f"{path} holds no JSON object")
    if CHECKED in content or CHECKSUM in content:
        before, _, _ = text.rpartition(",\n")
        if (
            before + _last_line(before + _END) != text
        ):  # of the text, as it stands: to write it anew costs ten times that
            raise Damaged(f"{path} has changed since it was written")
        return {name: value for name, value in content.items() if name not in (CHECKED, CHECKSUM)}
    return content


_END = "\n}\n"
"""How the text of an object ends."""


def _text(content: Any) -> str:
    return json.dumps(content, indent=2) + "\n"


def _last_line(whole: str) -> str:
    """What takes the place of the end of an object's text: its checksum."""
    return f',\n  "{CHECKSUM}": {zlib.crc32(whole.encode())}{_END}'
