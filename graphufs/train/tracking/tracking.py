"""Tracking of a training in MLflow, besides its metrics.jsonl: off unless `training.tracking.mlflow` is true.

    with tracked(layout) as warnings:
        ...  # train, writing metrics.jsonl

A second process (graphufs.train.tracking.mlflow_sender) follows metrics.jsonl and sends what is new, so that a server
that is slow, away or back again neither slows nor stops the training, and nothing is lost while it is away. The
training only starts that process and, at the end, gives it FINISH_SECONDS to send the rest. What remains is sent when
the training goes on, or by `send_rest`.

Where to: the server that MLflow's own variable MLFLOW_TRACKING_URI names (with MLFLOW_TRACKING_USERNAME and so on),
else the folder ROOT/mlflow with a SQLite file and artefacts, which `mlflow server --backend-store-uri
sqlite:///ROOT/mlflow/mlflow.db` shows. SQLite needs working file locks: where several machines train under one root on
a file system without them, use a server.

What: the experiment as parameters, each number of metrics.jsonl at its update, and as artefacts experiment.yaml,
metrics.jsonl and the last checkpoint's meta.json. A training that goes on stays the same MLflow run, whose id is in the
run folder's tracking.json. Updates that it takes again after its last checkpoint are then there twice. Where
MLFLOW_PARENT_RUN_ID is set, a new run becomes the child of that one, as a retraining wants it.

MLflow's telemetry is switched off. User, host, script and folders, storage options, and credentials in addresses are
not sent.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import yaml

from graphufs.emulator import checkpoint
from graphufs.errors import Stopped, UserError
from graphufs.storage.atomic import write_json
from graphufs.storage.paths import Layout
from graphufs.storage.provenance import provenance

RECORD = "tracking.json"
"""In the run folder: which MLflow run this is, on which server, and how many lines of metrics.jsonl it has."""
LOCAL = "ROOT/mlflow"
"""How the record names the local folder, so that a root may be moved."""
POLL_SECONDS = 5.0
"""Between two looks at metrics.jsonl."""
FINISH_SECONDS = 60.0
"""The most that the training's end waits for the rest to be sent. A server that does not answer takes a third of it."""
ENVIRONMENT = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
DEFAULTS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""MLflow's own are 7 and 120 s, four minutes and more for one call; here, failed calls are repeated anyhow."""
LONGEST_VALUE = 500
"""Characters of a parameter that every server takes."""
WITHHELD = ("storage_options", "dask")
"""Keys of an experiment that may hold credentials or the address of a machine."""
ADDRESSES = ("url", "init_from")

Status = Literal["FINISHED", "FAILED", "KILLED"]
"""How a run ended, in MLflow's words; KILLED is what can go on."""


@contextmanager
def tracked(layout: Layout) -> Iterator[list[str]]:
    """Track what the block writes to metrics.jsonl, and how it ends. Does nothing where tracking is off.

    Lines that the training drops from metrics.jsonl as it goes on must be dropped before. After the block, its list
    holds a warning if MLflow did not get everything.

    Raises
    ------
    UserError
        If MLflow is asked for and not installed.
    """
    warnings: list[str] = []
    if not layout.experiment.training.tracking.mlflow:
        yield warnings
        return
    sender = _Sender(layout)
    status: Status = "FAILED"
    try:
        yield warnings
        status = "FINISHED"
    except Stopped:
        status = "KILLED"
        raise
    finally:
        warnings += sender.finish(status)


def send_rest(layout: Layout) -> list[str]:
    """Send what a finished training could not send, if there is any; return warnings as `tracked` gives them."""
    if not layout.experiment.training.tracking.mlflow:
        return []
    record = _record(layout)
    if record.get("status") == "FINISHED" and record.get("server") == _server(layout)[1]:
        return []
    with tracked(layout) as warnings:
        pass
    return warnings


