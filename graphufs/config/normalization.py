"""The section `normalization`: how the statistics are made that scale inputs and targets."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from graphufs.config.base import Period, Section
from graphufs.config.identity import HOW_TO_REACH, ROUNDING, NotIdentity


class Normalization(Section):
    """How the statistics that scale inputs and targets are made."""

    ALWAYS_HASHED = "period weights url"
    period: Period | None = None
    """Where not given, the training period."""
    weights: Literal["none", "area", "volume"] = "none"
    """`none` counts grid points (as published), `area` weights by cell area, `volume` by area times layer thickness."""
    url: str | None = None
    """A folder with published mean_by_level, stddev_by_level and diffs_stddev_by_level stores, read instead."""
    storage_options: Annotated[dict[str, Any], NotIdentity(HOW_TO_REACH)] = {}
    dask: Annotated[str | None, NotIdentity(ROUNDING)] = None
    """Address of a dask scheduler whose workers see the same files, such as tcp://host:8786; else threads are used."""
