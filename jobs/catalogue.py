"""What a site's root holds: experiments, runs, models, scores, reports; and files handed out, of that root only."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from graphufs.config import loading
from graphufs.errors import UserError
from graphufs.registry import registry
from graphufs.storage.atomic import new_folder
from graphufs.storage.paths import Layout
from graphufs.train import metrics_file
from jobs.job import status as state
from jobs.job import usage
from jobs.job.folder import JobFolder

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
MOST_JOBS = 50
"""Open jobs for each of which accounting is asked what they used."""


def catalogue(root: Path) -> dict[str, Any]:
    """Experiments the site ships, and below its root: runs, registered models, nightly scores, and files to look at.

    A registry that cannot be read is told of in `warnings`; so are jobs. The rest is told all the same.
    """
    experiments = [path.stem for path in sorted(EXPERIMENTS.glob("*.yaml"))]
    warnings: list[str] = []
    past: list[registry.Event] = []
    models: list[dict[str, Any]] = []
    jobs: list[dict[str, Any]] = []
    try:
        past = registry.history(root)
        models = [model(one) for one in registry.fold(past).values()]
    except UserError as error:
        warnings.append(str(error))
    try:
        jobs = open_jobs(root)
    except UserError as error:
        warnings.append(str(error))
    return {
        "root": str(root),
        "experiments": experiments,
        "runs": [run(path) for path in _runs(root)],
        "models": models,
        "champions": {one["experiment_name"]: one["id"] for one in models if one["role"] == "champion"},
        "history": [event(one) for one in past],
        "jobs": jobs,
        "nightly": nightly(root),
        "files": files(root),
        "warnings": warnings,
    }


def model(found: registry.Model) -> dict[str, Any]:
    """What is known of a model, but for its whole configuration."""
    return {name: value for name, value in vars(found).items() if name != "experiment"}


def event(found: registry.Event) -> dict[str, Any]:
    """What happened to a model; of a registration without the model, which is told of by itself."""
    content = {} if found.kind in ("registered", "scored") else dict(found.content)
    return {**vars(found), "content": content}


def open_jobs(root: Path) -> list[dict[str, Any]]:
    """Jobs that are not over, with their segments, the time they waited [s] and the GPU-hours they used so far."""
    open_ = [status for status in state.look(JobFolder.all(root)) if not status.over]
    return [
        {**_told(status), **(usage.history(status.job)["used"] if number < MOST_JOBS else {})}
        for number, status in enumerate(open_)
    ]


def _told(status: state.Status) -> dict[str, Any]:
    content = {name: value for name, value in status.to_json().items() if name not in ("result", "folder")}
    return {**content, "gpu_hours": None, "queue_wait": None}


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


def _runs(root: Path) -> list[Path]:
    return sorted(path.parent for path in (root / "runs").glob("*/*/experiment.yaml"))


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
    path = _below(root, name)
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


def packed(root: Path, name: str, limit: int) -> dict[str, Any]:
    """A file below the root as text for JSON: `base64`, its `sha256`, and its size in `bytes`.

    Raises
    ------
    UserError
        If it is not there, not below the root, no file, or larger than the limit.
    """
    path = _below(root, name)
    if not path.is_file():
        raise UserError(f"{name} is no file; say with --to where it is to go")
    with open(path, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise UserError(f"{name} has {path.stat().st_size:,} bytes, more than the {limit:,} asked for at most")
    digest = hashlib.sha256(data).hexdigest()
    return {"path": name, "bytes": len(data), "sha256": digest, "base64": base64.b64encode(data).decode()}


def _below(root: Path, name: str) -> Path:
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()):
        raise UserError(f"{name} lies outside {root}; only what is below it is handed out")
    if not path.exists():
        raise UserError(f"there is no {name} below {root}")
    return path


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
