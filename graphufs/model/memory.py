"""Keep the memory of freed arrays for the next ones.

XLA takes the temporary memory of a compiled program from malloc at each call and gives it back after it. Above 32 MiB
glibc returns such memory to the kernel at once, which then hands out and clears each page again: in a training step of
the demo that was a third of all processor time (36 instead of 55 ms a step).
"""

from __future__ import annotations

import ctypes
import os
import platform

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# Larger arrays still come from the kernel and go back to it: they would leave large holes.
_LARGEST_KEPT = 2**28
_KEPT_IN_ALL = 2**29


def keep_freed_memory() -> bool:
    """Tell this process's malloc to keep up to 512 MiB of freed memory; call it before a long computation on a CPU.

    Returns whether it was done: not on systems without glibc, nor where the environment sets malloc's options itself.
    """
    if platform.libc_ver()[0] != "glibc" or any(
        name.startswith("MALLOC_") or (name == "GLIBC_TUNABLES" and "malloc" in value)
        for name, value in os.environ.items()
    ):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT) and mallopt(_M_TRIM_THRESHOLD, _KEPT_IN_ALL))
