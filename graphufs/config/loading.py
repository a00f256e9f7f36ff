"""Reading experiments, shipped ones by name: YAML, `--set` overrides, errors that name the key, JSON Schema."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from graphufs import masking, reading
from graphufs.config import moved_keys
from graphufs.config.experiment import Experiment
from graphufs.config.request import Request
from graphufs.errors import UserError, did_you_mean

EXPERIMENTS = (Path(__file__).parents[1] / "experiments").resolve()
"""In a checkout a link to its folder `experiments`, in a wheel a copy of that."""
Model = TypeVar("Model", bound=BaseModel)
FIELDS = tuple(Request.model_fields)
"""What can be asked of a run."""
FAULTS = 20
"""Faults that a message names; of more only the number is told."""


def shipped() -> list[str]:
    """The names of the shipped experiments."""
    return sorted(path.stem for path in EXPERIMENTS.glob("*.yaml"))


def resolve(name: str) -> Path:
    """An experiment's file: a path, or the name of one of those shipped."""
    path = Path(name)
    return EXPERIMENTS / f"{name}.yaml" if name in shipped() and not path.is_file() else path


def experiment_of(name: str, overrides: list[str]) -> Experiment:
    """An experiment from a file, a shipped name, or `-` for standard input."""
    return run_of(name, overrides)[0]


def run_of(name: str, overrides: list[str]) -> tuple[Experiment, Request]:
    """The same, and what is asked of a run by keys that said so in version 0.1 (see `load_run`).

    Raises
    ------
    UserError
        As `load`.
    """
    if name == "-":
        try:
            text = reading.read_text(sys.stdin)
        except UserError as error:
            raise UserError(f"cannot read the experiment on standard input: {error}") from None
        return parse_run(text, overrides, origin="the experiment on standard input")
    return load_run(resolve(name), overrides)


def load(path: Path | str, overrides: Sequence[str] = ()) -> Experiment:
    """Load an experiment from a YAML file, then apply overrides such as `training.batch_size=8`.

    Raises
    ------
    UserError
        If the file cannot be read, or a key or value is not allowed: every such place is named.
    """
    return load_run(path, overrides)[0]


def parse(text: str, overrides: Sequence[str] = (), *, origin: str = "the experiment") -> Experiment:
    """Like `load`, from YAML text.

    Raises
    ------
    UserError
        As `load`.
    """
    return parse_run(text, overrides, origin=origin)[0]


def load_run(path: Path | str, overrides: Sequence[str] = ()) -> tuple[Experiment, Request]:
    """Like `load`, and what is asked of a run by keys that said so in version 0.1 (`graphufs.config.moved_keys`).

    Raises
    ------
    UserError
        As `load`.
    """
    try:
        text = reading.read_text(Path(path))
    except UserError as error:
        near = "" if Path(path).exists() else did_you_mean(str(path).removesuffix(".yaml"), shipped())
        raise UserError(f"cannot read the experiment {path}: {error}{near}") from None
    return parse_run(text, overrides, origin=str(path))


def parse_run(
    text: str, overrides: Sequence[str] = (), *, origin: str = "the experiment"
) -> tuple[Experiment, Request]:
    """Like `load_run`, from YAML text.

    Raises
    ------
    UserError
        As `load`.
    """
    try:
        content = reading.parse_yaml(text)
    except UserError as error:
        raise UserError(f"{origin} cannot be read as YAML: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{origin} holds no mapping of sections; see experiments/demo.yaml for one")
    if sum(map(len, overrides)) > reading.LONGEST:
        raise UserError(f"the overrides have more than {reading.LONGEST:,} characters together, which are allowed")
    for override in overrides:
        _apply(content, override)
    former = moved_keys.take_out(content)
    fault, known = f"{origin} is not a valid experiment", "graphufs schema"
    experiment = validate(Experiment, content, fault, known)
    return experiment, validate(Request, former, fault, known, moved_keys.FORMER)


def request(content: Mapping[str, Any] | None) -> Request:
    """What is asked of a run, from its fields by name; those that are None are not given.

    Raises
    ------
    UserError
        If a field is unknown or its value is not allowed.
    """
    given = {name: value for name, value in (content or {}).items() if value is not None}
    return validate(Request, given, "what is asked of this run is wrong", f"its fields ({', '.join(FIELDS)})")


