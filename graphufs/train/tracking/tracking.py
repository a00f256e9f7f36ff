"""Tracking of a training in MLflow, besides its metrics.jsonl: off unless `training.tracking.mlflow` is true.

    with tracked(paths) as warnings:
        ...  # train, writing metrics.jsonl

A second process (graphufs.train.tracking.follower) follows metrics.jsonl and sends what is new, so that a server that
is slow, away or back again neither slows nor stops the training, and nothing is lost while it is away. The training
only starts that process and, at the end, gives it FINISH_SECONDS to send the rest. What remains is sent when the
training goes on, when its command is repeated, or by `graphufs track`.

Where to: see docs/training.md. SQLite, which the folder ROOT/mlflow has, needs working file locks: where several
machines train under one root on a file system without them, use a server.

What: the experiment as parameters, each number of metrics.jsonl at its update, and as artefacts experiment.yaml,
metrics.jsonl and the last checkpoint's meta.json. A training that goes on stays the same MLflow run. Updates that it
takes again after its last checkpoint are then there twice.

The record RUN/tracking.json holds the server, the id of the MLflow run, its status there, and a checksum of every line
that was sent. Sent are the lines that metrics.jsonl and the record begin with alike; all others wait.

MLflow's telemetry is switched off. User, host, script and folders, storage options, and credentials in addresses are
not sent.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from graphufs.errors import Stopped, UserError
from graphufs.masking import remember
from graphufs.storage.checksums import Damaged, read_checked, write_checked
from graphufs.storage.lock import locked
from graphufs.storage.paths import Paths
from graphufs.train.tracking.content import public_address

logger = logging.getLogger(__name__)

RECORD = "tracking.json"
LOCAL = "ROOT/mlflow"
"""How the record names the local folder, so that a root may be moved."""
POLL_SECONDS = 5.0
"""Between two looks at metrics.jsonl."""
FINISH_SECONDS = 60.0
"""The most that the training's end waits for the rest to be sent. A server that does not answer takes a third of it."""
BY_HAND_SECONDS = 86400.0
ENVIRONMENT = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
DEFAULTS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""MLflow's own are 7 and 120 s, four minutes and more for one call; here, failed calls are repeated anyhow."""

Status = Literal["FINISHED", "FAILED", "KILLED"]
"""How a run ended, in MLflow's words; KILLED is what can go on."""


@contextmanager
def tracked(paths: Paths) -> Iterator[list[str]]:
    """Track what the block writes to metrics.jsonl, and how it ends. Does nothing where tracking is off.

    After the block, its list holds a warning if MLflow did not get everything.

    Raises
    ------
    UserError
        If MLflow is asked for and not installed.
    """
    warnings: list[str] = []
    if not paths.experiment.training.tracking.mlflow:
        yield warnings
        return
    seconds = FINISH_SECONDS
    follower = _start(paths, seconds)
    status: Status = "FAILED"
    try:
        yield warnings
        status = "FINISHED"
    except Stopped:
        status = "KILLED"
        raise
    finally:
        warnings += _finish(follower, paths, status, seconds)


def send_rest(paths: Paths) -> list[str]:
    """Send what a finished training could not send, if there is any; return warnings as `tracked` gives them."""
    return _send(paths, "FINISHED", FINISH_SECONDS) if paths.experiment.training.tracking.mlflow else []


def send_by_hand(paths: Paths) -> list[str]:
    """Send what is not sent yet of an ended training, tracked or not, however long that takes; warnings as `tracked`.

    Raises
    ------
    UserError
        If the experiment was not trained, is being trained, or MLflow is not installed.
    """
    if not paths.metrics.is_file():
        raise UserError(f"{paths.metrics} is not there, so there is nothing to send; run `graphufs train` first")
    try:
        with locked(paths.run, should_stop=lambda: True, waiting=lambda: None):
            pass
    except Stopped:
        raise UserError(
            f"the training in {paths.run} is running; repeat this when it has ended. It sends its metrics itself "
            "where training.tracking.mlflow is true"
        ) from None
    meta = last_meta(paths)
    if meta is not None and meta["update"] >= meta["total"]:
        return _send(paths, "FINISHED", BY_HAND_SECONDS)
    return _send(paths, "FAILED" if read_record(paths).get("status") == "FAILED" else "KILLED", BY_HAND_SECONDS)


