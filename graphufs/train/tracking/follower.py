"""The process that follows a training's metrics.jsonl and sends it to MLflow: see graphufs.train.tracking.tracking.

    python -m graphufs.train.tracking.follower ROOT POLL_SECONDS FINISH_SECONDS

It is a process of its own as importing MLflow takes seconds of processor time, as its calls may hang for minutes, and
so that a training that was killed is not left as running. Standard input is a line with the experiment, as JSON, and
stays open while the training lives. It ends with how the training ended; if it just ends, the training was killed.
What was sent is in the run's record, so any later follower completes what one before it has left. What could not be
sent, and why, is printed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import math
import os
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import yaml

from graphufs.config.experiment import Experiment
from graphufs.errors import Stopped
from graphufs.masking import hide
from graphufs.storage.lock import locked
from graphufs.storage.paths import Paths
from graphufs.train.tracking.content import metrics_of, parameters, tags, withheld
from graphufs.train.tracking.tracking import (
    LOCAL,
    checksums,
    last_meta,
    read_record,
    server_of,
    whole_lines,
    write_record,
)

LOCK = ".tracking.lock"
"""In the run folder: the sender holds it."""
LONGEST_PAUSE = 300.0
"""Seconds until a failed call is tried again are doubled each time, up to this."""
METRICS_PER_CALL, PARAMETERS_PER_CALL = 1000, 100
"""The most that MLflow's protocol takes in one call."""


def main() -> None:
    """Send until the training has ended, and then the rest."""
    # MLflow's own words go nowhere: this process says what matters, once.
    logging.disable()
    warnings.simplefilter("ignore")
    answer, sys.stdout = sys.stdout, open(os.devnull, "w")
    root, (poll, limit) = sys.argv[1], map(float, sys.argv[2:])
    order = sys.stdin.readline()
    if not order.endswith("\n"):
        return
    sender = Sender(Paths(Experiment.model_validate(json.loads(order)), Path(root)))
    threading.Thread(target=sender.watch, args=(limit,), daemon=True).start()
    try:
        with locked(
            sender.paths.run,
            name=LOCK,
            should_stop=lambda: time.monotonic() > sender.deadline,
            waiting=lambda: _say("another process still sends this run's metrics to MLflow; waiting for it"),
        ):
            pause = poll
            while not sender.ended.is_set():
                pause = poll if sender.try_to_send() else min(2 * pause, LONGEST_PAUSE)
                sender.ended.wait(pause)
            trouble = sender.finish()
    except Stopped:
        trouble = "another process still sends this run's metrics"
    print(trouble or "", file=answer, flush=True)
    os._exit(0)  # threads of libraries that still wait for a server do not hold up the training's end


