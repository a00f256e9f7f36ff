"""A job's folder: what is asked for, its attempts, and how far it is; the only memory the job system has.

<root>/jobs/<key>/
    intent.json          what is to be done and asked (Intent), written before anything is submitted
    experiment.yaml      the resolved experiment, its credentials masked
    credentials.json     these, where it holds some itself; for the account's eyes only
    progress.json        the last progress event (progress-N.json for element N of a job array)
    result.json          the step's result: the only proof of success
    cancel.json          someone asked for the end
    attempts/<n>/        attempt.json (Attempt), payload.pkl, script.sh, submitit/ (logs), reserve, segments.jsonl
                         (every start and end of the work), claim* (the one job that may do it), ending.json
                         (an exception), observed.json (since when its state is unknown)
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from graphufs import reading
from graphufs.config import credentials, loading, moved_keys
from graphufs.config.experiment import Experiment
from graphufs.config.request import Request
from graphufs.errors import UserError
from graphufs.storage.atomic import write_json, write_private, write_text
from graphufs.storage.lock import locked
from graphufs.storage.paths import digest
from jobs.job.reading import Broken, NoJob, entries, formatted, known_keys, read_json, unreadable
from jobs.job.records import Attempt, Intent, Snapshot, moment

RESERVE = "reserve"
"""A file in each attempt's folder that takes room on the disk, so that a job can still say that the disk is full."""
CREDENTIALS = "credentials.json"
"""A file in a job's folder with those that its experiment holds, which are masked in all others."""
KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}")
NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
"""What numbers of Slurm's jobs look like, and those of processes, with a moment where it is this one."""
NUMERIC = (int, float)


