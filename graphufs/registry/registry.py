"""The models of a root: candidates, champions and retired ones, as an append-only history tells them.

Below `<root>/registry/history/` each event is one small JSON file, named by its number, written atomically and never
changed (`graphufs.registry.event_files`). The writer that creates the file first takes the number, so that two never
decide on the same past; the second one reads again. Roles are what folding the history gives: an experiment name
never has more than one champion. This module imports no array library, so that the control plane can read registries.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from graphufs.errors import UserError
from graphufs.registry import event_files
from graphufs.storage import formats

CHAMPION, LATEST = "champion", "latest"
"""What `choose` takes besides a model's id."""

Role = Literal["candidate", "champion", "retired"]


@dataclass(frozen=True)
class RegisteredModel:
    """A trained model."""

    id: str
    """`<experiment>-<run hash>-<update>`: the same for the same training and checkpoint."""
    experiment_name: str
    """Models of one name follow each other as champions."""
    experiment: str
    """The experiment it was trained with as YAML, every default written out; options of storage, which may hold keys,
    are left out."""
    run: str
    """The hash of the training."""
    run_folder: str
    """Relative to the root; in it is the checkpoint, written after so many updates."""
    checkpoint: str
    update: int
    periods: Mapping[str, str]
    """By use (training, validation, normalization, climatology), as `start..end`."""
    provenance: Mapping[str, Any]
    """Code and package versions the checkpoint was made with."""
    parent: str | None = None
    """The id of the model it was trained on from, if any."""
    scores: Mapping[str, Any] = field(default_factory=dict)
    """A small table of its evaluation, see graphufs.registry.register."""
    cost: Mapping[str, Any] = field(default_factory=dict)
    """What its training used, where that is known: segments, gpu_hours, queue_wait [s], elapsed [s], energy [kWh]."""
    registered: str = ""
    """When, UTC."""
    number: int = 0
    """The event that did it: later models have larger numbers."""
    role: Role = "candidate"

    def to_json(self) -> dict[str, Any]:
        """The model as its event keeps it."""
        return {
            name: value for name, value in vars(self).items() if name not in ("cost", "registered", "number", "role")
        }


@dataclass(frozen=True)
class RegistryEvent:
    """Something that happened to a model, and who or what decided so and why.

    `kind` is `registered`, `scored` (another evaluation of it), `promoted` (it is the champion now, and the former one
    retires), `held` (it stays a candidate) or `refused` (it retires). `content` belongs to the kind; a decision
    keeps its evidence there.
    """

    kind: str
    model: str
    by: str
    why: str = ""
    content: Mapping[str, Any] = field(default_factory=dict)
    when: str = ""
    number: int = 0


def model_id(experiment_name: str, run: str, update: int) -> str:
    """The id of a model."""
    return f"{experiment_name}-{run}-{update}"


