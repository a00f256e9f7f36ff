"""The section `evaluation`: what forecasts are scored against, and how."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from graphufs.config.base import MOST_NAMES, Hours, Period, Section
from graphufs.config.credentials import Address, Name, Options
from graphufs.config.identity import ROUNDING, HashedOtherwise, Later, NotIdentity
from graphufs.errors import UserError
from graphufs.vocabulary.conventions import DEFAULT, Convention
from graphufs.vocabulary.derived_variables import check_names
from graphufs.vocabulary.regions import check_regions

SHOWN = "what a page shows; the page is made anew"

Point = tuple[Annotated[float, Field(ge=-90, le=90)], Annotated[float, Field(ge=-180, le=360)]]
"""Latitude and longitude."""


class Era5(Section):
    """ERA5 in WeatherBench2's layout."""

    url: Address | None = Field(None, min_length=1)
    """The zarr store: gs://, s3://, https:// or a path."""
    storage_options: Options = {}
    """Options for fsspec, such as {token: anon} for the public bucket; also for the climatology."""
    storage: Name = None
    """The name of credentials, as `data.source.storage`; also for the climatology."""
    climatology: Address | None = Field(None, min_length=1)
    """A climatology of it in WeatherBench2's layout; null: it is made from the years of evaluation.climatology."""
    native_layers: Literal["refuse", "leave_out", "as_levels"] = "refuse"
    """What becomes of forecasts on native layers, which ERA5's pressure levels are not: `leave_out` scores the surface
    only; `as_levels` takes the layer called 500 for 500 hPa, where all lie near enough, and says so with the scores."""


class Evaluation(Section):
    """What forecasts are scored against."""

    truth: Literal["replay", "era5", "both"] = "replay"
    """`both` gives scores against each. Against ERA5, Replay itself is scored too: how far the two analyses differ."""
    era5: Era5 = Era5()

    climatology: Annotated[Period | None, HashedOtherwise("as the period it stands for")] = None
    """The years the climatology baseline is made from; where not given, the training period."""
    climatology_window: Annotated[int, HashedOtherwise("as `window`, at its default too")] = Field(61, ge=1, le=365)
    """Days of the triangular window that smooths the climatology over the year."""
    regions: tuple[str, ...] = Field((), max_length=MOST_NAMES)
    """Regions scored besides the globe, by WeatherBench2's names, such as tropics, europe or global_land."""
    grid: str = Field("native", pattern=r"^(native|[1-9]\d*x[1-9]\d*)$")
    """The grid scores are computed on: `native`, or longitudes x latitudes such as 64x32 or 240x121."""
    regridding: Literal["conservative", "bilinear", "nearest"] = "conservative"
    """How forecasts, truth and climatology come to lie on it."""
    convention: Convention = DEFAULT
    """Whose regions, area weights and metrics, where WeatherBench2 and WeatherBench-X differ."""
    skipna: bool = False
    """Whether NaN is left out of means instead of making them NaN."""
    derived: tuple[str, ...] = Field((), max_length=MOST_NAMES)
    """Variables made of the targets and scored with them, such as wind_speed or total_precipitation_24hr_from_3hr."""
    vectors: bool = False
    """Whether the winds are scored as vectors too, where both components are targets."""
    map_leads: tuple[Hours, ...] = Field((24, 72, 120, 240), max_length=MOST_NAMES)
    """Lead times whose maps of the error and zonal spectra are kept for the report, where forecast; []: none."""
    plume_points: Annotated[tuple[Point, ...], NotIdentity(SHOWN), Later()] = Field((), max_length=MOST_NAMES)
    """Points, [latitude, longitude] in degrees, at which the report shows each member by lead, where forecasts have
    members."""

    dask: Annotated[str | None, NotIdentity(ROUNDING)] = None
    """Address of a dask scheduler whose workers see the same files, such as tcp://host:8786; else threads are used."""

    @property
    def truths(self) -> tuple[Literal["replay", "era5"], ...]:
        """The truths to score against, the first of which gives the scores that other steps use."""
        return ("replay", "era5") if self.truth == "both" else (self.truth,)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        key = "derived"
        try:
            check_names(self.derived)
            key = "regions"
            check_regions(("global", *self.regions), self.convention)
        except UserError as error:
            raise ValueError(f"{key}: {error}") from None
        if self.truth != "replay" and self.era5.url is None:
            raise ValueError(
                f"truth is {self.truth}, but era5.url does not say where ERA5 is; give a store in WeatherBench2's "
                "layout, such as gs://weatherbench2/datasets/era5/1959-2022-6h-64x32_equiangular_conservative.zarr"
            )
        if self.grid != "native" and any(len(number) > 4 for number in self.grid.split("x")):
            raise ValueError(f"grid {self.grid} has more than 9999 points along a side")
        if self.climatology_window % 2 == 0:
            raise ValueError(f"climatology_window must be odd, got {self.climatology_window}")
        return self
