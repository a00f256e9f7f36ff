"""Credentials by name, from a file that its owner alone can read, on the machine where the work is done.

    # $GRAPHUFS_CREDENTIALS, else ~/.config/graphufs/credentials.yaml, mode 0600
    NAME: {key: ..., secret: ...}

What stands below a name are options for fsspec. `storage_options` given beside the name go before them. Without a name,
fsspec's own configuration holds (~/.config/fsspec, FSSPEC_* variables), and what the clients find by themselves.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Protocol

from graphufs import masking, reading
from graphufs.config import credentials
from graphufs.errors import UserError

VARIABLE = "GRAPHUFS_CREDENTIALS"
"""In the environment: another place of the file."""


class HowToReach(Protocol):
    """A section of an experiment that says how something is reached."""

    @property
    def storage(self) -> str | None:
        """The name of credentials."""

    @property
    def storage_options(self) -> dict[str, Any]:
        """Options for fsspec."""


def file() -> Path:
    """Where the credentials lie."""
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(os.environ.get(VARIABLE) or f"{home}/graphufs/credentials.yaml").expanduser()


def options_of(section: HowToReach) -> dict[str, Any]:
    """The options for fsspec of a section, those of the name it gives included; never to be shown or stored.

    Raises
    ------
    UserError
        If there are no such credentials, their file is not its owner's alone, or those in the section are masked.
    """
    given: dict[str, Any] = credentials.true(section.storage_options)
    return given if section.storage is None else {**named(section.storage), **given}


def named(name: str) -> dict[str, Any]:
    """The options of a name.

    Raises
    ------
    UserError
        If there are none, or the file can be read by others, belongs to somebody else, or is not as it should be.
    """
    path = file()
    found = _read(path, name)
    if name not in found:
        raise UserError(
            f"there are no credentials {name!r} in {path}; it has {', '.join(sorted(map(str, found))) or 'none'}"
        )
    if not isinstance(found[name], dict):
        raise UserError(
            f"{path}: what {name} stands for is no mapping; write it like {name}: {{key: ..., secret: ...}}"
        )
    options: dict[str, Any] = credentials.true(masking.options(found[name]))  # remembered, to be kept out of messages
    return options


def _read(path: Path, name: str) -> dict[Any, Any]:
    try:
        with open(path, encoding="utf-8") as opened:
            about = os.fstat(opened.fileno())
            if about.st_uid != os.geteuid():
                raise UserError(
                    f"{path} belongs to user {about.st_uid}, not to the one who reads it ({os.geteuid()}); credentials "
                    "must lie in a file of one's own"
                )
            if stat.S_IMODE(about.st_mode) & 0o077:
                raise UserError(f"{path} can be read or changed by others; credentials must not: chmod 600 {path}")
            text = reading.read_text(opened)
    except FileNotFoundError:
        raise UserError(
            f"the experiment names the credentials {name!r}, but {path} is not there; make it with mode 600 and the "
            f"line `{name}: {{key: ..., secret: ...}}`, or set ${VARIABLE} to another file"
        ) from None
    except OSError as error:
        raise UserError(f"the credentials in {path} cannot be read: {error.strerror}") from None
    except UserError as error:
        raise UserError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    try:
        found = reading.parse_yaml(text)
    except UserError as error:
        raise UserError(f"{path} cannot be read as YAML: {str(error).partition(':')[0]}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no mapping of names; write lines like `{name}: {{key: ..., secret: ...}}`")
    return found