class JobFolder:
    """The folder of one key below a root."""

    def __init__(self, root: Path, key: str) -> None:
        if not KEY.fullmatch(key):
            raise UserError(
                f"{reading.shown(key)} is not a job key; use letters, digits, dots, dashes and underscores, at most 151"
            )
        self.root, self.key = root, key
        self.path = root / "jobs" / key

    @staticmethod
    def all(root: Path) -> list[JobFolder]:
        """Those of a root, in the order of their keys."""
        return JobFolder.below(root)[0]

    @staticmethod
    def below(root: Path) -> tuple[list[JobFolder], list[Broken]]:
        """Those of a root, in the order of their keys, and the folders that hold an intent under a name that is no key.

        Raises
        ------
        Broken
            If the folder of all jobs cannot be listed.
        """
        jobs, broken = [], []
        for name in entries(root / "jobs"):
            if os.path.lexists(root / "jobs" / name / "intent.json"):
                if KEY.fullmatch(name):
                    jobs.append(JobFolder(root, name))
                else:
                    broken.append(Broken(root / "jobs" / name, "its name is not a job's key, as that of a copy"))
        return jobs, broken

    @property
    def exists(self) -> bool:
        """Whether there ever was such a job."""
        return os.path.lexists(self.path / "intent.json")  # a link that leads nowhere is something, too

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the job's lock: one submitter at a time. The system lets go of it when its holder dies.

        All who hold one keep `prune` from removing anything of the root meanwhile: see `alone`.
        """
        with (
            locked(self.root / "jobs", shared=True, should_stop=lambda: False, waiting=lambda: None),
            locked(self.path, should_stop=lambda: False, waiting=lambda: None),
        ):
            yield

    @staticmethod
    @contextmanager
    def alone(root: Path) -> Iterator[None]:
        """Keep everybody from holding the lock of any job of a root."""
        with locked(root / "jobs", should_stop=lambda: False, waiting=lambda: None):
            yield

    def require(self) -> Intent:
        """The intent.

        Raises
        ------
        UserError
            If there is no such job; `Broken` if it cannot be read.
        """
        path = self.path / "intent.json"
        content = read_json(path)
        if content is None:
            near = [folder.key for folder in JobFolder.all(self.root)]
            some = f"; there are {', '.join(near[:5])}{' ...' if len(near) > 5 else ''}" if near else "; there is none"
            raise NoJob(f"there is no job {self.key} below {self.root}{some}")
        intent = known_keys(Intent, path, content)
        if intent.key != self.key:
            raise Broken(self.path, f"it holds the job {reading.shown(intent.key)}, as a copy does")
        with unreadable(path):
            moment(intent.created)
            for key in intent.needs:
                JobFolder(self.root, key)
        return intent

    def read(self) -> Snapshot:
        """What a look at the job needs of its folder, each file opened once: file systems of clusters are slow.

        Raises
        ------
        UserError
            If there is no such job; `Broken` if something in its folder cannot be read without which its state is
            not known.
        """
        with unreadable(self.path):
            intent, odd = self.require(), list[Broken]()
            attempt = self.attempt(odd=odd)
            claims = {} if attempt is None else self.claims(attempt.number)
            segments = [] if attempt is None else self.segments(attempt.number)
            try:
                progress = self.progress()
            except Broken as error:
                progress = None
                odd.append(error)
            seen = Snapshot(self, intent, attempt, claims, segments, self.result(), progress, tuple(odd))
            if seen.id is not None and not NUMBER.fullmatch(seen.id):
                raise Broken(self.path, f"{reading.shown(seen.id)} is no number of a job or process")
        return seen

    def write_intent(self, intent: Intent, experiment: Experiment) -> None:
        """Note what is to be done; the intent comes last, so that a job with one has all."""
        self.keep_credentials(experiment)
        write_text(self.path / "experiment.yaml", loading.dump(experiment))
        # version 0.1 and jobs of which nothing is asked know no request
        content = {name: value for name, value in asdict(intent).items() if name != "request" or value}
        write_json(self.path / "intent.json", formatted(content))

    def experiment(self) -> Experiment:
        """The job's experiment, with its credentials."""
        found, values = loading.load(self.path / "experiment.yaml"), read_json(self.path / CREDENTIALS)
        if not values:
            return found
        return Experiment.model_validate(credentials.fill(credentials.content(found), values))

    def keep_credentials(self, experiment: Experiment) -> None:
        """Keep the credentials that an experiment holds, which are not in its file; those of before where it has none.

        So an experiment that is given again with new ones has its next attempt use them.
        """
        if values := credentials.held(experiment):
            write_private(self.path / CREDENTIALS, values)

    def request(self) -> Request:
        """What is asked of the run; of a job that version 0.1 wrote, by keys of its experiment."""
        former = loading.load_run(self.path / "experiment.yaml")[1]
        return former | loading.request(self.require().request)

    def attempts(self, odd: list[Broken] | None = None) -> list[int]:
        """The numbers of the attempts, ascending; what else lies among them is added to `odd`."""
        found = []
        for name in entries(self.path / "attempts"):
            if not (name.isascii() and name.isdigit() and name == str(int(name))):
                if odd is not None:
                    odd.append(Broken(self.path / "attempts" / name, "its name is not the number of an attempt"))
            elif os.path.lexists(self.path / "attempts" / name / "attempt.json"):
                found.append(int(name))
            elif not (self.path / "attempts" / name).is_dir():  # one that is being made is a folder
                raise Broken(self.path / "attempts" / name, "it is no folder of an attempt")
        return sorted(found)

    def folder(self, number: int) -> Path:
        """The folder of an attempt."""
        return self.path / "attempts" / str(number)

    def submitit(self, number: int) -> Path:
        """The folder of submitit's pickles and logs of an attempt."""
        return self.folder(number) / "submitit"

    def attempt(self, number: int | None = None, odd: list[Broken] | None = None) -> Attempt | None:
        """An attempt, by default the last; None if there is none. For `odd` see `attempts`."""
        if number is None:
            numbers = self.attempts(odd)
            if not numbers:
                return None
            number = numbers[-1]
        path = self.folder(number) / "attempt.json"
        content = read_json(path)
        if content is None:
            return None
        attempt = known_keys(Attempt, path, content)
        with unreadable(path):
            if attempt.number != number:
                raise ValueError(f"it is that of attempt {attempt.number}")
            moment(attempt.begun)
        return attempt

    def write_attempt(self, attempt: Attempt, **changes: Any) -> Attempt:
        """Note an attempt, after changes."""
        attempt = replace(attempt, **changes)
        write_json(self.folder(attempt.number) / "attempt.json", formatted(asdict(attempt)))
        return attempt

    def claims(self, number: int) -> dict[str, str]:
        """Which jobs do the work of an attempt: scheduler's number by element (`0`, but for job arrays)."""
        found = {}
        for name in entries(self.folder(number)):
            if name.startswith("claim-"):
                with unreadable(self.folder(number) / name):
                    found[name.removeprefix("claim-")] = reading.read_file(self.folder(number) / name).decode().strip()
        return found

    def segments(self, number: int) -> list[dict[str, Any]]:
        """What the work noted at its starts and ends, merged: a dictionary for each start."""
        path = self.folder(number) / "segments.jsonl"
        with unreadable(path):
            try:
                lines = reading.read_file(path).decode(errors="replace").splitlines()
            except FileNotFoundError:
                return []
        found: dict[str, dict[str, Any]] = {}
        for line in lines:
            try:
                content = json.loads(line)
                found.setdefault(content["segment"], {}).update(content)
            except (ValueError, LookupError, TypeError, RecursionError):  # torn by a kill, or no segment
                continue
        return list(found.values())

    def add_segment(self, number: int, **content: Any) -> None:
        """Add a line to the segments, in one write."""
        line = "\n" + json.dumps(content) + "\n"  # whatever a full disk cut short before it
        adding = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK  # no wait for the reader of a FIFO
        descriptor = os.open(self.folder(number) / "segments.jsonl", adding, 0o666)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def result(self) -> dict[str, Any] | None:
        """The proof that the work is done, or None."""
        return read_json(self.path / "result.json", finished=str, result=dict)

    def progress(self) -> dict[str, Any] | None:
        """The last progress event of the job; of an array, the sum over its elements."""
        events: list[dict[str, Any]] = []
        for name in entries(self.path):
            if name.startswith("progress") and name.endswith(".json"):
                event = read_json(self.path / name, attempt=int, at=str, label=str, done=NUMERIC, total=NUMERIC)
                with unreadable(self.path / name):
                    events += [event] if event and moment(event["at"]) else []
        events = [event for event in events if event["attempt"] == max(event["attempt"] for event in events)]
        if len(events) < 2:
            return events[0] if events else None
        total = {name: sum(event[name] for event in events) for name in ("done", "total")}
        return {**max(events, key=lambda event: str(event["at"])), **total}

    def logs(self, number: int) -> list[Path]:
        """The log files that submitit wrote for an attempt."""
        return sorted(self.submitit(number).glob("*_log.*"))


def default_key(step: str, experiment: Experiment, site: str, request: Request | None = None) -> str:
    """The key of a job that a person submits: by step, experiment, what is asked of the run, and site."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", experiment.name)[:60]
    return f"{step}-{name}-{digest({'experiment': identity(experiment, request), 'site': site})}"


def identity(experiment: Experiment, request: Request | None = None) -> dict[str, Any]:
    """What experiment and request contribute to a job's key and digest: as version 0.1 had it."""
    return moved_keys.put_back(experiment, request or Request())
