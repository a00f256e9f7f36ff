"""Keep the memory of freed arrays for the next ones.

XLA takes the temporary memory of a compiled program from malloc at each call and gives it back after it. By default
glibc returns it to the kernel, which then hands out and clears each page again: in a training step of the demo that
was a third of all processor time (36 instead of 55 ms a step). In a step of configuration b (benchmarks/cases.py) the
dispatch threads' share alone, see below, was a quarter (369 instead of 506 ms).
"""

from __future__ import annotations

import ctypes
import os
import platform

import jax

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# Larger arrays still come from the kernel and go back to it: they would leave large holes.
_LARGEST_KEPT = 2**30
_KEPT_IN_ALL = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell this process to keep up to 2 GiB of freed memory; call it before JAX computes anything.

    Programs for the CPU are run in the thread that calls them from then on, not in threads of JAX's own: what those
    take comes from arenas that glibc cuts back whatever it is told.

    Returns whether it was done: not on systems without glibc, nor where the environment sets malloc's options itself.
    """
    if platform.libc_ver()[0] != "glibc" or any(
        name.startswith("MALLOC_") or (name == "GLIBC_TUNABLES" and "malloc" in value)
        for name, value in os.environ.items()
    ):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    kept = bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT) and mallopt(_M_TRIM_THRESHOLD, _KEPT_IN_ALL))
    if kept:
        jax.config.update("jax_cpu_enable_async_dispatch", False)
    return kept
