"""The embedded idealised world: a small general circulation model whose output is laid out as UFS Replay is.

The names below are loaded on first use; importing the package loads no JAX.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphufs.replay.synthetic.store import WORLD_START as WORLD_START
    from graphufs.replay.synthetic.store import ensure_world as ensure_world

__all__ = ["WORLD_START", "ensure_world"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("graphufs.replay.synthetic.store"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
