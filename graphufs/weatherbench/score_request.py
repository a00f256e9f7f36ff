"""What is to be scored, and how: a request, and the stores it is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from graphufs.errors import UserError
from graphufs.grid.regridding import Method
from graphufs.storage.zarr_io import open_zarr
from graphufs.vocabulary.conventions import DEFAULT, Convention
from graphufs.weatherbench.climatology.thresholds import ThresholdMethod
from graphufs.weatherbench.inputs.layout_checks import renamed
from graphufs.weatherbench.inputs.level_suffixes import with_levels


@dataclass(frozen=True)
class ScoreRequest:
    """What to score, and how."""

    variables: tuple[str, ...] | None = None
    """Where not given, all the forecasts have."""
    levels: tuple[float, ...] | None = None
    derived: tuple[str, ...] = ()
    """Variables to make of others, scored with the rest."""
    regions: tuple[str, ...] | None = None
    """Where not given, all of the convention; land versions where there is a land-sea mask."""
    baselines: tuple[str, ...] = ()
    """`persistence`, `climatology`, `probabilistic_climatology`."""
    convention: Convention = DEFAULT
    skipna: bool = False
    period: tuple[np.datetime64, np.datetime64] | None = None
    """The first and last initial time; of forecasts by valid time, the first and last valid time."""
    grid: str = "native"
    """Where scores are computed: the forecasts' own grid, or longitudes x latitudes."""
    regridding: Method = "conservative"
    by_valid: bool = False
    """Whether `time` of the forecasts is the valid time, as WeatherBench2's by_init=False has it."""
    quantiles: tuple[float, ...] = ()
    """Of the climatology, as thresholds for ensembles; where not given, all it has."""
    years: tuple[int, ...] = ()
    """The members of the probabilistic climatology; where not given, all other years that the truth has."""
    lagged: int | None = None
    """How many forecasts in a row make a lagged ensemble."""
    as_ensemble: bool = False
    """Whether single forecasts are scored as ensembles of one too."""
    threshold_method: ThresholdMethod | None = None
    """Whether thresholds are stored quantiles or those of a normal distribution; where not given, what there is."""
    map_leads: tuple[float, ...] = ()
    """Lead hours of which maps and spectra are kept, as far as they were forecast, or of the last; none where empty."""


@dataclass(frozen=True)
class StorePaths:
    """Where the stores are, and what to put right in them."""

    forecast: str
    truth: str
    climatology: str
    land_sea_mask: str | None = None
    """A store with land_sea_mask; where not given, the truth's own, if any."""
    seeps: str | None = None
    """A climatology with SEEPS thresholds; where not given, `climatology`."""
    rename: Mapping[str, str] = field(default_factory=dict)
    """Names in the forecast store, by the name they have there."""
    pressure_level_suffixes: bool = False
    """Whether the forecasts' levels are part of names, as in geopotential_500."""
    analyses: bool = False
    """Whether the forecast store holds analyses, to be scored as forecasts of lead 0 h of themselves."""
    storage_options: Mapping[str, Any] = field(default_factory=dict)
    """For fsspec, used for all addresses with a protocol."""

    def open(self) -> OpenStores:
        """Open all of them.

        Raises
        ------
        UserError
            If one is not there or a name cannot be put right.
        """
        forecast = self._open(self.forecast)
        if self.pressure_level_suffixes:
            forecast = with_levels(forecast)
        if self.rename:
            forecast = renamed(forecast, self.rename, self.forecast)
        if self.analyses:
            if "prediction_timedelta" in forecast.dims:
                raise UserError(f"{self.forecast} has lead times: it holds forecasts, not analyses")
            fields = [name for name, array in forecast.items() if "time" in array.dims]  # no static ones
            forecast = forecast[fields].expand_dims(prediction_timedelta=np.array([0], "timedelta64[ns]"), axis=0)
        return OpenStores(
            forecast,
            self._open(self.truth),
            self._open(self.climatology),
            None if self.land_sea_mask is None else self._open(self.land_sea_mask),
            None if self.seeps is None else self._open(self.seeps),
        )

    def _open(self, address: str) -> xr.Dataset:
        return open_zarr(address, storage_options=self.storage_options)


@dataclass(frozen=True)
class OpenStores:
    """The stores, opened."""

    forecast: xr.Dataset
    truth: xr.Dataset
    climatology: xr.Dataset
    land_sea_mask: xr.Dataset | None = None
    seeps: xr.Dataset | None = None
