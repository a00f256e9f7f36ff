"""For how long `graphufs clean` keeps what it may remove."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter


@Parameter(name="*")
@dataclass(frozen=True)
class Retention:
    """For how many days things are kept."""

    forecasts: Annotated[float, Parameter(name="--forecast-days")] = 30.0
    """Days for which forecasts of nights and comparisons are kept after they were made."""
    published: Annotated[float, Parameter(name="--published-days")] = 30.0
    """Days for which forecasts published for other tools are kept after they were written."""
    merged: Annotated[float, Parameter(name="--merged-days")] = 30.0
    """Days for which merged segments are kept: longer than a training reads data without opening them anew."""
    caches: Annotated[float, Parameter(name="--cache-days")] = 90.0
    """Days for which compiled programs are kept after they were used last."""
    leftovers: Annotated[float, Parameter(name="--leftover-days")] = 2.0
    """Days for which half-written files and folders are left alone after they changed last."""