def whoever() -> str:
    """The name of the account this process runs under."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in some containers
        return "unknown"


def history(root: Path, from_copies: list[str] | None = None) -> list[RegistryEvent]:
    """All events, in order.

    Listings give a list `from_copies`: damaged events are then taken from their copies, and named there.

    Raises
    ------
    UserError
        If an event is missing or cannot be read: nothing is then concluded from the others.
    """
    numbers = event_files.numbers(root)
    return [_read(root, number, from_copies) for number in range(1, numbers[-1] + 1)] if numbers else []


def models(
    root: Path, experiment_name: str | None = None, from_copies: list[str] | None = None
) -> list[RegisteredModel]:
    """All models, or those of an experiment name, in the order of their registration; `from_copies` as in `history`."""
    known = fold(history(root, from_copies))
    return [model for model in known.values() if experiment_name in (None, model.experiment_name)]


def get(root: Path, wanted: str) -> RegisteredModel:
    """The model of an id.

    Raises
    ------
    UserError
        If there is none.
    """
    return _find({model.id: model for model in models(root)}, wanted)


def champion(root: Path, experiment_name: str) -> RegisteredModel | None:
    """The champion of an experiment name; None while there is none."""
    return next((model for model in models(root, experiment_name) if model.role == "champion"), None)


def choose(root: Path, experiment_name: str, wanted: str = CHAMPION) -> RegisteredModel | None:
    """The model that is asked for; None if no model of that experiment name can be it.

    `wanted` is `champion`, or the newest candidate while there is none; `latest`, the newest that is not retired; or an
    id.

    Raises
    ------
    UserError
        If there is no model of that id, or it is one of another experiment name.
    """
    there = models(root, experiment_name)
    active = [model for model in there if model.role != "retired"]
    if wanted == LATEST:
        return active[-1] if active else None
    if wanted == CHAMPION:
        return next((model for model in active if model.role == "champion"), active[-1] if active else None)
    found = get(root, wanted)
    if found.experiment_name != experiment_name:
        raise UserError(
            f"the model {wanted} belongs to the experiment {found.experiment_name}, not to {experiment_name}; choose "
            f"{', '.join([CHAMPION, LATEST, *(model.id for model in there)])}"
        )
    return found


def fold(events: Sequence[RegistryEvent]) -> dict[str, RegisteredModel]:
    """The models that a history leads to, by id, in the order of their registration.

    Raises
    ------
    UserError
        If an event is of no known kind or concerns an unknown model.
    """
    known: dict[str, RegisteredModel] = {}
    champions: dict[str, str] = {}
    for event in events:
        if event.kind == "registered":
            known[event.model] = RegisteredModel(
                **_known(RegisteredModel, event.content), registered=event.when, number=event.number
            )
            continue
        model = _find(known, event.model)
        if event.kind == "scored":
            known[model.id] = replace(model, scores=event.content["scores"])
        elif event.kind == "promoted":
            if (former := champions.get(model.experiment_name)) and known[former].role == "champion":
                known[former] = replace(known[former], role="retired")
            known[model.id] = replace(model, role="champion")
            champions[model.experiment_name] = model.id
        elif event.kind == "refused":
            known[model.id] = replace(model, role="retired")
        elif event.kind != "held":
            raise UserError(
                f"event {event.number} of the registry is of the kind {event.kind!r}, which this version of graphufs "
                "does not know; use the version that wrote it"
            )
        if cost := event.content.get("cost"):
            known[model.id] = replace(known[model.id], cost=cost)
    return known


def append(root: Path, decide: Callable[[list[RegistryEvent]], RegistryEvent | None]) -> RegistryEvent | None:
    """Add the event that `decide` makes of the history; None if it decides for none.

    The event becomes the next one of exactly the history it was decided on: if another writer comes before, `decide` is
    asked again. The history with the event must fold.
    """
    while True:
        past = history(root)
        event = decide(past)
        if event is None:
            return None
        when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = replace(event, number=len(past) + 1, when=when)
        fold([*past, event])
        if event_files.create(root, event.number, vars(event)):
            return event


def register(root: Path, model: RegisteredModel, by: str) -> tuple[RegisteredModel, bool]:
    """Enter a model, or the scores of another evaluation of one that is there; with it, whether anything was new."""

    def decide(past: list[RegistryEvent]) -> RegistryEvent | None:
        known = fold(past).get(model.id)
        if known is None:
            return RegistryEvent("registered", model.id, by, "trained and evaluated", model.to_json())
        if known.scores == json.loads(json.dumps(model.scores)):  # as they come back from the history
            return None
        return RegistryEvent("scored", model.id, by, "evaluated otherwise", {"scores": model.scores})

    event = append(root, decide)
    return get(root, model.id), event is not None


def _find(known: Mapping[str, RegisteredModel], wanted: str) -> RegisteredModel:
    if wanted not in known:
        raise UserError(f"there is no model {wanted!r}; there are {', '.join(known) or 'none yet'}")
    return known[wanted]


def _known(kind: type[Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """What a version knows of what another one wrote; keys that came later are left where they are."""
    return {one.name: content[one.name] for one in fields(kind) if one.name in content}


def _read(root: Path, number: int, from_copies: list[str] | None) -> RegistryEvent:
    content = event_files.read(root, number, from_copies)
    path = event_files.event_file(root, number)
    formats.require(path, content.get("format"), "registry")
    if content.pop("format", None) != event_files.FORMAT:
        raise UserError(
            f"{path} is of another format than this version's, {event_files.FORMAT}; use the version that wrote it"
        )
    try:
        return RegistryEvent(**_known(RegistryEvent, content))
    except (TypeError, AttributeError) as error:
        raise UserError(f"{path} is not an event of a registry ({error}); {event_files.remedy(root, number)}") from None
