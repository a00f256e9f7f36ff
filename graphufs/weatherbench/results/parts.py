"""The statistics of scores that grow lie in parts of so many initial times; a part that is full is never written again.

A part is one chunk of each variable. The next version of the store takes the files of full parts over as they are, by
hard links, so that a night costs the same however many there were before.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr
import zarr

from graphufs import reading
from graphufs.storage.checksums import Files, listed, read_checked
from graphufs.storage.zarr_io import MARK
from graphufs.weatherbench.scoring.score_state import checksum_of_parts

GROUP = "statistics"
LENGTH = 62
"""Initial times of a part: a month of two a day."""
PART, CHECKSUMS = "part", "parts_sha256"
"""The group's attributes: the initial times of a part, and by forecast the checksums of its parts."""
CHUNK = re.compile(GROUP + r"/[^/]+/\d+\.(\d+)(\.\d+)*")
"""The path of a chunk of a variable; its second index is that of the initial times."""


def checksums(of_parts: Mapping[str, Sequence[str]], part: int) -> dict[str, Any]:
    """The attributes of statistics in parts whose checksums are these, by forecast."""
    whole = {name: checksum_of_parts(found) for name, found in of_parts.items()}
    return {PART: part, CHECKSUMS: {name: list(found) for name, found in of_parts.items()}, "sha256": whole}


def growing(path: Path) -> Callable[[str], bool]:
    """Which files of the store at `path`, by their names in it, do not belong to full parts."""
    try:
        attributes = json.loads(reading.read_file(path / GROUP / ".zattrs"))
        full = int(attributes["initial_times"]) // int(attributes[PART])
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError, RecursionError):
        full = 0  # no parts; or damaged, which is found
    return lambda name: not _is_full(name, full)


def longer(before: Path, full: int, tail: xr.Dataset) -> Callable[[Path], Files]:
    """What writes the statistics of the store `before`, which has so many full parts, with the `tail` after them.

    It is given the new store's folder, and gives the checksums of the files that it took over.
    """

    def begin(folder: Path) -> Files:
        known, taken = listed(read_checked(before / MARK)) or {}, Files()
        for path in sorted((before / GROUP).rglob("*")):
            name = path.relative_to(before).as_posix()
            if path.is_dir():
                continue
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if _is_full(name, full) and name in known:
                _take_over(path, folder / name)
                taken[name] = known[name]
            else:
                shutil.copyfile(path, folder / name)
        new = tail.drop_encoding().drop_vars([name for name in tail.coords if name != "init_time"])
        new.to_zarr(folder, group=GROUP, mode="a", append_dim="init_time", zarr_format=2, consolidated=False)
        zarr.open_group(folder, path=GROUP, mode="r+", zarr_format=2).attrs.put(tail.attrs)
        return taken

    return begin


def _is_full(name: str, full: int) -> bool:
    found = CHUNK.fullmatch(name)
    return found is not None and int(found[1]) < full


def _take_over(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:  # no hard links here, or not between folders
        shutil.copyfile(path, target)
