"""What the demo asks Airflow for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.config.request import Request
from graphufs.storage.paths import Paths, digest

SITE = "local"
AT_ONCE = 60
"""Initial times that the demo's one night takes at most: more than the evaluation year has."""


@dataclass(frozen=True)
class Run:
    """A run of a DAG that the demo asks for."""

    dag: str
    id: str
    conf: dict[str, Any]


def runs(experiment: Experiment, root: Path, name: str, overrides: list[str], number: int = 1) -> list[Run]:
    """What the demo asks for. Ids come from the experiment: it is the same runs however often it is asked for.

    They are those that version 0.1 gave, over a root that it made.
    """
    common: dict[str, Any] = {"experiment": name, "site": SITE, "overrides": overrides}
    key = digest({"experiment": loading.dump(experiment, Request()), "hashes": Paths(experiment, root).hashes})
    again = f"-{number}" if number > 1 else ""
    wanted = {"normalization": common, "training": common, "nightly_evaluation": common | {"at_most": AT_ONCE}}
    return [Run(dag, f"demo-{key}{again}", conf) for dag, conf in wanted.items()]
