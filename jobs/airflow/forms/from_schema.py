"""Fields of trigger forms taken from the schemas of experiments and of resources: types, limits and help stand there.

A field left empty takes what the experiment or the site says.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from airflow.sdk import Param

from graphufs.config.experiment import Experiment
from jobs.airflow.forms import choices
from jobs.site import Resources

LIMITS = (
    "type", "enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "pattern",
    "items", "maxItems",
)  # fmt: skip
LONGEST = 200
"""Characters of a field of text whose schema names no limit."""


def of_experiment(key: str, title: str, section: str | None) -> Param:
    """A field for a key of the experiment, as in `training.stages.0.updates`.

    Raises
    ------
    LookupError
        If experiments have no such key.
    """
    own = "; ".join(f"{name}: {value}" for name, value in choices.own_values(key).items())
    return _field(_schema(Experiment), key, title, section, f"Empty: the experiment's own ({own})." if own else "")


def of_resource(key: str, title: str, section: str) -> Param:
    """A field for a resource of the training's job, as in `gpus`.

    Raises
    ------
    LookupError
        If there is no such resource.
    """
    return _field(_schema(Resources), key, title, section, "Empty: what the site says.")


@cache
def _schema(model: Any) -> dict[str, Any]:
    return dict(model.model_json_schema())


def _field(schema: dict[str, Any], key: str, title: str, section: str | None, empty: str) -> Param:
    found = _find(schema, key)
    limits = {name: found[name] for name in LIMITS if name in found}
    if "enum" in limits:
        limits["enum"] = [*limits["enum"], None]
    elif limits["type"] == "string":
        limits.setdefault("maxLength", LONGEST)
    elif limits["type"] == "array":
        limits["examples"] = limits["items"]["enum"]  # makes it a field in which several are chosen
    limits["type"] = [limits["type"], "null"]
    if section:
        limits["section"] = section
    words = f"{found.get('description', '')} {empty}".replace("\n", " ").strip()
    return Param(None, description=words, title=f"{title} ({key})", **limits)


def _find(schema: dict[str, Any], key: str) -> Mapping[str, Any]:
    place = schema
    for part in key.split("."):
        place = _plain(place["items"] if part.isdecimal() else place["properties"][part], schema.get("$defs", {}))
    return place


def _plain(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A schema without references and without its null."""
    rest = {name: value for name, value in schema.items() if name not in ("$ref", "anyOf")}
    if "$ref" in schema:
        return {**definitions[schema["$ref"].rpartition("/")[2]], **rest}
    several = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    return {**_plain(several[0], definitions), **rest} if len(several) == 1 else rest
