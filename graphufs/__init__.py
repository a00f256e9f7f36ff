"""Train and score a GraphCast-like emulator of NOAA's UFS Replay.

Names are loaded when first asked for: importing the package imports no array library, so that a control plane can read
experiments and the registry without one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphufs.config.experiment import Experiment
    from graphufs.emulator.emulator import ReplayEmulator

_NAMES = {"Experiment": "graphufs.config.experiment", "ReplayEmulator": "graphufs.emulator.emulator"}

__all__ = ["Experiment", "ReplayEmulator"]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_NAMES[name]), name)
