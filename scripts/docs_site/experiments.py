"""The reference of experiments: every key from the JSON Schema, and the files that are shipped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Schema = Mapping[str, Any]

INTRODUCTION = """# Keys of experiments

Made from the JSON Schema that `graphufs schema` prints. A key's section is the part of its name before the dot, in YAML
a mapping. Any of them can be given as `--set section.key=value`. Times are UTC and written like `1994-01-01T06`;
durations like `6h` or `10d`, and a plain number is hours. A key without a default must be given.
"""
LIMITS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
LIMITS |= {"gt": "above", "le": "at most", "ge": "at least", "lt": "below"}
WORDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "null"}


def keys_page() -> str:
    """Every key of an experiment with its kind, limits, default and help, as Markdown."""
    from graphufs.config import loading

    schema = json.loads(loading.json_schema())
    lines = [INTRODUCTION, "## The file itself", "", *_table("", schema, schema)]
    for name, key in schema["properties"].items():
        section = _section(key, schema)
        if section is not None:
            lines += ["", f"## {name}", "", section.get("description", ""), "", *_table(name, section, schema)]
            for path, inner in _inner(name, section, schema):
                lines += ["", f"### {path}", "", inner.get("description", ""), "", *_table(path, inner, schema)]
    return "\n".join(lines) + "\n"


def _inner(path: str, section: Schema, schema: Schema) -> Iterator[tuple[str, Schema]]:
    """The sections inside a section, at any depth; a period is none, as every period has the same two keys."""
    for name, key in section["properties"].items():
        inner = _section(key, schema)
        if inner is not None and inner["title"] != "Period":
            yield f"{path}.{name}", inner
            yield from _inner(f"{path}.{name}", inner, schema)


def _section(key: Schema, schema: Schema) -> Schema | None:
    """The section that a key holds, alone, in a list or by names; None for a plain value."""
    if "$ref" in key:
        section: Schema = schema["$defs"][key["$ref"].rsplit("/", 1)[1]]
        return section
    held = [key.get("items"), key.get("additionalProperties"), *key.get("anyOf", ())]
    return next((inner for one in held if isinstance(one, Mapping) and (inner := _section(one, schema))), None)


def _table(path: str, section: Schema, schema: Schema) -> list[str]:
    rows = ["| key | kind | default | means |", "|---|---|---|---|"]
    for name, key in section["properties"].items():
        inner = _section(key, schema)
        means = key.get("description") or (inner or {}).get("description", "")
        default = "required" if name in section.get("required", ()) else _default(key, inner)
        full = f"{path}.{name}" if path else name
        rows.append(f"| `{full}` | {_cell(_kind(key, schema))} | {default} | {_cell(means)} |")
    return rows


def _default(key: Schema, inner: Schema | None) -> str:
    if inner is not None and isinstance(key.get("default"), dict):
        return "its keys' own"
    return f"`{_cell(json.dumps(key['default']))}`" if "default" in key else ""


def _kind(key: Schema, schema: Schema) -> str:
    """A key's kind and limits in words."""
    if "anyOf" in key:
        return ", or ".join(dict.fromkeys(_kind(one, schema) for one in key["anyOf"]))
    if "$ref" in key:
        name = key["$ref"].rsplit("/", 1)[1]
        return "period: `{start, end}`" if name == "Period" else "section"
    if "enum" in key:
        return ", ".join(f"`{value}`" for value in key["enum"])
    if "const" in key:
        return f"`{key['const']}`"
    if key.get("type") == "array":
        kind = f"list of {_kind(key.get('items', {}), schema)}"
    elif key.get("type") == "object":
        values = key.get("additionalProperties")
        kind = f"by name: {_kind(values, schema)}" if isinstance(values, Mapping) else "by name: anything"
    else:
        kind = WORDS.get(key.get("type", ""), "anything")
    limits = [f"{words} {key[limit]}" for limit, words in LIMITS.items() if limit in key]
    return ", ".join([kind, *limits])


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def anchor(place: str) -> str:
    """The anchor of a shipped file or folder on its page."""
    return re.sub(r"[^a-z0-9]+", "-", place.lower())


def shipped_page(repository: Path) -> str:
    """The shipped experiments and sites, as they are."""
    lines = ["# Shipped experiments and sites", ""]
    for folder, title in (("experiments", "Experiments"), ("jobs/sites", "Sites")):
        lines += [f"## {title} {{#{anchor(folder)}}}", ""]
        for file in sorted((repository / folder).glob("*.yaml")):
            place = f"{folder}/{file.name}"
            text = file.read_text(encoding="utf-8").rstrip()
            lines += [f"### {place} {{#{anchor(place)}}}", "", "```yaml", text, "```", ""]
    return "\n".join(lines)
