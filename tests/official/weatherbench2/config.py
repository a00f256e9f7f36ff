"""What to evaluate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Selection:
    variables: list[str]
    time_slice: slice
    levels: list[int] | None = None
    lat_slice: slice = field(default_factory=lambda: slice(None))
    lon_slice: slice = field(default_factory=lambda: slice(None))
    aux_variables: list[str] | None = None


@dataclass
class Paths:
    forecast: str
    obs: str
    output_dir: str
    output_file_prefix: str = ""
    climatology: str | None = None


@dataclass
class Data:
    selection: Selection
    paths: Paths
    by_init: bool = True
    rename_variables: dict[str, str] | None = None
    pressure_level_suffixes: bool = False


@dataclass
class Eval:
    metrics: dict[str, Any]
    regions: dict[str, Any] | None = None
    derived_variables: dict[str, Any] = field(default_factory=dict)
    temporal_mean: bool = True
