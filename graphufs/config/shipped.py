"""The experiments that are shipped, found by name, and experiments from files or standard input."""

from __future__ import annotations

import sys
from pathlib import Path

from graphufs import reading
from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.config.request import Request
from graphufs.errors import UserError

EXPERIMENTS = (Path(__file__).parents[1] / "experiments").resolve()
"""In a checkout a link to its folder `experiments`, in a wheel a copy of that."""


def names() -> list[str]:
    """The names of the shipped experiments."""
    return sorted(path.stem for path in EXPERIMENTS.glob("*.yaml"))


def resolve(name: str) -> Path:
    """An experiment's file: a path, or the name of one of those shipped."""
    path = Path(name)
    return EXPERIMENTS / f"{name}.yaml" if name in names() and not path.is_file() else path


def experiment_of(name: str, overrides: list[str]) -> Experiment:
    """An experiment from a file, a shipped name, or `-` for standard input."""
    return run_of(name, overrides)[0]


def run_of(name: str, overrides: list[str]) -> tuple[Experiment, Request]:
    """The same, and what is asked of a run by keys that said so in version 0.1 (see `loading.load_run`).

    Raises
    ------
    UserError
        As `loading.load`.
    """
    if name == "-":
        try:
            text = reading.read_text(sys.stdin)
        except UserError as error:
            raise UserError(f"cannot read the experiment on standard input: {error}") from None
        return loading.parse_run(text, overrides, origin="the experiment on standard input")
    return loading.load_run(resolve(name), overrides)
