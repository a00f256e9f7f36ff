"""Sites: where jobs run and how, one YAML file each."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from graphufs.config import loading
from graphufs.config.base import LONGEST_HOURS, Section
from graphufs.errors import UserError
from graphufs.steps import STEPS

SHIPPED = Path(__file__).parent / "sites"
NUMBER = re.compile(r"[0-9]{1,9}")
MOST = 1_000_000
"""Of what a job asks for or how often something is done; the scheduler allows less."""
Action = Literal["continue", "stop", "wait"]


def minutes(time_limit: str) -> int:
    """A time limit in Slurm's spelling (minutes, H:MM:SS or D-HH:MM:SS) in minutes, rounded up.

    Raises
    ------
    ValueError
        If the text is not a time limit, or zero.
    """
    days, dash, rest = time_limit.rpartition("-")
    parts = rest.split(":")
    if not (NUMBER.fullmatch(days) or not dash) or not all(map(NUMBER.fullmatch, parts)) or len(parts) > 3:
        raise ValueError(f"{time_limit!r} is not a time limit; write it like 30, 4:00:00 or 2-00:00:00")
    numbers = [int(part) for part in parts]
    # Slurm reads D-H and D-H:M from the left, but M, M:S and H:M:S from the right
    hours, minute, second = [*numbers, 0, 0][:3] if dash else ([0, *numbers, 0][:3] if len(numbers) < 3 else numbers)
    seconds = ((int(days or 0) * 24 + hours) * 60 + minute) * 60 + second
    if not seconds:
        raise ValueError(f"{time_limit!r} is a time limit of zero; give at least one minute")
    if seconds > LONGEST_HOURS * 3600:
        raise ValueError(f"{time_limit!r} is longer than {LONGEST_HOURS // 24:,} days")
    return -(-seconds // 60)


def _check_time(value: object) -> object:
    if isinstance(value, int):  # so YAML 1.1 reads 4:00:00
        raise ValueError('a time limit without quotes is read as a number; write it like "30" or "4:00:00"')
    if isinstance(value, str):
        minutes(value)
    return value


def _check_memory(value: str) -> str:
    if not re.fullmatch(r"[0-9]{1,9}[MGT]", value):
        raise ValueError(f"{value!r} is not an amount of memory; write it like 64G")
    return value


class Control(Section):
    """What the control plane (Airflow) must know."""

    connection: str | None = None
    """Airflow's SSH connection to the login node; null: the commands run on the control plane's own machine."""
    command: str = "graphufs-jobs"
    """The job command on the login node, as a path where its folder is not in the PATH of SSH's shells."""
    pool: str = "graphufs"
    """Airflow's pool for tasks that speak to the site."""
    poll_interval: int = Field(60, ge=1, le=86_400)
    """Seconds between two looks at the site's jobs."""
    first_wait: int = Field(10, ge=0, le=240)
    """Seconds for which a task waits for a new job before it gives its worker back: short jobs end sooner than Airflow
    takes to put a task aside and go on with it. 0: not at all."""


