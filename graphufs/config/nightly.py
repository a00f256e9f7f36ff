"""The section `nightly`: which forecasts a night makes and scores."""

from __future__ import annotations

from pydantic import Field

from graphufs.config.base import MOST_TIMES, Section, Time


class Nightly(Section):
    """Which forecasts a night makes and scores. No part of what names data, runs, forecasts or scores."""

    at_most: int = Field(4, ge=1, le=MOST_TIMES)
    """Initial times of a night; what is left over waits for the next one."""
    until: Time | None = None
    """End of the stretch, from the evaluation period's start, in which nightly forecasts lie; null: that period's."""
    days_per_night: int = Field(1, ge=1, le=366)
    """Days by which the embedded world goes on each night. Real sources grow by themselves."""
