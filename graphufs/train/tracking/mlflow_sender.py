"""The process that follows a training's metrics.jsonl and sends it to MLflow: see graphufs.train.tracking.tracking.

It is a process of its own as importing MLflow takes seconds of processor time, as its calls may hang for minutes, and
so that a training that was killed is not left as running. On standard input it gets one JSON object a line: first what
to track, at the end how the training ended. Where the input just ends, the training was killed. It answers the last
with {"trouble": null or what could not be sent}.
"""

from __future__ import annotations

import json
import logging
import math
import os
import queue
import re
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path
from typing import Any

from graphufs.storage.atomic import write_json
from graphufs.storage.lock import locked
from graphufs.train.tracking.tail import Lines

FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0
"""Seconds until a failed call is tried again: doubled each time, up to the longest."""
METRICS_PER_CALL, PARAMETERS_PER_CALL = 1000, 100
"""The most that MLflow's protocol takes in one call."""
END_OF_INPUT = {"status": "KILLED", "seconds": 20.0, "texts": {}, "file": None}


def main() -> None:
    """Send until told how the training ended."""
    # MLflow's own words go nowhere: this process says what matters, once.
    logging.disable()
    warnings.simplefilter("ignore")
    answer, sys.stdout = sys.stdout, open(os.devnull, "w")
    orders: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()
    first = orders.get()
    if first is None:
        return
    sender = Sender(first)
    last: dict[str, Any] | None = {}
    while last == {}:
        sender.try_to_send()
        try:
            last = orders.get(timeout=first["poll_seconds"])
        except queue.Empty:
            continue
    trouble = sender.finish(last or END_OF_INPUT)
    if last:
        print(json.dumps({"trouble": trouble}), file=answer, flush=True)
    os._exit(0)  # threads of libraries that still wait for a server do not hold up the training's end


