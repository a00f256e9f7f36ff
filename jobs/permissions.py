"""Who besides the account can change what its jobs run: where that is anybody, submitting and running are refused.

A job runs what lies below its root: its script, submitit's pickle, the programs that JAX has compiled. Whoever can
write those, or put a folder of his own in the place of one above, runs programs as the account. So each folder from `/`
to the root, and on to the job, is to be the account's or root's and is written by nobody else. Below the root the check
ends at a folder that nobody else may enter, such as `jobs`, which is made so.
"""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from graphufs.errors import UserError

SHARED = "GRAPHUFS_SHARED_WITH_GROUP"
"""Set in a job whose site has `shared_with_group`: what the job's folder says of that could be anybody's word."""
OWN = ("jobs", "cache")
"""Folders of the root that hold programs."""


def make_root(root: Path, *, group: bool = False) -> None:
    """Make a root and the folders in it that hold programs, which only the account may enter, or its group too.

    What is there already stays as it is.
    """
    for path in reversed([root, *root.parents]):
        if not path.exists():
            _make(path, 0o775 if group else 0o755)
    for name in OWN:
        if not (root / name).exists():
            _make(root / name, 0o770 if group else 0o700)


def _make(path: Path, mode: int) -> None:
    path.mkdir(mode=0o700, exist_ok=True)
    path.chmod(mode | (path.stat().st_mode & stat.S_ISGID))  # whatever the umask is


def require_private(root: Path, *below: Path, group: bool = False) -> None:
    """See that nobody else can change what jobs of a root run, down to the paths below it where they are given.

    With `group`, those may who belong to the folders' groups, and the owners of folders above.

    Raises
    ------
    UserError
        If somebody else can: names the folder, its mode and owner, and what to do.
    """
    for path in [*_chain(root), *((root / name) for name in OWN), root / "cache" / "jax"]:
        _require(path, root, group)
    for leaf in below:
        path = root
        for part in leaf.relative_to(root).parts:
            path /= part
            found = _require(path, root, group)
            if found is not None and not found & 0o011:
                break  # nobody else comes to what lies in it


def _chain(root: Path) -> list[Path]:
    """The folders from `/` to the root, by the names given and where links among them lead to."""
    names = [root, *root.parents, root.resolve(), *root.resolve().parents]
    return sorted(set(names), key=lambda path: len(path.parts))


def _require(path: Path, root: Path, group: bool) -> int | None:
    """The mode of a file or folder that may be trusted; None of what is not there."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    mode, me = found.st_mode, os.geteuid()
    above = path in root.parents or path in root.resolve().parents
    if found.st_uid not in (me, 0) and not group:
        raise _refusal(path, found, "belongs to another account", f"have {path} given to this account")
    if stat.S_ISLNK(mode) or (above and mode & stat.S_ISVTX):  # in a folder like /tmp nobody replaces what is not his
        return mode
    if mode & stat.S_IWOTH:
        raise _refusal(path, found, "may be written by everybody", _chmod("o-w", path, root))
    if mode & stat.S_IWGRP and not group and not _only_mine(found.st_gid, me):
        raise _refusal(path, found, "may be written by its group", _chmod("g-w", path, root))
    return mode


def _only_mine(gid: int, me: int) -> bool:
    """Whether a group is the one that many systems make for an account, of its name and with nobody else in it."""
    try:
        name, its = pwd.getpwuid(me).pw_name, grp.getgrgid(gid)
    except KeyError:
        return False
    return its.gr_name == name and set(its.gr_mem) <= {name}


def _chmod(change: str, path: Path, root: Path) -> str:
    return f"`chmod {'-R ' if root in path.parents else ''}{change} {shlex.quote(str(path))}`"


def _refusal(path: Path, found: os.stat_result, what: str, remedy: str) -> UserError:
    owner = f"{_name(pwd.getpwuid, found.st_uid)}:{_name(grp.getgrgid, found.st_gid)}"
    return UserError(
        f"{path} (mode {stat.S_IMODE(found.st_mode):04o}, owner {owner}) {what}, and jobs run programs from there or "
        f"below, so only this account and root may write it: {remedy}, or take another root; where a group shares it "
        "on purpose, say `shared_with_group: true` in the site file, and it may run programs as this account"
    )


def _name(look_up: Callable[[int], Sequence[Any]], number: int) -> str:
    try:
        return str(look_up(number)[0])
    except KeyError:
        return str(number)
