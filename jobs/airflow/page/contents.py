"""What the page shows, read from the copies: sites are believed as far as shape goes, and what has another is left out.

Files are named by a site and a path. Only what the copy's catalogue lists is found, and only at that very place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from graphufs.errors import UserError
from jobs.airflow.mirror import read
from jobs.catalogue_limits import limited


class Told(BaseModel):
    """Something a site tells of; what it tells besides is ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Model(Told):
    """A registered model."""

    id: str
    experiment_name: str
    role: str
    registered: str = ""
    run_folder: str = ""
    checkpoint: str = ""
    update: int = 0
    parent: str | None = None
    periods: dict[str, str] = {}
    provenance: dict[str, Any] = {}
    scores: dict[str, Any] = {}
    cost: dict[str, Any] = {}


class Hole(Told):
    """An initial time between others that has no score."""

    initial_time: str
    why: str


class Table(Told):
    """RMSE by target, forecast and lead; of an ensemble its mean's, and the CRPS of its members."""

    period: str = ""
    grid: Any = ""
    vertical: str = "pressure levels"
    members: int | None = None
    rmse: list[dict[str, Any]] = []
    crps: list[dict[str, Any]] = []

    @cached_property
    def targets(self) -> list[Target]:
        """Its targets, with the RMSE."""
        return [found for one in self.rmse if (found := target(one)) is not None]

    @cached_property
    def of_members(self) -> list[Target]:
        """Its targets, with the CRPS."""
        return [found for one in self.crps if (found := target(one)) is not None]


class Nights(Told):
    """A model's nightly scores."""

    model: str
    initial_times: int
    latest: Table
    holes: list[Hole] = []
    report: str = ""


class Job(Told):
    """A job that is not over."""

    key: str
    step: str
    state: str
    message: str = ""
    begun: str | None = None
    attempt: int | None = None
    segments: int = 0
    labels: dict[str, str] = {}
    progress: dict[str, Any] | None = None
    gpu_hours: float | None = None
    queue_wait: float | None = None

    @property
    def share(self) -> float | None:
        """The share of its work that is done, in percent."""
        done, total = ((self.progress or {}).get(name) for name in ("done", "total"))
        if not isinstance(done, int | float) or not isinstance(total, int | float) or total <= 0:
            return None
        return min(max(100 * done / total, 0.0), 100.0)


class Finding(Told):
    """A named score of champion and challenger."""

    variable: str
    level: float | None = None
    lead: str
    champion: float | None
    challenger: float | None
    change: float | None
    p_value: float | None


class Event(Told):
    """Something that happened to a model."""

    kind: str
    model: str
    by: str
    number: int
    when: str = ""
    why: str = ""
    content: dict[str, Any] = {}

    @property
    def findings(self) -> list[Finding]:
        """What a decision was based on."""
        evidence = self.content.get("evidence")
        return _read(Finding, evidence.get("findings"))[0] if isinstance(evidence, dict) else []

    @property
    def gain(self) -> float | None:
        """By how much the named scores are lower than the champion's, in percent, their mean."""
        changes = [one.change for one in self.findings if one.change is not None]
        return -100 * sum(changes) / len(changes) if changes else None


class File(Told):
    """A report or table."""

    path: str
    bytes: int
    modified: str = ""


@dataclass(frozen=True)
class Target:
    """RMSE of one variable and level: by forecast, the value at each lead [h]."""

    variable: str
    level: float | None
    units: str
    lines: dict[str, dict[float, float]]


@dataclass(frozen=True)
class Site:
    """A site's copy; `mirrored` is None where there is none yet."""

    name: str
    mirrored: str | None = None
    models: Sequence[Model] = ()
    nightly: Sequence[Nights] = ()
    jobs: Sequence[Job] = ()
    history: Sequence[Event] = ()
    files: Sequence[File] = ()
    warnings: Sequence[str] = ()

    @property
    def paths(self) -> set[str]:
        """Where its files are."""
        return {one.path for one in self.files}


