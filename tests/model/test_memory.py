"""Freed memory is kept for the next arrays."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, sys
from graphufs.model.memory import keep_freed_memory
kept = keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
size = 40_000_000 + len(sys.argv)  # some 10,000 pages
b"x" * size
before = faults()
for _ in range(5):
    b"x" * size
print(kept, faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
@pytest.mark.parametrize("environment", [{}, {"MALLOC_TRIM_THRESHOLD_": "1000"}])
def test_new_arrays_take_the_pages_that_others_left_unless_the_environment_says_otherwise(environment: dict) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    run = subprocess.run(
        [sys.executable, "-c", COUNT], env=clean | environment, capture_output=True, text=True, check=True
    )
    kept, faults = run.stdout.split()
    if environment:
        assert kept == "False" and int(faults) > 10_000
    else:
        assert kept == "True" and int(faults) < 1000