class Resources(Section):
    """What a job asks for. Names and meaning are sbatch's unless said otherwise."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    """Nodes not to run on."""
    nodes: int = Field(1, ge=1, le=MOST)
    """More than one: data parallel training (one process a node), or prepare, normalize and evaluate with dask."""
    gpus: int = Field(0, ge=0, le=MOST)
    """GPUs per node."""
    cpus: int = Field(1, ge=1, le=MOST)
    """CPU cores per node."""
    memory: Annotated[str, AfterValidator(_check_memory)] = "8G"
    """Memory per node, like 64G."""
    time_limit: Annotated[str, BeforeValidator(_check_time)] = "1:00:00"
    """Of one segment, like 4:00:00; a job goes on after it."""
    blocks: int = Field(1, ge=1, le=MOST)
    """Into how many elements of a job array a forecast is divided, by blocks of initial times."""
    sbatch: dict[str, str] = {}
    """Further options of sbatch, without the dashes."""

    @model_validator(mode="after")
    def _in_one_line(self) -> Resources:
        """Each becomes a comment for sbatch in the job's script: what came after a line's end would be run there."""
        for name in self.sbatch:
            if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
                raise ValueError(
                    f"sbatch: {name!r} is not an option of sbatch; write it like begin, without the dashes"
                )
        for name, value in {**vars(self), **self.sbatch}.items():
            if isinstance(value, str) and not value.isprintable():
                raise ValueError(f"{name}: {value!r} is not in one line of printable characters")
        return self


class Policy(Section):
    """What happens after each way a job can end: a new attempt, nothing, or waiting for a person."""

    time_limit: Action = "continue"
    preempted: Action = "continue"
    node_failure: Action = "continue"
    killed: Action = "continue"
    """Its process was killed from outside, by an unknown cause."""
    hung: Action = "continue"
    out_of_memory: Action = "stop"
    """Of the host or the device."""
    disk_full: Action = "wait"
    refused: Action = "wait"
    """The site did not take the job."""
    dependency: Action = "wait"
    """A job it needs did not succeed."""
    diverged: Action = "stop"
    bad_input: Action = "stop"
    error: Action = "stop"
    """An exception in the code."""
    cancelled: Action = "stop"


class Site(Section):
    """A place where jobs run."""

    description: str = ""
    control: Control = Control()
    executor: Literal["slurm", "local", "debug"]
    """slurm: sbatch; local: a process on this machine that outlives the command; debug: in the command itself."""
    root: str | None = None
    """Folder for everything that is made, on a file system that all nodes share. Variables like $SCRATCH are filled in.
    null: $GRAPHUFS_ROOT, else ./graphufs-root."""
    shared_with_group: bool = False
    """The root, or a folder above it, may be written by its group, on purpose. Whoever is in that group, or owns a
    folder above, can then run programs as this account: docs/security.md."""
    python: str | None = None
    """The Python of the job's environment; null: the one that runs graphufs-jobs."""
    setup: list[str] = []
    """Shell lines before Python starts: modules, conda activate."""
    signal: Literal["USR1", "USR2"] = "USR2"
    """The signal that announces the end of the time."""
    lead: int = Field(300, ge=10, le=MOST)
    """Seconds between that signal and the end: time to save."""
    interface: str | None = None
    """Network interface over which the processes of a job speak to each other; null: that of the node's name."""
    resources: dict[str, dict[str, Any]] = {}
    """By step; what `default` says holds for all steps."""
    policy: Policy = Policy()
    max_attempts: int = Field(3, ge=1, le=MOST)
    """Attempts of a job until a person is asked; going on after a time limit or preemption does not count as one."""
    max_requeues: int = Field(100, ge=0, le=MOST)
    """How often an attempt may go on after a time limit."""
    hung_after: int = Field(3600, ge=1, le=3600 * LONGEST_HOURS)
    """Seconds without any progress after which a step counts as hung and is ended."""
    at_once: dict[str, Annotated[int, Field(ge=1, le=MOST)]] = {"train": 1}
    """With local jobs, how many of a step run at the same time below a root; what `default` says holds for all other
    steps, of which without it any number does. More wait."""
    lost_after: int = Field(900, ge=1, le=3600 * LONGEST_HOURS)
    """Seconds for which a job's state may be UNKNOWN before it is LOST."""

    @model_validator(mode="after")
    def _known_steps(self) -> Site:
        for step in self.at_once:
            if step != "default" and step not in STEPS:
                raise ValueError(f"at_once: {step!r} is not a step; allowed are default, {', '.join(STEPS)}")
        for step, content in self.resources.items():
            if step != "default" and step not in STEPS:
                raise ValueError(f"resources: {step!r} is not a step; allowed are default, {', '.join(STEPS)}")
            loading.validate(Resources, content, f"resources.{step}", "jobs/site.py")
        return self

    def resources_of(self, step: str, overrides: Sequence[str] = ()) -> Resources:
        """What a job of a step asks for, after overrides like `gpus=2`.

        Raises
        ------
        UserError
            If an override is not key=value, or a resource is not valid.
        """
        content = {**self.resources.get("default", {}), **self.resources.get(step, {})}
        for override in overrides:
            key, equals, value = override.partition("=")
            if not equals:
                raise UserError(f"--resource {override}: write it as key=value, for example gpus=2")
            section, dot, option = key.strip().partition(".")
            if dot and section == "sbatch":  # as in sbatch.begin=20:00
                content["sbatch"] = {**content.get("sbatch", {}), option: value.strip()}
            else:
                content[key.strip()] = value.strip()
        return loading.validate(Resources, content, "the job's resources are not valid", "jobs/site.py")

    def folder(self, root: Path | None = None) -> Path:
        """The root folder: one given, the site's, $GRAPHUFS_ROOT or ./graphufs-root.

        Raises
        ------
        UserError
            If the site's root names an environment variable that is not set.
        """
        if root is None:
            text = self.root or os.environ.get("GRAPHUFS_ROOT", "graphufs-root")
            filled = os.path.expandvars(os.path.expanduser(text))
            if "$" in filled:
                raise UserError(
                    f"the site's root {text} names an environment variable that is not set here; set it, or give --root"
                )
            root = Path(filled)
        return root.expanduser().absolute()


def as_noted(content: Mapping[str, Any]) -> Site:
    """A site as an attempt's file has it; keys that a newer version wrote are left out.

    Raises
    ------
    ValueError
        If it is none, or has values that this version does not know.
    """
    given = content.get("resources", {})
    resources = {step: _known(Resources, one) for step, one in given.items() if step == "default" or step in STEPS}
    return Site.model_validate({**content, "resources": resources}, extra="ignore")


def resources_as_noted(content: Mapping[str, Any]) -> Resources:
    """A job's resources as an attempt's file has them; as `as_noted`."""
    return Resources.model_validate(content, extra="ignore")


def _known(kind: type[Section], content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name in kind.model_fields}


def available() -> dict[str, Path]:
    """All site files by name, of $GRAPHUFS_SITES (folders like in $PATH) and, behind those, the shipped ones."""
    own = [Path(part).expanduser() for part in os.environ.get("GRAPHUFS_SITES", "").split(os.pathsep) if part]
    found: dict[str, Path] = {}
    for folder in [*own, SHIPPED]:
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def find(name: str) -> Path:
    """The file of a site: one of the known names, or a path that ends in .yaml.

    Raises
    ------
    UserError
        If no site has this name.
    """
    if name.endswith(".yaml"):
        return Path(name)
    known = available()
    if name not in known:
        raise UserError(f"there is no site {name!r}; there are {', '.join(known)}, or give the path of a .yaml file")
    return known[name]


def load(name: str) -> Site:
    """The site of a name or path.

    Raises
    ------
    UserError
        If there is none, or its file is wrong: every wrong place is named.
    """
    path = find(name)
    try:
        return loading.validate(Site, loading.read(path), f"{path} is not a valid site", "jobs/site.py")
    except UserError as error:
        raise error if str(path) in str(error) else UserError(f"{path} is not a valid site: {error}") from None