@dataclass(frozen=True)
class Experiment:
    """The models of an experiment name on a site, the newest first, and what happened to them."""

    name: str
    site: Site
    models: Sequence[Model]
    history: Sequence[Event]
    nightly: dict[str, Nights] = field(default_factory=dict)

    @property
    def champion(self) -> Model | None:
        """The champion."""
        return next((one for one in self.models if one.role == "champion"), None)

    @property
    def shown(self) -> Nights | None:
        """The nightly scores to show first: the champion's, else those of the newest model that has some."""
        first = [self.champion] if self.champion else []
        return next((self.nightly[one.id] for one in [*first, *self.models] if one.id in self.nightly), None)

    def decision(self, model: str) -> Event | None:
        """The last event that made a model what it is."""
        return next((one for one in self.history if one.model == model), None)

    def cost(self, model: Model) -> dict[str, Any]:
        """What a model cost, and what it gained on its parent for that."""
        gains = [one.gain for one in self.history if one.model == model.id and one.gain is not None]
        hours = model.cost.get("gpu_hours")
        per_hour = gains[0] / hours if gains and isinstance(hours, int | float) and hours > 0 else None
        return {**model.cost, "gain_per_gpu_hour": per_hour}

    def report(self, model: Model) -> str | None:
        """The newest report of a model's run."""
        found = [one for one in self.site.files if one.path.startswith(f"{model.run_folder}/reports/")]
        return max(found, key=lambda one: one.modified).path if found and model.run_folder else None


def site(name: str) -> Site:
    """A site's copy as it is."""
    try:
        content = read.catalogue(name)
    except UserError as error:
        return Site(name, warnings=[str(error)])
    if content is None:
        return Site(name)
    content = limited(content)  # a copy that an earlier version wrote may hold all
    said = content.get("warnings")
    warnings = [str(one) for one in said] if isinstance(said, list) else []
    found: dict[str, list[Any]] = {}
    for part, kind in PARTS.items():
        found[part], odd = _read(kind, content.get(part))
        if odd:
            warnings.append(f"{odd} of its {part} are left out: this version cannot read them")
    warnings += [f"and {count:,} older {part} that are not in the copy" for part, count in content["older"].items()]
    found["files"].sort(key=lambda one: one.modified, reverse=True)
    found["history"].sort(key=lambda one: one.number, reverse=True)
    return Site(name, str(content.get("mirrored") or ""), warnings=warnings, **found)


PARTS: dict[str, type[Told]] = {"models": Model, "nightly": Nights, "jobs": Job, "history": Event, "files": File}


def experiments(sites: Sequence[Site]) -> list[Experiment]:
    """All experiment names of all sites that have models, those with a champion first."""
    found = []
    for one in sites:
        for name in dict.fromkeys(model.experiment_name for model in one.models):
            models = [model for model in one.models if model.experiment_name == name]
            models.sort(key=lambda model: model.registered, reverse=True)
            ids = {model.id for model in models}
            past = [event for event in one.history if event.model in ids]
            nightly = {nights.model: nights for nights in one.nightly if nights.model in ids}
            found.append(Experiment(name, one, models, past, nightly))
    return sorted(found, key=lambda one: (one.champion is None, one.name, one.site.name))


def target(content: dict[str, Any]) -> Target | None:
    """An entry of a table; None where it has another shape."""
    if not isinstance(content.get("variable"), str):
        return None
    level = content.get("level")
    lines = {}
    for name, values in content.items():
        if isinstance(values, dict):
            points = {lead: value for key, value in values.items() if (lead := _hours(key)) is not None and _is(value)}
            lines[name] = dict(sorted(points.items()))
    return Target(content["variable"], level if _is(level) else None, str(content.get("units") or ""), lines)


def file(name: str, path: str) -> Path:
    """A listed file of a site's copy.

    Raises
    ------
    LookupError
        If the copy lists no such file, or it does not lie there.
    """
    try:
        place = read.place(name) / read.FILES
        listed = {one.path for one in _read(File, (read.catalogue(name) or {}).get("files"))[0]}
    except UserError:
        raise LookupError("there is no such site") from None
    if not read.PATH.fullmatch(path) or path not in listed:
        raise LookupError("there is no such file in the copy")
    found = place / path
    # a link anywhere on the way would lead elsewhere
    if found.resolve() != place.resolve() / path or not found.is_file():
        raise LookupError("this file is not in the copy any more")
    return found


Kind = TypeVar("Kind", bound=Told)


def _read(kind: type[Kind], content: Any) -> tuple[list[Kind], int]:
    """What is of a kind, and how many others there are."""
    found, odd = [], 0
    for one in content if isinstance(content, list) else ():
        try:
            found.append(kind.model_validate(one))
        except ValidationError:
            odd += 1
    return found, odd


def _hours(lead: str) -> float | None:
    try:
        return float(lead.removesuffix("h"))
    except ValueError:
        return None


def _is(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
