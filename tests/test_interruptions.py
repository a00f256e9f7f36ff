"""`graphufs run` killed at any moment, or on a full disk: repeated, it gives the bytes of an undisturbed run."""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree
from typing import NamedTuple

import pytest

from tests.conftest import TINY

pytestmark = pytest.mark.long
LASTING = re.compile(r"\.npz$|\.csv$|/[0-9.]+$|/c(/[0-9]+)+$|fv3\.zarr/")
"""Files without the time at which they were written."""
MOMENTS, OF_THE_WORLD, SIZES, OF_ITS_DISK = 40, 10, 20, 7
ROOM = 256 * 2**20


class Undisturbed(NamedTuple):
    """A root in which nothing happened, and how long that took [s]."""

    root: Path
    seconds: float


def start(root: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "graphufs.cli", "run", str(TINY), "--root", str(root)]
    with root.with_name(f"{root.name}.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def complete(root: Path) -> None:
    process = start(root)
    assert process.wait(600) == 0, root.with_name(f"{root.name}.log").read_text()[-3000:]


def content(root: Path) -> dict[str, str]:
    """All files that are no temporary or lock, with the checksum of those that say nothing of their time."""
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    kept = {name: path for name, path in files.items() if not any(p.startswith(".") for p in Path(name).parts[:-1])}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest() if LASTING.search(name) else ""
        for name, path in kept.items()
        if not path.name.endswith((".lock", ".tmp"))
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    first, second = (tmp_path_factory.mktemp("undisturbed") / name for name in ("first", "second"))
    complete(first)  # compiles
    began = time.monotonic()
    complete(second)
    assert content(first) == content(second) and sum(map(bool, content(first).values())) > 100
    return Undisturbed(second, time.monotonic() - began)


@pytest.mark.parametrize("number", range(MOMENTS))
def test_killed_at_a_random_moment_it_goes_on_to_the_same_bytes(
    number: int, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    chance, root = random.Random(number), tmp_path / "root"
    process = start(root)
    if number < OF_THE_WORLD:  # the store's folder is there, and nothing in it is committed
        while not list(root.glob("worlds/*/fv3.zarr")) and process.poll() is None:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 1))
    else:
        time.sleep(chance.uniform(0.05, 1) * undisturbed.seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    complete(root)
    assert content(root) == content(undisturbed.root)


@contextmanager
def disk(place: Path, size: int) -> Iterator[Path]:
    """A file system of so many bytes in memory."""
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=False).returncode:
        pytest.skip("only root may mount a small file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def resize(place: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)


def used(place: Path) -> int:
    found = os.statvfs(place)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


@pytest.mark.parametrize("number", range(SIZES))
def test_with_more_room_after_a_full_disk_it_goes_on_to_the_same_bytes(
    number: int, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    with disk(tmp_path / "disk", ROOM) as place:
        copytree(undisturbed.root / "worlds", place / "root" / "worlds")
        world = used(place)
        copytree(undisturbed.root / "data", place / "root" / "data")
        begun = used(place)
        copytree(undisturbed.root, place / "all")
        rest = used(place) - begun
    share = (
        (number + 0.5) / OF_ITS_DISK if number < OF_ITS_DISK else (number - OF_ITS_DISK + 0.5) / (SIZES - OF_ITS_DISK)
    )
    with disk(tmp_path / "small", int(share * world) if number < OF_ITS_DISK else ROOM) as place:
        root = place / "root"
        root.mkdir()
        if number >= OF_ITS_DISK:  # `prepare` alone looks for room before it begins
            for name in ("worlds", "data"):
                copytree(undisturbed.root / name, root / name)
            resize(place, used(place) + int(share * (rest - begun)))
        process = start(Path(copy_log(root, tmp_path)))
        assert process.wait(600) != 0
        resize(place, ROOM)
        complete(Path(copy_log(root, tmp_path)))
        assert content(root) == content(undisturbed.root)


def copy_log(root: Path, outside: Path) -> Path:
    """The same root by a name beside which the log has room."""
    link = outside / "root"
    if not link.is_symlink():
        link.symlink_to(root)
    return link
