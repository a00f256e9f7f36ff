"""What of a training is sent to MLflow: its metrics, its parameters, its tags, and nothing that tells who or where."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from graphufs.masking import place
from graphufs.storage.paths import Paths
from graphufs.storage.provenance import provenance
from graphufs.train.metrics_file import CHECKSUM

LONGEST_VALUE = 500
"""Characters of a parameter that every server takes."""
WITHHELD = ("storage_options", "storage", "dask")
"""Keys of an experiment about how this machine reaches things, or its address."""
ADDRESSES = ("url", "climatology", "init_from")


def metrics_of(line: bytes | str) -> dict[str, float]:
    """The numbers of a line of metrics.jsonl under MLflow names.

    Those of updates keep their names, as in loss and loss_by_variable/tmp; the event's name goes before others, as in
    validation/loss. An event without numbers counts 1 under its own name.
    """
    try:
        content = json.loads(line)
        event = content.pop("event")
        content.pop("update")
        content.pop(CHECKSUM, None)
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}  # no line of ours
    numbers: dict[str, float] = {}
    for name, value in _flat(content, "/", "" if event == "update" else event).items():
        for end, number in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(number, bool | int | float):
                numbers[name if end is None else f"{name}/{end}"] = float(number)
    return {re.sub(r"[^\w\-./: ]", "_", name)[:250]: value for name, value in (numbers or {event: 1.0}).items()}


def parameters(content: Any) -> dict[str, str]:
    """A document as flat parameters: training.stages.0.rollout. Lists of plain values stay together."""
    texts = {name: v if isinstance(v, str) else json.dumps(v) for name, v in _flat(content, ".").items()}
    return {name: text[:LONGEST_VALUE] for name, text in texts.items()}


def _flat(content: Any, separator: str, name: str = "") -> dict[str, Any]:
    """The values of a document by the path to each; lists of plain values, and what is empty, are values."""
    if isinstance(content, list) and any(isinstance(value, dict) for value in content):
        content = dict(enumerate(content))
    if not isinstance(content, dict) or not content:
        return {name: content}
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= _flat(value, separator, f"{name}{separator}{key}" if name else str(key))
    return flat


def tags(paths: Paths) -> dict[str, str]:
    """The tags of a run: what made it, and of which other run (MLFLOW_PARENT_RUN_ID) it is a part."""
    made_by, parent = provenance(), os.environ.get("MLFLOW_PARENT_RUN_ID")
    return {
        "mlflow.source.name": "graphufs train",
        "mlflow.note.content": paths.experiment.description,
        "run_folder": paths.run.relative_to(paths.root).as_posix(),
        **{f"hash.{name}": value for name, value in paths.hashes.items()},
        **{f"version.{name}": version for name, version in made_by["versions"].items()},
        "version.python": made_by["python"],
        **({"commit": made_by["commit"]} if made_by["commit"] else {}),
        **({"mlflow.parentRunId": parent} if parent else {}),
    }


def withheld(content: Any) -> Any:
    """A document without what should not leave the machine: see WITHHELD; of local paths, only the last part."""
    if isinstance(content, list):
        return [withheld(value) for value in content]
    if not isinstance(content, dict):
        return content
    return {
        key: public_address(value) if key in ADDRESSES and isinstance(value, str) else withheld(value)
        for key, value in content.items()
        if key not in WITHHELD
    }


def public_address(text: str) -> str:
    """An address without credentials; of a local path, the last part."""
    return place(text) if "://" in text else Path(text).name
