"""The floating-point operations of a function's matrix products, from what JAX traces.

XLA's own count takes the body of a loop once; this one takes it as often as it runs, with what is computed again for
a gradient. What no result depends on, such as gradients of what is frozen, is left out, as XLA leaves it out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import jaxprs_in_params
from jax.interpreters.partial_eval import dce_jaxpr


def count_flops(function: Callable[..., Any], *arguments: Any) -> int:
    """The matrix products' multiplications and additions."""
    traced = function if hasattr(function, "trace") else jax.jit(function)  # with compiler options it is outermost
    jaxpr = traced.trace(*arguments).jaxpr.jaxpr
    return _count(dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[0])


def _count(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            left = equation.invars[0].aval.shape
            (contracted, _), _ = equation.params["dimension_numbers"]
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
        elif equation.primitive.name in ("while", "cond"):
            raise ValueError(f"how often the parts of a {equation.primitive.name} run is not known")
        repeats = equation.params["length"] if equation.primitive.name == "scan" else 1
        total += repeats * sum(_count(inner) for inner in jaxprs_in_params(equation.params))
    return total
