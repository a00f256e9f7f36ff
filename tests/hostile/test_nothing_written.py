"""No command that refuses, or finds nothing to do, leaves anything behind: not even the root's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphufs.cli.app import app as graphufs
from jobs.cli.app import app as graphufs_jobs
from tests.conftest import TINY
from tests.hostile.running import require_told, run, tree

EXPERIMENT, ROOT, NO_SOURCE = str(TINY), ("--root", "r"), ("--set", "data.source.url=/nothere")
EMPTY: dict[str, tuple[str, ...]] = {
    **{
        name: (name, EXPERIMENT, *ROOT)
        for name in (
            "normalize train forecast evaluate report publish register track plan-nightly record-nightly nightly "
            "retrain plan-retraining compare-models decide rollback show"
        ).split()
    },
    **{name: (name, EXPERIMENT, *NO_SOURCE, *ROOT) for name in ("prepare", "run", "extend-world", "check")},
    "plan": ("plan", "nothere.yaml", *ROOT),
    "rollback": ("rollback", "tiny", *ROOT),
    "clean": ("clean", "--yes", *ROOT),
    "migrate": ("migrate", *ROOT),
    "models": ("models", "promote", "m", "--why", "x", *ROOT),
    "compare": ("compare", "a", "b", *ROOT),
    "score": ("score", "a", "b", "c", "out"),
    "catalogue": ("catalogue", *ROOT),
    "convert": ("convert", "a", "--to", "netcdf", "--output", "out"),
    "pressure-levels": ("pressure-levels", "a", "b", "--variables", "temperature"),
    "import-deepmind": ("import-deepmind", "a", "b", "--statistics", "c"),
    "export": ("export", "a", "b"),
    "crosscheck": ("crosscheck", "a"),
    "schema": ("schema", "extra"),
}
"""By command, a line of it over a root and other places that are not there."""
MORE = [
    ("models", "list", *ROOT),
    ("models", "rollback", "tiny", *ROOT),
    ("models", "repair", *ROOT),
    ("publish", EXPERIMENT, "--set", "forecast.products=[netcdf]", *ROOT),
    ("check", EXPERIMENT, "--thorough", *ROOT),
    ("forecast", "nothere", "--analysis", "x", "--initial-time", "2020-01-01", "--output", "out"),
    ("evaluate", EXPERIMENT, "--engine", "weatherbench2", *ROOT),
    ("train", EXPERIMENT, "--init-from", "nothere", *ROOT),
    ("import-deepmind", "a", "out"),
]
JOBS: dict[str, tuple[str, ...]] = {
    "submit": ("submit", "train", "nothere.yaml", *ROOT),
    "run": ("run", EXPERIMENT, "--site", "nothere", *ROOT),
    "sites": ("sites", "nothere.yaml"),
    "fetch": ("fetch", "x", *ROOT),
    "serve-ssh": ("serve-ssh", *ROOT),
    **{name: (name, *ROOT) for name in ("show", "prune", "doctor", "clean", "list", "tend", "poll", "status")},
    **{name: (name, "nothere", *ROOT) for name in ("logs", "cancel")},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "f").mkdir()
    return tmp_path / "f"


@pytest.mark.parametrize(
    ("command", "line"),
    [
        *(pytest.param("graphufs", line, id=" ".join(line[:2])) for line in [*EMPTY.values(), *MORE]),
        *(pytest.param("jobs", line, id=f"jobs {name}") for name, line in JOBS.items()),
    ],
)
def test_nothing_is_left_over_a_root_that_is_not_there(command: str, line: tuple[str, ...], folder: Path) -> None:
    ended = run(command, *line, folder=folder)
    assert tree(folder) == {}
    assert ended.code in (0, 1, 2)
    if ended.code == 2:
        require_told(ended)


@pytest.mark.parametrize(("app", "table"), [(graphufs, EMPTY), (graphufs_jobs, JOBS)], ids=["graphufs", "jobs"])
def test_every_command_is_in_the_table(app: object, table: dict[str, tuple[str, ...]]) -> None:
    assert {name for name in app if not name.startswith("-")} == {*table}  # type: ignore[attr-defined]
