"""What a site's root holds: experiments, runs, scores, reports; and files handed out, of that root only."""

from __future__ import annotations

import contextlib
import shutil
import sys
from pathlib import Path
from typing import Any

from graphufs import configuration
from graphufs.errors import UserError
from graphufs.files import new_folder
from graphufs.layout import Layout
from graphufs.train import metrics
from jobs.folder import JobFolder

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def catalogue(root: Path) -> dict[str, Any]:
    """Experiments the site ships, and the runs below its root."""
    experiments = [path.stem for path in sorted(EXPERIMENTS.glob("*.yaml"))]
    return {"root": str(root), "experiments": experiments, "runs": [run(path) for path in _runs(root)]}


def _runs(root: Path) -> list[Path]:
    return sorted(path.parent for path in (root / "runs").glob("*/*/experiment.yaml"))


def run(folder: Path) -> dict[str, Any]:
    """What is known of one run: how far its training is, and what was made of it."""
    lines = metrics.read(folder / "metrics.jsonl")
    updates = [line["update"] for line in lines if "update" in line]
    losses = [line["loss"] for line in lines if line["event"] == "validation"]
    finished = sorted(int(path.name) for path in (folder / "checkpoints").glob("[0-9]*") if path.name.isdigit())
    return {
        "experiment": folder.parent.name,
        "run": folder.name,
        "updates": max(updates, default=0),
        "validation_loss": losses[-1] if losses else None,
        "checkpoints": finished,
        "forecasts": _names(folder / "forecasts", "*.zarr"),
        "scores": _names(folder / "scores", "*.zarr"),
        "reports": _names(folder / "reports", "*.html"),
        "folder": str(folder),
    }


def _names(folder: Path, pattern: str) -> list[str]:
    return [path.name for path in sorted(folder.glob(pattern))]


def report_of(root: Path, key: str) -> Path:
    """The report of a job's experiment."""
    path = Layout(JobFolder(root, key).experiment(), root).report
    if not path.exists():
        raise UserError(f"there is no report of {key} yet ({path}); submit the step `report`")
    return path


def fetch(root: Path, name: str, to: Path | None) -> int:
    """Copy a file or folder below the root to `to`, or write a file to standard output; returns bytes.

    Raises
    ------
    UserError
        If it is not there, or not below the root, by whatever links.
    """
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()):
        raise UserError(f"{name} lies outside {root}; only what is below it is handed out")
    if not path.exists():
        raise UserError(f"there is no {name} below {root}")
    if path.is_dir():
        if to is None:
            raise UserError(f"{name} is a folder; say with --to where it is to go")
        if to.exists():
            raise UserError(f"{to} is there already; name another place")
        for link in path.rglob("*"):
            if link.is_symlink() and not link.resolve().is_relative_to(root.resolve()):
                raise UserError(f"{link} leads out of {root}; only what is below it is handed out")
        with new_folder(to) as temporary:
            shutil.copytree(path, temporary, dirs_exist_ok=True)
        return sum(file.stat().st_size for file in to.rglob("*") if file.is_file())
    if to is None:
        with open(path, "rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return path.stat().st_size
    target = to / path.name if to.is_dir() else to
    temporary_file = target.with_name(f".{target.name}.tmp")
    try:
        shutil.copyfile(path, temporary_file)
        temporary_file.replace(target)
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            temporary_file.unlink(missing_ok=True)
    return target.stat().st_size


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
        return configuration.parse(sys.stdin.read(), overrides, origin="the experiment on standard input")
    return configuration.load(resolve(name), overrides)
