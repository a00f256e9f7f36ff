"""What a site's root holds: experiments, runs, models, scores, reports."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from graphufs.config import shipped
from graphufs.errors import UserError
from graphufs.registry import registry
from graphufs.train import metrics_file
from jobs.job import usage
from jobs.job.folder import JobFolder
from jobs.job.status import read_statuses

MOST_JOBS = 50
"""Open jobs for each of which accounting is asked what they used."""


def catalogue(root: Path) -> dict[str, Any]:
    """Experiments the site ships, and below its root: runs, registered models, nightly scores, and files to look at.

    A registry that cannot be read is told of in `warnings`; so are jobs. The rest is told all the same.
    """
    warnings: list[str] = []
    past: list[registry.RegistryEvent] = []
    models: list[dict[str, Any]] = []
    jobs: list[dict[str, Any]] = []
    try:
        past = registry.history(root)
        models = [
            {name: value for name, value in vars(one).items() if name != "experiment"}  # its whole configuration
            for one in registry.fold(past).values()
        ]
    except UserError as error:
        warnings.append(str(error))
    try:
        jobs = open_jobs(root)
    except UserError as error:
        warnings.append(str(error))
    return {
        "root": str(root),
        "experiments": shipped.names(),
        "runs": [run(path.parent) for path in sorted((root / "runs").glob("*/*/experiment.yaml"))],
        "models": models,
        "champions": {one["experiment_name"]: one["id"] for one in models if one["role"] == "champion"},
        # a registration without the model, which is told of by itself
        "history": [
            {**vars(one), "content": {} if one.kind in ("registered", "scored") else dict(one.content)} for one in past
        ],
        "jobs": jobs,
        "nightly": nightly(root),
        "files": files(root),
        "warnings": warnings,
    }


def open_jobs(root: Path) -> list[dict[str, Any]]:
    """Jobs that are not over, with their segments, the time they waited [s] and the GPU-hours they used so far."""
    found: list[dict[str, Any]] = []
    for status in read_statuses(JobFolder.all(root)):
        if not status.over:
            content = {name: value for name, value in status.to_json().items() if name not in ("result", "folder")}
            used = usage.history(status.job)["used"] if len(found) < MOST_JOBS else {}
            found.append({**content, "gpu_hours": None, "queue_wait": None, **used})
    return found


def nightly(root: Path) -> list[dict[str, Any]]:
    """The newest nightly scores of each model that has some."""
    return [json.loads(path.read_text()) for path in sorted((root / "runs").glob("*/*/nightly/*/latest.json"))]


def files(root: Path) -> list[dict[str, Any]]:
    """Reports and tables that people look at, with size and time of the last change, UTC."""
    found = []
    for pattern in ("*/*/reports/*.html", "*/*/nightly/*/report.html"):
        for path in sorted((root / "runs").glob(pattern)):
            about = path.stat()
            modified = datetime.fromtimestamp(about.st_mtime, UTC).isoformat()
            found.append({"path": path.relative_to(root).as_posix(), "bytes": about.st_size, "modified": modified})
    return found


def run(folder: Path) -> dict[str, Any]:
    """What is known of one run: how far its training is, and what was made of it."""
    lines = metrics_file.read(folder / "metrics.jsonl")
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
