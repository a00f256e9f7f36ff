"""What the commands of `graphufs-jobs` share: options, exit codes, output."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console
from rich.text import Text

from graphufs import reading
from graphufs.cli.ending import DONE, FAILED
from graphufs.cli.terminal import console
from graphufs.config import loading
from graphufs.config.request import Request
from graphufs.errors import UserError
from jobs.job.folder import JobFolder
from jobs.job.reading import Broken
from jobs.job.records import Snapshot
from jobs.job.status import Status, survey
from jobs.site import load

PROTOCOL = 1
"""Raised when a command's JSON changes so that an older reader would misunderstand it."""
UNREACHABLE = 69

app = App(
    name="graphufs-jobs",
    help="""Run steps of an experiment as jobs: on Slurm, as a local process, or in the debugger.

    A job is known by its key: the same step of the same experiment on the same site is the same job. Submitting it
    again attaches to it, or starts a new attempt if it failed; it never runs twice. Jobs go on by themselves after time
    limits and preemption; `tend` restarts those that something else ended.

    Exit codes: 0 done, 1 a job failed, 2 bad input, 69 the scheduler does not answer. With --debug an error shows where
    in the program it arose.
    """,
)


@Parameter(name="*")
@dataclass(frozen=True)
class Place:
    """Where to look."""

    root: Annotated[Path | None, Parameter(name="--root")] = None
    """Folder for everything that is made. [default: the site's, else $GRAPHUFS_ROOT, else ./graphufs-root]"""
    site: Annotated[str, Parameter(name="--site")] = "local"
    """A site's name (`graphufs-jobs sites` lists them) or file."""
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False
    """Print JSON and nothing else on standard output."""

    def folder(self) -> Path:
        """The root folder."""
        return load(self.site).folder(self.root)

    def jobs(self, keys: Sequence[str]) -> tuple[list[JobFolder], list[Broken]]:
        """The jobs of keys, or all that can be told by their folders' names, and folders that cannot.

        Raises
        ------
        UserError
            If there is no job of a key.
        """
        root = self.folder()
        if not keys:
            return JobFolder.below(root)
        jobs = [JobFolder(root, key) for key in keys]
        for job in jobs:
            if not job.exists:
                job.require()
        return jobs, []

    def survey(
        self, keys: Sequence[str], wanted: Callable[[Snapshot], bool] = lambda seen: True
    ) -> tuple[list[Status], list[Broken]]:
        """The states of the jobs of keys, or of all, and what could not be read."""
        jobs, odd = self.jobs(keys)
        statuses, broken = survey(jobs, wanted)
        return statuses, odd + broken

    def ending(self, keys: Sequence[str], told: Sequence[Any], broken: Sequence[Broken], odd: Sequence[Broken]) -> int:
        """The exit code where some jobs were told of, and others could not be read; these are named.

        Raises
        ------
        Broken
            If jobs were asked for by key, and none of them could be read.
        """
        if keys and broken and not told:
            raise broken[0]
        for error in () if self.json_ else (*broken, *odd):
            err().print(Text(f"warning: {error}", "yellow"), soft_wrap=True)
        return FAILED if keys and broken else DONE


@Parameter(name="*")
@dataclass(frozen=True)
class Asked:
    """What a new job is like."""

    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative=())] = ()
    """Override a key of the experiment, as in --set training.batch_size=8. May be repeated."""
    resource: Annotated[tuple[str, ...], Parameter(name="--resource", negative=())] = ()
    """Override what the site gives the job, as in --resource gpus=2. May be repeated."""
    label: Annotated[tuple[str, ...], Parameter(name="--label", negative=())] = ()
    """Say where the job comes from, as in --label owner=me; `list --label` finds it by that. May be repeated."""
    force: Annotated[bool, Parameter(negative=())] = False
    """Run a step again whose job is completed."""
    wait: Annotated[bool, Parameter(negative=())] = False
    """Stay until it is over, tending it; interrupting that leaves the job alone."""


LABEL = re.compile(r"[a-z][a-z0-9_-]{0,30}=.{0,500}")


def labels_of(given: Sequence[str]) -> dict[str, str]:
    """Labels by name, from `name=value`.

    Raises
    ------
    UserError
        If one is written otherwise.
    """
    found: dict[str, str] = {}
    for one in given:
        name, _, value = one.partition("=")
        if not LABEL.fullmatch(one) or not value.isprintable():
            raise UserError(
                f"--label {one!r}: write it as name=value, the name in small letters, the value in one line"
            )
        if found.setdefault(name, value) != value:
            raise UserError(f"--label {name} is given twice, as {found[name]!r} and as {value!r}")
    return found


def request_of(given: Sequence[str]) -> Request:
    """What is asked of a run, from `name=value`; all but text is JSON.

    Raises
    ------
    UserError
        If one is written otherwise, unknown, or its value is not allowed.
    """
    found: dict[str, Any] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or name in found:
            raise UserError(f"--request {one!r}: write it as name=value, each name once, as in answer=promote")
        try:
            found[name] = reading.parse_json(value) if name == "cost" else value
        except ValueError:
            raise UserError(
                f'--request {one!r}: the value is not JSON; write it like cost={{"gpu_hours": 2.5}}'
            ) from None
    return loading.request(found)


def print_json(**content: Any) -> None:
    """Print what a program reads: the content, the protocol's version and this package's."""
    version = metadata.version("graphufs")
    indent = 2 if sys.stdout.isatty() else None  # a catalogue is half as long without
    print(json.dumps({"protocol": PROTOCOL, "graphufs": version, **content}, indent=indent))


def err() -> Console:
    """Standard error, for people."""
    return console(stderr=True)


def out() -> Console:
    """Standard output, wide enough for tables where it is not a terminal."""
    return console(width=None if sys.stdout.isatty() else 160)