def validate(
    model: type[Model], content: Any, fault: str, known: str, places: Mapping[str, str] = types.MappingProxyType({})
) -> Model:
    """The content as a model; `places` has other names for fields in messages.

    Raises
    ------
    UserError
        That begins with `fault` and names every wrong place, with the nearest known key, or where to find the `known`.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise UserError("\n".join([f"{fault}:", *_explain(error, model, known, places)])) from None
    except (OverflowError, RecursionError) as error:
        raise UserError(f"{fault}: a number in it is beyond all limits ({error})") from None


def read(path: Path) -> Any:
    """The content of a YAML file; times stay text, a key given twice is an error.

    Raises
    ------
    UserError
        If the file cannot be read, is not YAML or gives a key twice.
    """
    try:
        text = reading.read_text(path)
    except UserError as error:
        raise UserError(f"cannot read {path}: {error}") from None
    try:
        return reading.parse_yaml(text)
    except UserError as error:
        raise UserError(f"{path} cannot be read as YAML: {error}") from None


def dump(experiment: Experiment, former: Request | None = None) -> str:
    """The experiment as YAML, every default written out, credentials masked.

    `former`: as version 0.1 wrote it, with these keys.
    """
    content = experiment.model_dump(mode="json") if former is None else moved_keys.put_back(experiment, former)
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)


def json_schema() -> str:
    """The JSON Schema of experiments."""
    return json.dumps(Experiment.model_json_schema(), indent=2)


def _apply(content: dict[str, Any], override: str) -> None:
    """Set one `a.b=value` in the nested content; list items are addressed by number."""
    with suppress(UnicodeError):  # what a locale without such letters has made of an argument
        override = override.encode("utf-8", "surrogateescape").decode("utf-8")
    key, equals, text = override.partition("=")
    path, override = key.strip().split("."), reading.cut(masking.override(override))
    if not equals or not all(path) or len(path) > reading.DEEPEST:
        raise UserError(f"--set {override}: write it as section.key=value, for example training.batch_size=8")
    try:
        value = reading.parse_yaml(text)
    except UserError as error:
        raise UserError(f"--set {override}: the value is not YAML: {error}") from None
    place: Any = content
    for depth, part in enumerate(path):
        where, name = ".".join(path[:depth]), part if not isinstance(place, list) else _index(part)
        if isinstance(place, list):
            if not isinstance(name, int) or name >= len(place):
                raise UserError(f"--set {override}: {where} is a list of {len(place)}; give a number below that")
        elif not isinstance(place, dict):
            raise UserError(f"--set {override}: {where} is a value, not a section")
        elif depth < len(path) - 1 and place.get(part) is None:
            place[part] = {}
        if depth == len(path) - 1:
            place[name] = value
        place = place[name]


def _index(part: str) -> int | str:
    return int(part) if part.isascii() and part.isdigit() and len(part) < 10 else part


def _explain(error: ValidationError, model: type[BaseModel], known: str, places: Mapping[str, str]) -> Iterator[str]:
    """One line for each fault, with the nearest known key for an unknown one."""
    faults = error.errors(include_url=False)
    for fault in faults[:FAULTS]:
        where = ".".join(reading.cut(places.get(str(part), str(part))) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            yield f"  {where}: unknown key" + (_nearest(where, fault["loc"], model) or f"; see {known} for all keys")
        elif fault["type"] == "missing":
            yield f"  {where}: is needed but not given"
        elif fault["type"] == "value_error":
            prefix = f"  {where}: " if where else "  "
            yield prefix + reading.cut(str(fault["ctx"]["error"]), 1000)
        else:
            within = "storage_options" in fault["loc"]
            got = masking.MASK if within else reading.shown(masking.document(fault["input"]))
            yield f"  {where}: {fault['msg']} (got {got})"
    if len(faults) > FAULTS:
        yield f"  and {len(faults) - FAULTS} more"


def _nearest(where: str, loc: Iterable[int | str], model: type[BaseModel]) -> str:
    """Offers the known key most like an unknown one: the same place first, then the same name anywhere."""
    numbers = {str(part) for part in loc if isinstance(part, int)}
    plain = ".".join(part for part in where.split(".") if part not in numbers)
    known = list(_keys(model))
    parent = plain.rpartition(".")[0]
    siblings = [key for key in known if key.rpartition(".")[0] == parent]
    for candidates in (siblings, known):
        if hint := did_you_mean(plain, candidates, similarity=0.75):
            return hint
    leaves = {key.rpartition(".")[2]: key for key in reversed(known)}
    return did_you_mean(plain.rpartition(".")[2], leaves, shown=leaves)


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, info in model.model_fields.items():
        yield prefix + name
        for inner in _models(info.annotation):
            yield from _keys(inner, f"{prefix}{name}.")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, types.UnionType, tuple, list):
        for inner in get_args(annotation):
            yield from _models(inner)