class Sender:
    """Brings one MLflow run up to date. What fails is tried again later, so every call may be repeated."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.ended, self.status = threading.Event(), "KILLED"
        """Whether the training has ended, and how, in MLflow's words."""
        self.deadline = math.inf
        """On the monotonic clock, until when the rest may be sent."""
        self._uri, self._server = server_of(paths)
        self._client: Any = None
        self._record: dict[str, Any] = {}
        self._left = 0
        self._trouble: str | None = None
        """Why the last attempt failed."""
        self._refused: str | None = None
        """What MLflow will never take."""
        self._told = False

    def watch(self, seconds: float) -> None:
        """Wait for the training's end, after which the rest has so many seconds."""
        self.status = sys.stdin.read().strip() or self.status
        self.deadline = time.monotonic() + seconds
        self.ended.set()
        time.sleep(seconds + 5)
        os._exit(1)  # a call that hangs would keep the next follower from the run

    def try_to_send(self) -> bool:
        """Send what is new; whether that went well."""
        try:
            self._connect()
            self._send()
            self._trouble = None
        except Exception as error:
            self._trouble, self._client = self._reason(error), None
            if not self._told:
                self._told = True
                _say(
                    f"MLflow ({self._server}) cannot be used now: {self._trouble}. The training goes on; "
                    "what metrics.jsonl gets is sent when MLflow is there again."
                )
        return self._trouble is None

    def finish(self) -> str | None:
        """Send the rest, and how the training ended; return what could not be sent."""
        self.try_to_send()
        if self._trouble or self._left:
            return self._trouble or f"{self._left} lines were left when time was up"
        try:
            run = self._record["run_id"]
            self._client.set_terminated(run, status=self.status)
            if meta := last_meta(self.paths):
                self._client.log_text(run, json.dumps(withheld(meta), indent=2), "meta.json")
            if self.paths.metrics.is_file():
                self._client.log_artifact(run, str(self.paths.metrics))
            self._note(status=self.status)
        except Exception as error:
            return self._reason(error)
        return self._refused

    def _connect(self) -> None:
        """Find the run or make it, and bring its parameters up to date."""
        if self._client is not None:
            return
        from mlflow import MlflowClient
        from mlflow.entities import Param

        experiment = self.paths.experiment
        public = withheld(experiment.model_dump(mode="json"))
        folder = self.paths.root / "mlflow" if self._server == LOCAL else None
        # The client makes the local database if there is none yet; of two that make it at once, one fails.
        with locked(folder, should_stop=bool, waiting=lambda: None) if folder else contextlib.nullcontext():
            client = MlflowClient(tracking_uri=self._uri)
        record = read_record(self.paths)
        run = _find(client, record["run_id"]) if "run_id" in record and record["server"] == self._server else None
        if run is None:
            group = _experiment(client, experiment.training.tracking.experiment or experiment.name, folder)
            name = f"{experiment.name} {self.paths.hashes['run']}"
            run = client.create_run(group, tags=tags(self.paths), run_name=name)
            record = {"server": self._server, "run_id": run.info.run_id, "lines": []}
        else:
            client.update_run(run.info.run_id, status="RUNNING")
        self._record = record
        self._note(status="RUNNING")
        known = run.data.params  # MLflow never changes a parameter once it is there
        missing = [Param(name, value) for name, value in parameters(public).items() if name not in known]
        for first in range(0, len(missing), PARAMETERS_PER_CALL):
            client.log_batch(run.info.run_id, params=missing[first : first + PARAMETERS_PER_CALL], synchronous=True)
        self._client = client
        try:
            text = yaml.safe_dump(public, sort_keys=False, allow_unicode=True)
            client.log_text(run.info.run_id, text, "experiment.yaml")
        except Exception as error:
            self._refused = self._reason(error)  # artefacts have a store of their own; the metrics can do without

    def _send(self) -> None:
        from mlflow.entities import Metric
        from mlflow.exceptions import MlflowException

        lines = whole_lines(self.paths.metrics)
        same = alike(checksums(lines), self._record["lines"])
        del lines[:same], self._record["lines"][same:]
        while lines and time.monotonic() < self.deadline:
            found: list[Any] = []
            count = 0
            for line in lines:
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
                    self._client.log_batch(self._record["run_id"], metrics=part, synchronous=True)
            except MlflowException as error:
                if error.error_code != "INVALID_PARAMETER_VALUE":
                    raise
                self._refused = self._reason(error)  # trying again would not help, and hold up all that follows
            self._record["lines"] += checksums(lines[:count])
            self._note()
            del lines[:count]
        self._left = len(lines)

    def _note(self, **values: Any) -> None:
        self._record |= values
        write_record(self.paths, self._record)

    def _reason(self, error: BaseException) -> str:
        first: BaseException | None = error
        while first is not None and not isinstance(first, OSError):
            first = first.__cause__ or first.__context__
        while first is not None and (first.__cause__ or first.__context__) is not None:
            first = first.__cause__ or first.__context__
        text = str(error if first is None else first)  # "Connection refused" rather than all that came of it
        text = hide(text.replace(self._uri, self._server)).strip() or type(error).__name__
        return textwrap.shorten(text.splitlines()[0], 300, placeholder=" ...").rstrip(".")


def alike(lines: list[int], sent: list[int]) -> int:
    """How many lines of the file were sent: training drops the last ones when it goes back to a checkpoint."""
    pairs = zip(lines, sent, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # the training and its terminal may be gone
        print(text, file=sys.stderr, flush=True)


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


def _experiment(client: Any, name: str, folder: Path | None) -> str:
    """The id of the experiment of that name, made if need be; its artefacts lie in the local folder if there is one."""
    from mlflow.exceptions import MlflowException

    if found := client.get_experiment_by_name(name):
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name, folder and (folder / "artifacts" / name).as_uri()))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return str(client.get_experiment_by_name(name).experiment_id)  # another training made it at the same time


if __name__ == "__main__":
    main()