def _send(paths: Paths, status: Status, seconds: float) -> list[str]:
    record = read_record(paths)
    if record.get("status") == "FINISHED" and record["server"] == server_of(paths)[1]:
        return []
    return _finish(_start(paths, seconds), paths, status, seconds)


def _start(paths: Paths, seconds: float) -> subprocess.Popen[str]:
    """Start the process that sends."""
    _require(server_of(paths)[0])
    if "owner" in (record := read_record(paths)):
        write_record(paths, record)  # of version 0.1.0: lines are known by their number, while they still have it
    follower = subprocess.Popen(
        [sys.executable, "-m", "graphufs.train.tracking.follower", str(paths.root), str(POLL_SECONDS), str(seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**DEFAULTS, **os.environ, **ENVIRONMENT},
        start_new_session=True,  # Ctrl-C at the terminal is for the training, which then ends this process
    )
    assert follower.stdin is not None
    with suppress(OSError):  # it ended at once; `_finish` finds out and says so
        follower.stdin.write(json.dumps(paths.experiment.model_dump(mode="json")) + "\n")
        follower.stdin.flush()
    return follower


def _finish(follower: subprocess.Popen[str], paths: Paths, status: Status, seconds: float) -> list[str]:
    """Tell it how the training ended, and have the rest sent within so many seconds."""
    try:
        trouble = follower.communicate(status, timeout=seconds + 2)[0].strip()
        if follower.returncode:
            trouble = f"the process that sends ended with exit code {follower.returncode}"
    except subprocess.TimeoutExpired:
        trouble = f"no answer within {seconds:g} s"
    finally:
        follower.kill()
        follower.wait()
    if not trouble:
        return []
    return [
        f"MLflow ({server_of(paths)[1]}) did not get everything: {trouble}. {paths.metrics} has all metrics; "
        "repeating the command sends the rest"
    ]


def _require(uri: str) -> None:
    needed = ["mlflow", *(("sqlalchemy", "alembic") if uri.startswith("sqlite:") else ())]
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"training.tracking.mlflow is true, but {' and '.join(missing)} cannot be imported; install what tracking "
            "needs (pip install 'graphufs[tracking]'), or set training.tracking.mlflow to false"
        )


def server_of(paths: Paths) -> tuple[str, str]:
    """Where to track, and how to name that where others may read it."""
    for name in ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        remember(os.environ.get(name, ""))  # nothing that a server or a client says may repeat them
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri:
        return uri, public_address(uri) if "://" in uri else uri
    folder = paths.root / "mlflow"
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'mlflow.db'}", LOCAL


def read_record(paths: Paths) -> dict[str, Any]:
    """The record of a run; one without `server` where nothing was sent, or the record is damaged."""
    try:
        record = read_checked(paths.run / RECORD)
        if len(record.get("lines", [])) != record["sent"]:  # version 0.1.0 only counted
            record["lines"] = checksums(whole_lines(paths.metrics)[: record["sent"]])
    except FileNotFoundError:
        return {"lines": []}
    except (Damaged, KeyError, TypeError) as error:
        logger.warning("%s: what was sent is not known any more, so all is sent again (%s)", paths.run / RECORD, error)
        return {"lines": []}
    return record


def write_record(paths: Paths, record: dict[str, Any]) -> None:
    """Write the record of a run. Where the `owner` of version 0.1.0 is missing, its followers let go of the run."""
    content = {name: value for name, value in record.items() if name != "owner"} | {"sent": len(record["lines"])}
    write_checked(paths.run / RECORD, content)


def last_meta(paths: Paths) -> dict[str, Any] | None:
    """The meta.json of the last checkpoint, read without what loading checkpoints imports; None where there is none."""
    last = max(paths.checkpoints.glob("[0-9]*/meta.json"), default=None)
    return None if last is None else dict(json.loads(last.read_text()))


def checksums(lines: list[bytes]) -> list[int]:
    """The CRC-32 of each line."""
    return [zlib.crc32(line) for line in lines]


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a file that is being written; none where there is no file."""
    text = path.read_bytes() if path.is_file() else b""
    return text[: text.rfind(b"\n") + 1].splitlines()
