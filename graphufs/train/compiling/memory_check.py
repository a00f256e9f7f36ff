"""Whether what is about to run fits the memory, found out before anything runs for days."""

from __future__ import annotations

import resource
from pathlib import Path

import jax
import psutil

_CGROUP = Path("/sys/fs/cgroup")


def available_bytes(device: jax.Device) -> int | None:
    """The memory a program on a device can have: what is free and what this process holds; None where unknown."""
    if device.platform == "cpu":
        return _main_memory()
    statistics = device.memory_stats() or {}
    limit = statistics.get("bytes_limit")
    return int(limit) if limit else None


def _main_memory() -> int:
    """Free main memory plus what this process uses, within the limits of its control group and address space."""
    used = psutil.Process().memory_info().rss
    limits = [psutil.virtual_memory().available, _cgroup_free()]
    total = [amount + used for amount in limits if amount is not None]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        total.append(soft)
    return min(total)


def _cgroup_free() -> int | None:
    """What the control group (version 2, as in containers and Slurm jobs) still allows."""
    try:
        group = next(line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return None
    free = []
    folder = _CGROUP / group.lstrip("/")
    for place in (folder, *folder.parents):
        if not place.is_relative_to(_CGROUP):
            break
        try:
            limit, used = ((place / name).read_text().strip() for name in ("memory.max", "memory.current"))
            details = dict(line.split() for line in (place / "memory.stat").read_text().splitlines())
        except OSError:
            continue
        if limit != "max":
            files = int(details.get("active_file", 0)) + int(details.get("inactive_file", 0))  # given up when needed
            free.append(int(limit) - int(used) + files)
    return min(free) if free else None


def gibibytes(amount: int) -> str:
    """An amount of memory for reading."""
    return f"{amount / 2**30:.1f} GiB"