class _Sender:
    """The process that sends, from the training's side."""

    def __init__(self, layout: Layout) -> None:
        uri, self._server = _server(layout)
        _require(uri)
        self._layout = layout
        owner = self._take_over()
        experiment = layout.experiment
        public = withheld(experiment.model_dump(mode="json"))
        parent = os.environ.get("MLFLOW_PARENT_RUN_ID")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "graphufs.train.tracking.mlflow_sender"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**DEFAULTS, **os.environ, **ENVIRONMENT},
            start_new_session=True,  # Ctrl-C at the terminal is for the training, which then ends this process
        )
        self._tell(
            {
                "owner": owner,
                "uri": uri,
                "server": self._server,
                "folder": str(layout.root / "mlflow") if self._server == LOCAL else None,
                "record": str(layout.run / RECORD),
                "metrics": str(layout.metrics),
                "poll_seconds": POLL_SECONDS,
                "experiment": experiment.training.tracking.experiment or experiment.name,
                "name": f"{experiment.name} {layout.hashes['run']}",
                "tags": {**_tags(layout), **({"mlflow.parentRunId": parent} if parent else {})},
                "parameters": parameters(public),
                "texts": {"experiment.yaml": yaml.safe_dump(public, sort_keys=False, allow_unicode=True)},
            }
        )

    def finish(self, status: Status) -> list[str]:
        """Have the rest sent within FINISH_SECONDS."""
        last = checkpoint.last(self._layout.checkpoints)
        texts = {} if last is None else {"meta.json": json.dumps(withheld(checkpoint.read_meta(last)), indent=2)}
        order = {"status": status, "seconds": FINISH_SECONDS, "texts": texts, "file": str(self._layout.metrics)}
        try:
            answer, _ = self._process.communicate(json.dumps(order) + "\n", timeout=FINISH_SECONDS + 2)
            trouble = json.loads(answer)["trouble"]
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            trouble = f"no answer within {FINISH_SECONDS:g} s"
        except (OSError, ValueError, KeyError, TypeError):
            self._process.wait()
            trouble = f"the process that sends ended with exit code {self._process.returncode}"
        if not trouble:
            return []
        return [
            f"MLflow ({self._server}) did not get everything: {trouble}. {self._layout.metrics} has all metrics; "
            "repeating the command sends the rest"
        ]

    def _tell(self, order: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except OSError:
            pass  # it ended at once; `finish` finds out and says so

    def _take_over(self) -> str:
        """Make the record this training's: a process left from one that was killed then leaves the run alone.

        Lines written after the last checkpoint were dropped, and those that replace them are to be sent again. That is
        noted here, as the training writes new lines before the other process can look.
        """
        record, owner = _record(self._layout), uuid.uuid4().hex
        there = self._layout.metrics.read_bytes().count(b"\n") if self._layout.metrics.is_file() else 0
        sent = min(record.get("sent", 0), there)
        write_json(self._layout.run / RECORD, {**record, "owner": owner, "sent": sent, "status": "RUNNING"})
        return owner


def withheld(content: Any) -> Any:
    """A document without what should not leave the machine: see WITHHELD; of local paths, only the last part."""
    if isinstance(content, list):
        return [withheld(value) for value in content]
    if not isinstance(content, dict):
        return content
    return {
        key: _address(value) if key in ADDRESSES and isinstance(value, str) else withheld(value)
        for key, value in content.items()
        if key not in WITHHELD
    }


def parameters(content: Any, name: str = "") -> dict[str, str]:
    """A document as flat parameters: training.stages.0.rollout. Lists of plain values stay together."""
    parts: dict[str, Any] = {}
    if isinstance(content, dict) and content:
        parts = content
    elif isinstance(content, list) and any(isinstance(value, dict) for value in content):
        parts = {str(index): value for index, value in enumerate(content)}
    if not parts:
        return {name: (content if isinstance(content, str) else json.dumps(content))[:LONGEST_VALUE]}
    flat: dict[str, str] = {}
    for key, value in parts.items():
        flat |= parameters(value, f"{name}.{key}" if name else str(key))
    return flat


def _address(text: str) -> str:
    if "://" not in text:
        return Path(text).name
    return re.sub(r"(?<=://)[^/@]*@", "", text).partition("?")[0]


def _server(layout: Layout) -> tuple[str, str]:
    """Where to track, and how to name that where others may read it."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri:
        return uri, _address(uri) if "://" in uri else uri
    folder = layout.root / "mlflow"
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'mlflow.db'}", LOCAL


def _require(uri: str) -> None:
    needed = ["mlflow", *(("sqlalchemy", "alembic") if uri.startswith("sqlite:") else ())]
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"training.tracking.mlflow is true, but {' and '.join(missing)} cannot be imported; install what tracking "
            "needs (pip install 'graphufs[tracking]'), or set training.tracking.mlflow to false"
        )


def _record(layout: Layout) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads((layout.run / RECORD).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return record


def _tags(layout: Layout) -> dict[str, str]:
    made_by = provenance()
    return {
        "mlflow.source.name": "graphufs train",
        "mlflow.note.content": layout.experiment.description,
        "run_folder": layout.run.relative_to(layout.root).as_posix(),
        **{f"hash.{name}": value for name, value in layout.hashes.items()},
        **{f"version.{name}": version for name, version in made_by["versions"].items()},
        "version.python": made_by["python"],
        **({"commit": made_by["commit"]} if made_by["commit"] else {}),
    }
