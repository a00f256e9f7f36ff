"""The experiments that are shipped, found by name, and experiments from files or standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from graphufs.config import loading

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def resolve(name: str) -> Path:
    """An experiment's file: a path, or the name of one of those shipped."""
    path = Path(name)
    shipped = EXPERIMENTS / f"{name}.yaml"
    if not path.is_file() and shipped.exists():
        return shipped
    return path


def experiment_of(name: str, overrides: list[str]) -> Any:
    """An experiment from a file, a shipped name, or `-` for standard input."""
    if name == "-":
        return loading.parse(sys.stdin.read(), overrides, origin="the experiment on standard input")
    return loading.load(resolve(name), overrides)
