"""The section `forecast`: which forecasts are made."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from graphufs.config.base import MOST_TIMES, Hours, Period, Section, Time, format_time
from graphufs.config.identity import AFTERWARDS, Later, NotIdentity

OtherRun = Annotated[str, Field(pattern=r"^runs/[A-Za-z0-9][A-Za-z0-9_.-]*/[0-9a-f]{12}/checkpoints/[0-9]{8}$")]
"""A checkpoint of a run, as a path below the root."""


class Forecast(Section):
    """Which forecasts are made."""

    period: Period | None = None
    """Initial times lie in here, with all their lead times; where not given, the evaluation period."""
    every: Hours = 24
    """Time between two initial times."""
    initial_times: tuple[Time, ...] | None = Field(None, min_length=1, max_length=10_000)
    """Exactly these initial times, ascending, instead of all of the period."""
    lead_time: Hours = 240
    batch_size: int = Field(8, ge=1, le=MOST_TIMES)
    """Initial times computed together."""
    checkpoint: Literal["last", "best"] = "last"
    """`best` takes the checkpoint with the best score of training.validation_forecasts."""
    members: Annotated[int, Later()] = Field(1, ge=1, le=1000)
    """Members of each forecast, by a model with noise. A member is the same however many there are."""

    keep_members: Annotated[bool, Later()] = True
    """Whether members are stored. If not, `forecast` scores them as it makes them, which needs their truth, and stores
    their mean alone; plumes, and scores of another kind, then need them made again."""

    checkpoints: Annotated[tuple[OtherRun, ...], Field(max_length=64), Later()] = ()
    """More checkpoints of other runs below the root, of other seeds say, that make members too: member k is made by
    number k modulo their count, where the run's own is number 0."""
    products: Annotated[
        tuple[Literal["netcdf", "grib2", "zarr"], ...], Field(max_length=3), Later(), NotIdentity(AFTERWARDS)
    ] = ()
    """Formats in which forecasts are published as other tools read them, by `graphufs publish`; none at first."""
    products_grid: Annotated[
        str, Field(pattern=r"^(native|[1-9]\d{0,3}x[1-9]\d{0,3})$"), Later(), NotIdentity(AFTERWARDS)
    ] = "native"
    """The grid of published forecasts: `native`, or longitudes x latitudes of an evenly spaced one such as 360x181."""

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        if len(set(self.checkpoints)) < len(self.checkpoints):
            raise ValueError(
                "forecast.checkpoints names a checkpoint twice, whose members would be the same; name each once"
            )
        times = self.initial_times or ()
        if times and self.period is not None:
            raise ValueError("forecast.period and forecast.initial_times cannot both be given; leave one out")
        for earlier, later in pairwise(times):
            if later <= earlier:
                raise ValueError(
                    f"forecast.initial_times must ascend, each named once; {format_time(later)} comes after "
                    f"{format_time(earlier)}"
                )
        return self
