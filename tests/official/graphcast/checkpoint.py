"""A look-alike of DeepMind's checkpoint reader: known fields by type, a missing one refused, the rest left."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, BinaryIO

import numpy as np


def load(source: BinaryIO, typ: Any) -> Any:
    tree: dict[str, Any] = {}
    with np.load(source) as file:
        for key in file.files:
            *path, last = key.split(":")
            node = tree
            for part in path:
                node = node.setdefault(part, {})
            node[last] = file[key]
    return _convert(typ, tree)


def _convert(typ: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(typ):
        hints = typing.get_type_hints(typ)
        return typ(**{field.name: _field(hints[field.name], field.name, value) for field in dataclasses.fields(typ)})
    if typing.get_origin(typ) is tuple:
        return tuple(typing.get_args(typ)[0](value[key]) for key in sorted(value, key=int))
    return value if typing.get_origin(typ) is dict else typ(value)


def _field(hint: Any, name: str, value: dict[str, Any]) -> Any:
    options = typing.get_args(hint)
    if type(None) in options:
        return _convert(options[0], value[name]) if name in value else None
    if name not in value:
        raise ValueError(f"Missing value: {name}")
    return _convert(hint, value[name])
