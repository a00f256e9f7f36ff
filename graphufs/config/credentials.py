"""Credentials in an experiment: named, or given in it and then apart from all that is shown or stored of it.

A section that reads something has the keys `storage`, the name of credentials that lie where the work is done (see
`graphufs.storage.credentials`), and `storage_options`. An experiment may also hold credentials itself. It then reads
`***` for all who dump it, and only what is here gives the true values.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import reduce
from operator import getitem
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, PlainSerializer

from graphufs import masking
from graphufs.config.base import Section
from graphufs.config.identity import HOW_TO_REACH, Later, NotIdentity
from graphufs.errors import UserError
from graphufs.masking import MASK, Secret

if TYPE_CHECKING:
    from graphufs.config.experiment import Experiment

Address = Annotated[str, AfterValidator(masking.address), PlainSerializer(masking.address, return_type=str)]
"""An address, which may hold credentials."""
Options = Annotated[
    dict[str, Any], AfterValidator(masking.options), PlainSerializer(masking.options), NotIdentity(HOW_TO_REACH)
]
"""Options for fsspec, which may be credentials."""
Name = Annotated[
    str | None, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64), NotIdentity(HOW_TO_REACH), Later()
]
"""The name of credentials."""
READERS = ("data.source", "normalization", "evaluation.era5")
"""The sections that say what is read, and how to reach it."""
HOW = ("url", "storage", "storage_options", "climatology")
"""Their keys that say so."""


def true(value: Any) -> Any:
    """What a key holds, with its credentials in place of their masks.

    Raises
    ------
    UserError
        If it came from where it had been stored masked, so that nobody knows them.
    """
    if isinstance(value, Secret):
        return value.true
    if isinstance(value, dict):
        return {name: true(one) for name, one in value.items()}
    if isinstance(value, list):
        return [true(one) for one in value]
    if isinstance(value, str) and MASK in value:
        raise UserError(
            f"the experiment was stored without its credentials ({value}), so that nothing can be read with them; give "
            "it with them again, or name them with storage: NAME (docs/security.md)"
        )
    return value


def held(section: Section) -> dict[str, Any]:
    """The keys of a section that hold credentials, by path, with their true values; empty where it names them only."""
    return dict(_held(section, ""))


def require_named(experiment: Experiment) -> None:
    """See that an experiment holds no credentials, where what is handed on of it is stored for others to read.

    Raises
    ------
    UserError
        If it does; with the keys, without the values.
    """
    if found := held(experiment):
        raise UserError(
            f"{', '.join(found)} of {experiment.name} holds credentials, which Airflow's database would keep: take "
            "them out, name them with `storage: NAME` beside, and write NAME into the file of credentials on the site "
            "(docs/security.md)"
        )


def _held(section: Section, prefix: str) -> Iterator[tuple[str, Any]]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        # what was put there by model_copy has passed no validator
        value = masking.options(value) if name == "storage_options" else _address(value)
        if isinstance(value, Section):
            yield from _held(value, f"{prefix}{name}.")
        elif _has_secret(value):
            yield prefix + name, true(value)


def _address(value: Any) -> Any:
    return masking.address(value) if isinstance(value, str) else value


def _has_secret(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(_has_secret, value.values() if isinstance(value, dict) else value))
    return isinstance(value, Secret)


def fill(content: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Put values into nested content, each at its path; returns the content."""
    for path, value in values.items():
        sections, _, key = path.rpartition(".")
        place = _at(content, sections) if sections else content
        place[key] = value
    return content


def content(section: Section) -> dict[str, Any]:
    """A section as JSON with its true values: for one that is made of it, never to be shown or stored."""
    return fill(section.model_dump(mode="json"), held(section))


def to_worker(section: Section) -> Secret:
    """The same as text, for a process of the same job, which is to ask for the `true` one; logs show a mask."""
    return Secret(MASK, json.dumps(content(section)))


def with_those_of(experiment: Experiment, present: Experiment) -> Experiment:
    """An experiment that was stored, with the ways of the present one to what both read at the same place."""
    return type(experiment).model_validate(with_ways_of(content(experiment), content(present)))


def with_ways_of(mine: dict[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Content of an experiment with the keys of another that say how to reach what both read at the same place."""
    for path in READERS:
        own, other = _at(mine, path), _at(theirs, path)
        same = {name for name in ("url", "climatology") if name in own and _place(own[name]) == _place(other[name])}
        if "url" in same:
            own.update({name: other[name] for name in ("storage", "storage_options")})
        own.update({name: other[name] for name in same})
    return mine


def _at(content: Mapping[str, Any], path: str) -> Any:
    return reduce(getitem, path.split("."), content)


def _place(address: str | None) -> str | None:
    return None if address is None else masking.place(address)
