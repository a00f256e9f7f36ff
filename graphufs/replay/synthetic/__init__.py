"""The embedded idealised world: a small general circulation model whose output is laid out as UFS Replay is.

The names below are loaded on first use; importing the package loads no JAX.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphufs.replay.synthetic.replay_layout import WORLD_START as WORLD_START
    from graphufs.replay.synthetic.store import ensure_world as ensure_world

__all__ = ["WORLD_START", "ensure_world"]

_HOMES = {"WORLD_START": "replay_layout", "ensure_world": "store"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
