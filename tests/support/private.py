"""What runs out of a folder of its own, a Slurm or an Airflow, and what tests of both need to see of its processes."""

from __future__ import annotations

import ipaddress
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TOP = Path(__file__).parents[2]


@contextmanager
def guarded(module: str, base: Path) -> Iterator[None]:
    """However this process ends inside the `with`, what the module has started in that folder is taken down."""
    # Its end of the pipe is closed then.
    guard = subprocess.Popen(
        ["sh", "-c", 'cat; exec "$@"', "sh", sys.executable, "-m", module, "down", "--purge", "--base", str(base)],
        cwd=TOP,
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(guard.pid, signal.SIGKILL)
        guard.wait()
        guard.stdin.close()


def wait_for(condition: Callable[[], object], seconds: float = 40) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited {seconds} s in vain"
        time.sleep(0.1)


def command_lines() -> str:
    """The command lines and titles of all processes there are."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            found.append((folder / "cmdline").read_bytes().decode(errors="replace"))
    return "\n".join(found)


def listening_addresses(pids: set[int]) -> set[str]:
    """The addresses on which these processes take connections or datagrams."""
    inodes = set()
    for pid in pids:
        with suppress(FileNotFoundError):  # ended meanwhile, or closed
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(FileNotFoundError):
                    inodes.add(os.readlink(entry).removeprefix("socket:[").removesuffix("]"))
    addresses = set()
    for kind, states in {"tcp": {"0A"}, "tcp6": {"0A"}, "udp": {"07"}, "udp6": {"07"}}.items():
        table = Path(f"/proc/net/{kind}")
        for row in table.read_text().splitlines()[1:] if table.exists() else ():
            local, state, inode = (row.split()[place] for place in (1, 3, 9))
            if inode in inodes and state in states:
                words = bytes.fromhex(local.partition(":")[0])  # of four bytes, each in the machine's order
                order = -1 if sys.byteorder == "little" else 1
                packed = b"".join(words[at : at + 4][::order] for at in range(0, len(words), 4))
                addresses.add(str(ipaddress.ip_address(packed)))
    return addresses
