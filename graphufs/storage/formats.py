"""The formats of what lies below a root, by number, and refusing what a later version of this package wrote.

A number is raised by hand when code changes what it writes. Those of outputs are part of their hashes, so old files are
never taken for new ones. Files that keep their name say their number themselves, as `format`; where a file says none,
it is 1. So an earlier version could make anew, without a word, what a later one has made under other names; therefore a
root in which a later version has worked says so in `formats.json`. As long as no number is above those of version
0.1.0 there is no such file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from graphufs.errors import UserError
from graphufs.storage.atomic import write_json
from graphufs.storage.checksums import Damaged, read_checked

FORMATS = {
    "world": 1,
    "data": 1,
    "statistics": 1,
    "climatology": 1,
    "run": 2,
    "forecasts": 1,
    "scores": 1,
    "checkpoint": 2,
    "registry": 1,
    "job": 1,
}
"""What this version writes, which is the highest that it reads."""
AT_FIRST = {**dict.fromkeys(FORMATS, 1), "run": 2, "checkpoint": 2}
"""What version 0.1.0 wrote."""
NOTE = "formats.json"


def later(found: Any, kind: str) -> str | None:
    """Why something of a format cannot be read, in words that go on after its name; None if its number is known."""
    if type(found) is int and found <= FORMATS[kind]:
        return None
    return (
        f"it has format {found!r}, and this version of graphufs reads {kind} up to format {FORMATS[kind]}; use the "
        "version that wrote it, or restore the backup of before the upgrade"
    )


def require(path: Path, found: Any, kind: str) -> None:
    """See that a file or folder is not of a later format.

    Raises
    ------
    UserError
        If it is.
    """
    if why := later(found, kind):
        raise UserError(f"{path} cannot be read: {why}")


def require_root(root: Path, *, note: bool = True) -> None:
    """See that no later version has worked in a root, and unless told not to `note` where this one is later than 0.1.0.

    Raises
    ------
    UserError
        If one has; nothing is changed then.
    """
    path = root / NOTE
    try:
        noted = read_checked(path)
    except (FileNotFoundError, NotADirectoryError):  # what is wrong with the root, whoever writes there says
        noted = {}
    except (OSError, Damaged) as error:
        raise UserError(f"{path} says in which formats this root is, and cannot be read ({error})") from None
    for kind, number in noted.items():
        if kind not in FORMATS:
            raise UserError(
                f"{path} names {kind}, format {number!r}, which this version of graphufs does not know; use the "
                "version that wrote it, or restore the backup of before the upgrade"
            )
        require(path, number, kind)
    now = {kind: number for kind, number in FORMATS.items() if number > AT_FIRST.get(kind, 0)}
    if note and not now.items() <= noted.items():
        write_json(path, {**noted, **now})
