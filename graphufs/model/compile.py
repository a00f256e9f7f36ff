"""`jit` with the compiler options this package needs; every compiled function that matters goes through it.

jaxlib 0.10.2 hands dot products and sums on CPUs to YNNPACK. That path returns wrong sums for products with short rows
(jax issue 39103, 0.8 % off in its example), crashes on arrays of seven dimensions (issue 39257), and makes a training
step of this network twice as slow. It is switched off here; on other devices the option has no effect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from graphufs.model import compilation_cache

compilation_cache.install()  # whoever compiles has imported this module

COMPILER_OPTIONS: dict[str, Any] = {"xla_cpu_experimental_ynn_fusion_type": ""}


def jit(function: Callable[..., Any], *, deterministic: bool = False, **options: Any) -> Any:
    """jax.jit(function, **options) with COMPILER_OPTIONS; only for the outermost function.

    `deterministic`: on a GPU, only operations that give the same bits each time; a CPU's always do.
    """
    extra = {"xla_gpu_deterministic_ops": True} if deterministic else {}
    return jax.jit(function, compiler_options=COMPILER_OPTIONS | extra, **options)
