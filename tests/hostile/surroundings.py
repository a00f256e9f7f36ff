"""Bad surroundings, each a function that makes those of the process it is called in: for `around` of `running.run`."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
import tempfile
from pathlib import Path

CAPABILITIES_3 = 0x20080522
OVERRIDES = (1 << 1) | (1 << 2)
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, by which root may do what permissions forbid."""
NEW_MOUNTS = 0x00020000
NAMES = ("stdin", "stdout", "stderr")


def closed(*numbers: int) -> None:
    """Standard streams that are closed, as Python finds them at its start after `>&-`."""
    for number in numbers:
        os.close(number)
        setattr(sys, NAMES[number], None)


def onto(path: str, *numbers: int) -> None:
    """Standard streams that lead to a file, such as /dev/full."""
    for number in numbers:
        other = os.open(path, os.O_RDWR)
        os.dup2(other, number)
        os.close(other)
        setattr(sys, NAMES[number], open(number, "w", closefd=False))


def closed_pipe(*numbers: int) -> None:
    """Standard streams that lead into a pipe which nobody reads any more."""
    for number in numbers:
        reading, writing = os.pipe()
        os.dup2(writing, number)
        os.close(reading)
        os.close(writing)
        setattr(sys, NAMES[number], open(number, "w", closefd=False))


def without(*names: str) -> None:
    """Variables of the environment that are not set."""
    for name in names:
        os.environ.pop(name, None)


def no_temporary_folder() -> None:
    """TMPDIR names a folder that is not there."""
    os.environ["TMPDIR"] = "/nothere"
    tempfile.tempdir = None


def removed_folder() -> None:
    """The working directory was removed."""
    place = tempfile.mkdtemp()
    os.chdir(place)
    os.rmdir(place)


def obey() -> None:
    """Permissions count, as for anybody but root."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(CAPABILITIES_3, 0)
    sets = (ctypes.c_uint32 * 6)()
    if libc.capget(header, sets):
        raise OSError(ctypes.get_errno(), "capget")
    for place in range(3):
        sets[place] &= ~OVERRIDES & 0xFFFFFFFF
    if libc.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capset")


def read_only(*places: str) -> None:
    """Folders, with all in them, that may be read and not written to; permissions count."""
    for place in places:
        for path in (Path(place), *Path(place).rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & ~0o222)
    obey()


def closed_folder(place: str) -> None:
    """A folder that may not even be entered."""
    Path(place).mkdir(exist_ok=True)
    Path(place).chmod(0)
    obey()


def home(place: str) -> None:
    """HOME is a folder that may not be written to."""
    Path(place).mkdir(exist_ok=True)
    os.environ["HOME"] = place
    without("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR")
    read_only(place)


def full(bytes_: int) -> None:
    """Each file takes so many bytes and no more, as on a full disk; what was there stays readable."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, resource.RLIM_INFINITY))


def limit_memory(bytes_: int = 4 * 2**30) -> None:
    """The process may have so many bytes of addresses more than it has, and ends with an error where it wants more."""
    own = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (own + bytes_, resource.RLIM_INFINITY))


def small_disk(place: str, size: str) -> None:
    """A folder is a file system of so many bytes of its own; where nobody may mount one, each file is limited."""
    libc = ctypes.CDLL(None, use_errno=True)
    Path(place).mkdir()
    options = f"size={size},mode=755".encode()
    private = 1 << 18 | 1 << 14  # MS_PRIVATE | MS_REC: nobody else sees it
    steps = (
        lambda: libc.unshare(NEW_MOUNTS),
        lambda: libc.mount(b"none", b"/", None, private, None),
        lambda: libc.mount(b"tmpfs", place.encode(), b"tmpfs", 0, options),
    )
    if any(step() for step in steps):
        full(4096)
