"""A look-alike of Haiku, as far as a crosscheck uses it: a function of parameters that the enclosing `apply` gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

_parameters: list[dict[str, dict[str, Any]]] = []


class Transformed(NamedTuple):
    init: Callable[..., Any] | None
    apply: Callable[..., Any]


def transform(function: Callable[..., Any]) -> Transformed:
    def apply(params: Any, rng: Any, *args: Any) -> Any:
        _parameters.append(params)
        try:
            return function(*args)
        finally:
            _parameters.pop()

    return Transformed(None, apply)


def without_apply_rng(transformed: Transformed) -> Transformed:
    return Transformed(transformed.init, lambda params, *args: transformed.apply(params, None, *args))


def parameters() -> dict[str, dict[str, Any]]:
    """Not Haiku's: what stands for its get_parameter."""
    return _parameters[-1]
