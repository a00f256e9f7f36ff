"""Which keys of an experiment are part of outputs' hashes: declared at the field, computed here.

A key's value is hashed, except at its default: so a key that is added changes no hash. The keys in `ALWAYS_HASHED` of
their section are hashed at the default too, since version 0.1.0 did that and outputs keep their names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from pydantic.fields import FieldInfo

from graphufs import masking
from graphufs.config.base import Section

WORDS = "words; a name is that of a folder, though, and of models"
PERMISSION = "permission to go on"
HOW_TO_REACH = "how to reach what is read"
ROUNDING = "how something is computed, which changes results by rounding at most"
KEPT_AND_TOLD = "what is kept and told of a training"
AFTERWARDS = "what is made of forecasts when they are done; what is published says what it was made of"
PLANS = "how nights and rounds are planned and judged; what they plan is named by its own keys"


@dataclass(frozen=True)
class NotIdentity:
    """Marks a key that is part of no hash, and says why. If 0.1.0 hashed its value, `hashed_as` takes its place."""

    why: str
    hashed_as: Any = None


@dataclass(frozen=True)
class HashedOtherwise:
    """Marks a key that `graphufs.storage.paths` hashes in another form than the rest of its section."""

    how: str


@dataclass(frozen=True)
class Later:
    """Marks a key that 0.1.0 did not have: jobs and reports are known by a hash of all keys but these at defaults."""


def whole_content(section: Section) -> dict[str, Any]:
    """All keys of a section with their values as JSON, but for `Later` ones at their default."""
    dumped, kept = section.model_dump(mode="json"), {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        later = any(isinstance(one, Later) for one in field.metadata)
        if not later or value != field.get_default(call_default_factory=True):
            kept[name] = _nested(value, dumped[name], whole_content)
    return kept


def identity(section: Section, *, former: bool = False) -> dict[str, Any]:
    """The keys of a section that are part of hashes, with their values as JSON; `former`: as version 0.1.0 did it."""
    dumped, kept = section.model_dump(mode="json"), {}
    for name, field in type(section).model_fields.items():
        value, mark = getattr(section, name), mark_of(field)
        if isinstance(mark, NotIdentity) and mark.hashed_as is not None:
            kept[name] = dumped[name] if former else mark.hashed_as
        elif mark is None:
            hashed = _nested(value, dumped[name], partial(identity, former=former))
            default, default_hashed = _default(type(section), name)
            if isinstance(value, Section) and default_hashed is not None and not former:
                at_default = hashed == default_hashed
            else:
                at_default = value == default
            if name in section.ALWAYS_HASHED.split() or not at_default:
                kept[name] = hashed
    return kept


@cache
def _default(kind: type[Section], name: str) -> tuple[Any, dict[str, Any] | None]:
    """A key's default, and where it is a section what of it is hashed."""
    default = kind.model_fields[name].get_default(call_default_factory=True)
    return default, identity(default) if isinstance(default, Section) else None


def mark_of(field: FieldInfo) -> NotIdentity | HashedOtherwise | None:
    """How a field says that it is not hashed as it stands."""
    return next((one for one in field.metadata if isinstance(one, (NotIdentity, HashedOtherwise))), None)


def _nested(value: Any, dumped: Any, content: Callable[[Section], Any]) -> Any:
    """A value as JSON, its sections as `content` has them; `dumped` is the whole value as JSON."""
    if isinstance(value, Section):
        return content(value)
    if isinstance(value, tuple):
        return [_nested(one, json, content) for one, json in zip(value, dumped, strict=True)]
    if isinstance(value, dict):
        return {key: _nested(one, dumped[key], content) for key, one in zip(dumped, value.values(), strict=True)}
    masked = isinstance(dumped, str) and "://" in dumped and masking.MASK in dumped
    return masking.place(dumped) if masked else dumped