def _listen(orders: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    for line in sys.stdin:
        orders.put(json.loads(line))
    orders.put(None)


class Sender:
    """Brings one MLflow run up to date. What fails is tried again later, so every call may be repeated."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order
        self.lines = Lines(Path(order["metrics"]))
        self.trouble: str | None = None
        """Why the last attempt failed."""
        self._refused: str | None = None
        """What MLflow will never take."""
        self._client: Any = None
        self._run: dict[str, Any] = {}
        self._pause, self._not_before, self._told = FIRST_PAUSE, 0.0, False

    def try_to_send(self, deadline: float = math.inf) -> None:
        """Send what is new, unless it is too early to try again."""
        if time.monotonic() < self._not_before:
            return
        try:
            self._connect()
            self._send(deadline)
        except _TakenOver:
            os._exit(0)
        except Exception as error:
            self.trouble, self._client = self._reason(error), None
            self._not_before = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self._tell_once()
        else:
            self.trouble, self._pause = None, FIRST_PAUSE

    def finish(self, order: dict[str, Any]) -> str | None:
        """Send the rest, and how the training ended; return what could not be sent."""
        deadline = time.monotonic() + order["seconds"]
        self._not_before = 0.0
        self.try_to_send(deadline)
        if self.trouble or self.lines.waiting:
            return self.trouble or f"{len(self.lines.waiting)} lines were left when time was up"
        try:
            run = self._run["run_id"]
            self._note()
            self._client.set_terminated(run, status=order["status"])
            self._send_texts(order["texts"])
            if order["file"] and Path(order["file"]).is_file():
                self._client.log_artifact(run, order["file"])
            self._note(status=order["status"])
        except _TakenOver:
            return None
        except Exception as error:
            return self._reason(error)
        return self._refused

    def _connect(self) -> None:
        """Find the run or make it, and bring its parameters up to date."""
        if self._client is not None:
            return
        from mlflow.entities import Param

        client = _client(self.order["uri"], self.order["folder"])
        record = self._read_record()
        here = "run_id" in record and record["server"] == self.order["server"]
        run = _find(client, record["run_id"]) if here else None
        if run is None:
            experiment = _experiment(client, self.order["experiment"], self.order["folder"])
            run = client.create_run(experiment, tags=self.order["tags"], run_name=self.order["name"])
            record = {
                "owner": self.order["owner"],
                "server": self.order["server"],
                "run_id": run.info.run_id,
                "sent": 0,
            }
        else:
            client.update_run(run.info.run_id, status="RUNNING")
        if self._run.get("run_id") != record["run_id"]:
            self._run = record
            self.lines.go_to(record["sent"])
        self._note(status="RUNNING")
        known = run.data.params  # MLflow never changes a parameter once it is there
        missing = [Param(name, value) for name, value in self.order["parameters"].items() if name not in known]
        for first in range(0, len(missing), PARAMETERS_PER_CALL):
            client.log_batch(run.info.run_id, params=missing[first : first + PARAMETERS_PER_CALL], synchronous=True)
        self._client = client
        try:
            self._send_texts(self.order["texts"])
        except Exception as error:
            self._refused = self._reason(error)  # artefacts have a store of their own; the metrics can do without

    def _send_texts(self, texts: dict[str, str]) -> None:
        for name, text in texts.items():
            self._client.log_text(self._run["run_id"], text, name)

    def _send(self, deadline: float) -> None:
        from mlflow.entities import Metric
        from mlflow.exceptions import MlflowException

        self.lines.look()
        while self.lines.waiting and time.monotonic() < deadline:
            found: list[Any] = []
            count = 0
            for line in self.lines.waiting:
                values = metrics_of(line)
                if count and len(found) + len(values) > METRICS_PER_CALL:
                    break
                now = int(1000 * time.time())
                update = json.loads(line)["update"] if values else 0
                found += [Metric(name, value, now, update) for name, value in values.items()]
                count += 1
            try:
                for first in range(0, len(found), METRICS_PER_CALL):
                    part = found[first : first + METRICS_PER_CALL]
                    self._client.log_batch(self._run["run_id"], metrics=part, synchronous=True)
            except MlflowException as error:
                if error.error_code != "INVALID_PARAMETER_VALUE":
                    raise
                self._refused = self._reason(error)  # trying again would not help, and hold up all that follows
            self.lines.sent_next(count)
            self._note(sent=self.lines.sent)

    def _read_record(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(Path(self.order["record"]).read_text())
        if record["owner"] != self.order["owner"]:
            raise _TakenOver
        return record

    def _note(self, **values: Any) -> None:
        self._read_record()
        self._run |= values
        write_json(Path(self.order["record"]), self._run)

    def _reason(self, error: BaseException) -> str:
        first: BaseException | None = error
        while first is not None and not isinstance(first, OSError):
            first = first.__cause__ or first.__context__
        while first is not None and (first.__cause__ or first.__context__) is not None:
            first = first.__cause__ or first.__context__
        text = str(error if first is None else first)  # "Connection refused" rather than all that came of it
        text = text.replace(self.order["uri"], self.order["server"]).strip() or type(error).__name__
        return textwrap.shorten(text.splitlines()[0], 300, placeholder=" ...").rstrip(".")

    def _tell_once(self) -> None:
        if not self._told:
            self._told = True
            try:
                print(
                    f"MLflow ({self.order['server']}) cannot be used now: {self.trouble}. The training goes on; "
                    "what metrics.jsonl gets is sent when MLflow is there again.",
                    file=sys.stderr,
                    flush=True,
                )
            except OSError:
                pass  # the training and its terminal are gone


class _TakenOver(Exception):
    """Another training goes on with this run: this process was left from one that was killed."""


def metrics_of(line: bytes | str) -> dict[str, float]:
    """The numbers of a line of metrics.jsonl under MLflow names.

    Those of updates keep their names, as in loss and loss_by_variable/tmp; the event's name goes before others, as in
    validation/loss. An event without numbers counts 1 under its own name.
    """
    try:
        content = json.loads(line)
        event = content.pop("event")
        content.pop("update")
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}  # no line of ours
    numbers = _numbers(content, "" if event == "update" else event) or {event: 1.0}
    return {re.sub(r"[^\w\-./: ]", "_", name)[:250]: value for name, value in numbers.items()}


def _numbers(content: Any, name: str) -> dict[str, float]:
    if isinstance(content, bool | int | float):
        return {name: float(content)}
    if isinstance(content, list):
        content = {str(index): value for index, value in enumerate(content)}
    if not isinstance(content, dict):
        return {}
    found: dict[str, float] = {}
    for key, value in content.items():
        found |= _numbers(value, f"{name}/{key}" if name else str(key))
    return found


def _find(client: Any, run_id: str) -> Any:
    """The run of that id, or None where it was deleted."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return run if run.info.lifecycle_stage == "active" else None


def _client(uri: str, folder: str | None) -> Any:
    """A client of a server, or of a local folder, where it makes the database if there is none yet."""
    from mlflow import MlflowClient

    if folder is None:
        return MlflowClient(tracking_uri=uri)
    # Of two that make the database at once, one fails.
    with locked(Path(folder), should_stop=lambda: False, waiting=lambda: None):
        return MlflowClient(tracking_uri=uri)


def _experiment(client: Any, name: str, folder: str | None) -> str:
    """The id of the experiment of that name, made if need be; its artefacts lie in the local folder if there is one."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            place = None if folder is None else (Path(folder) / "artifacts" / name).as_uri()
            created: str = client.create_experiment(name, artifact_location=place)
            return created
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)  # another training made it at the same time
    identifier: str = found.experiment_id
    return identifier


if __name__ == "__main__":
    main()
