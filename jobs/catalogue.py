"""What a site's root holds: experiments, runs, models, scores, reports."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from graphufs import reading
from graphufs.config import loading
from graphufs.errors import UserError
from graphufs.registry import event_files, registry
from graphufs.storage import run_files
from graphufs.train import metrics_file
from jobs.catalogue_limits import LIMITS, limited
from jobs.job import usage
from jobs.job.folder import JobFolder
from jobs.job.status import survey_root

MOST_JOBS = 50
"""Open jobs for each of which accounting is asked what they used."""


def catalogue(root: Path) -> dict[str, Any]:
    """Experiments the site ships, and below its root: runs, registered models, nightly scores, and files to look at.

    Of each the newest (`jobs.catalogue_limits`). What cannot be read is left out and told of in `warnings`.
    """
    warnings: list[str] = []
    past: list[registry.RegistryEvent] = []
    models: list[dict[str, Any]] = []
    try:
        past = registry.history(root, warnings)
        models = [
            {name: value for name, value in vars(one).items() if name != "experiment"}  # its whole configuration
            for one in registry.fold(past).values()
        ]
    except UserError as error:
        warnings.append(str(error))
    warnings += [f"{path} is no event of the registry by its name and not read" for path in event_files.odd(root)]
    runs, older_runs = _newest(root, "*/*/experiment.yaml", LIMITS["runs"][0], warnings)
    first = {root / one["run_folder"] / "nightly" / one["checkpoint"] for one in models if one["role"] == "champion"}
    nights, older_nights = _newest(root, "*/*/nightly/*/latest.json", LIMITS["nightly"][0], warnings, first)
    content = {
        "root": str(root),
        "experiments": loading.shipped(),
        "runs": [found for path in runs if (found := _told(run, path.parent, warnings)) is not None],
        "models": models,
        "champions": {one["experiment_name"]: one["id"] for one in models if one["role"] == "champion"},
        # a registration without the model, which is told of by itself
        "history": [
            {**vars(one), "content": {} if one.kind in ("registered", "scored") else dict(one.content)} for one in past
        ],
        "jobs": open_jobs(root, warnings),
        "nightly": [found for path in nights if (found := _told(_night, path, warnings)) is not None],
        "files": files(root, warnings),
        "warnings": warnings,
    }
    return limited({**content, "older": {"runs": older_runs, "nightly": older_nights}})


def open_jobs(root: Path, warnings: list[str]) -> list[dict[str, Any]]:
    """Jobs that are not over, with their segments, the time they waited [s] and the GPU-hours they used so far."""
    found: list[dict[str, Any]] = []
    try:
        statuses, broken = survey_root(root)
    except UserError as error:
        warnings.append(str(error))
        return []
    warnings += [str(error) for error in (*broken, *(one for status in statuses for one in status.seen.odd))]
    for status in statuses:
        if not status.over:
            content = {name: value for name, value in status.to_json().items() if name not in ("result", "folder")}
            told = _told(usage.history, status.job, warnings) if len(found) < MOST_JOBS else None
            found.append({**content, "gpu_hours": None, "queue_wait": None, **(told["used"] if told else {})})
    return found


def files(root: Path, warnings: list[str]) -> list[dict[str, Any]]:
    """Reports and tables that people look at, with size and time of the last change, UTC."""
    found = []
    for pattern in ("*/*/reports/*.html", "*/*/nightly/*/report.html"):
        for path in sorted((root / "runs").glob(pattern)):
            about = _told(Path.stat, path, warnings)
            if about is not None and path.is_file():
                modified = datetime.fromtimestamp(about.st_mtime, UTC).isoformat()
                found.append({"path": path.relative_to(root).as_posix(), "bytes": about.st_size, "modified": modified})
    return found


def run(folder: Path) -> dict[str, Any]:
    """What is known of one run: how far its training is, and what was made of it."""
    lines = metrics_file.read(folder / "metrics.jsonl")
    updates = [line["update"] for line in lines]
    losses = [line["loss"] for line in lines if line["event"] == "validation"]
    finished = sorted(int(path.name) for path in (folder / "checkpoints").glob("[0-9]*") if path.name.isdecimal())
    return {
        "experiment": folder.parent.name,
        "run": folder.name,
        "updates": max(updates, default=0),
        "validation_loss": losses[-1] if losses else None,
        "checkpoints": finished,
        "forecasts": _names(folder / "forecasts", "*.zarr"),
        "scores": _names(folder / "scores", "*.zarr"),
        "reports": _names(folder / "reports", "*.html"),
        "changed": datetime.fromtimestamp((folder / "experiment.yaml").stat().st_mtime, UTC).isoformat(),
        "folder": str(folder),
    }


def _night(path: Path) -> dict[str, Any]:
    run = path.parents[2]
    if wrong := run_files.damage(run, path.relative_to(run).as_posix()):
        raise UserError(wrong)
    content = json.loads(reading.read_file(path))
    if not isinstance(content, dict):
        raise ValueError("it holds no scores of nights")
    return content


def _newest(
    root: Path, pattern: str, most: int, warnings: list[str], first: Collection[Path] = ()
) -> tuple[list[Path], int]:
    """The files below the runs that changed last, those in folders that go `first` before them; and how many others."""
    when = {}
    for path in (root / "runs").glob(pattern):
        if (about := _told(Path.stat, path, warnings)) is not None:
            when[path] = (path.parent in first, about.st_mtime)
    ordered = sorted(when, key=lambda path: when[path], reverse=True)
    return ordered[:most], max(len(ordered) - most, 0)


def _told(look: Callable[[Any], Any], what: Any, warnings: list[str]) -> Any:
    """What a look at one thing tells; None where it cannot be read, which is then told of."""
    try:
        return look(what)
    except UserError as error:
        warnings.append(str(error))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        path = what.path if isinstance(what, JobFolder) else what
        warnings.append(f"{path} cannot be read ({type(error).__name__}: {error})")
    return None


def _names(folder: Path, pattern: str) -> list[str]:
    return [path.name for path in sorted(folder.glob(pattern))]
