"""The section `normalization`: how the statistics are made that scale inputs and targets."""

from __future__ import annotations

from typing import Annotated, Literal

from graphufs.config.base import Period, Section
from graphufs.config.credentials import Address, Name, Options
from graphufs.config.identity import ROUNDING, NotIdentity


class Normalization(Section):
    """How the statistics that scale inputs and targets are made."""

    ALWAYS_HASHED = "period weights url"
    period: Period | None = None
    """Where not given, the training period."""
    weights: Literal["none", "area", "volume"] = "none"
    """`none` counts grid points (as published), `area` weights by cell area, `volume` by area times layer thickness."""
    url: Address | None = None
    """A folder with published mean_by_level, stddev_by_level and diffs_stddev_by_level stores, read instead."""
    storage_options: Options = {}
    storage: Name = None
    """The name of credentials, as `data.source.storage`."""
    dask: Annotated[str | None, NotIdentity(ROUNDING)] = None
    """Address of a dask scheduler whose workers see the same files, such as tcp://host:8786; else threads are used."""
