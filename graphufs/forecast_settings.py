"""The sections that say which forecasts are made, what they are scored against, and what a night does."""

from __future__ import annotations

from datetime import date
from itertools import pairwise
from typing import Literal, Self

from pydantic import Field, model_validator

from graphufs.errors import UserError
from graphufs.section import Hours, Period, Section, Time, format_time
from graphufs.weatherbench.boxes import check_regions
from graphufs.weatherbench.conventions import DEFAULT, Convention


class Forecast(Section):
    """Which forecasts are made."""

    period: Period | None = None
    """Initial times lie in here, with all their lead times; where not given, the evaluation period."""
    every: Hours = 24
    """Time between two initial times."""
    initial_times: tuple[Time, ...] | None = Field(None, min_length=1)
    """Exactly these initial times, ascending, instead of all of the period."""
    lead_time: Hours = 240
    batch_size: int = Field(8, ge=1)
    """Initial times computed together."""
    checkpoint: Literal["last", "best"] = "last"
    """`best` takes the checkpoint with the best score of training.validation_forecasts."""

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
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


class Evaluation(Section):
    """What forecasts are scored against."""

    climatology: Period | None = None
    """The years the climatology baseline is made from; where not given, the training period."""
    climatology_window: int = Field(61, ge=1)
    """Days of the triangular window that smooths the climatology over the year."""
    regions: tuple[str, ...] = ()
    """Regions scored besides the globe, by WeatherBench2's names, such as tropics, europe or global_land."""
    grid: str = Field("native", pattern=r"^(native|[1-9]\d*x[1-9]\d*)$")
    """The grid scores are computed on: `native`, or longitudes x latitudes such as 64x32 or 240x121."""
    regridding: Literal["conservative", "bilinear", "nearest"] = "conservative"
    """How forecasts, truth and climatology come to lie on it."""
    convention: Convention = DEFAULT
    """Whose regions, area weights and metrics, where WeatherBench2 and WeatherBench-X differ."""
    skipna: bool = False
    """Whether NaN is left out of means instead of making them NaN."""

    @model_validator(mode="after")
    def _known_regions(self) -> Self:
        try:
            check_regions(("global", *self.regions), self.convention)
        except UserError as error:
            raise ValueError(f"regions: {error}") from None
        return self

    @model_validator(mode="after")
    def _odd_window(self) -> Self:
        if self.climatology_window % 2 == 0:
            raise ValueError(f"climatology_window must be odd, got {self.climatology_window}")
        return self


class Nightly(Section):
    """Which forecasts a night makes and scores. No part of what names data, runs, forecasts or scores."""

    model: str = Field("champion", min_length=1)
    """`champion` (the newest candidate while there is none), `latest`, or the id of a registered model."""
    at_most: int = Field(4, ge=1)
    """Initial times of a night; what is left over waits for the next one."""
    until: Time | None = None
    """End of the stretch, from the evaluation period's start, in which nightly forecasts lie; null: that period's."""
    days_per_night: int = Field(1, ge=1)
    """Days by which the embedded world goes on each night. Real sources grow by themselves."""
    night: date | None = None
    """Which night this is; null: today, UTC."""
