"""Freed memory is kept for the next arrays."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, sys
import jax, jax.numpy as jnp
from graphufs.model.compile import jit
from graphufs.model.keep_freed_memory import keep_freed_memory
kept = keep_freed_memory()
x = jnp.ones((4096, 64))
run = jit(lambda x, w: jnp.sin(jnp.sin(x @ w) @ w.T).sum())  # x @ w takes 32 MiB, 8192 pages
w = jnp.ones((64, 2048))
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
run(x, w).block_until_ready()
def faults_of_ten_runs():
    before = faults()
    for _ in range(10):
        run(x, w).block_until_ready()
    return faults() - before
# the fewest of several: a thread that has not computed before takes its first pages still
print(kept, min(faults_of_ten_runs() for _ in range(8)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
@pytest.mark.parametrize("environment", [{}, {"MALLOC_TRIM_THRESHOLD_": "1000"}])
def test_programs_take_the_pages_that_others_left_unless_the_environment_says_otherwise(environment: dict) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    run = subprocess.run(
        [sys.executable, "-c", COUNT], env=clean | environment, capture_output=True, text=True, check=True
    )
    kept, faults = run.stdout.split()
    if environment:
        assert kept == "False" and int(faults) > 40_000  # of 8192 pages in each of ten runs
    else:
        assert kept == "True" and int(faults) < 20_000
