"""Bringing truth, climatology and land-sea mask onto the grid of the forecasts, or refusing to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from graphufs.grid.grid import Grid
from graphufs.grid.regridding import Method, Regridder, named_grid
from graphufs.weatherbench.climatology.store import Climatology
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.inputs.forecasts import Forecasts
from graphufs.weatherbench.inputs.layout_checks import grid_of
from graphufs.weatherbench.inputs.truth import ClimatologyReader, DatasetTruth, Truth, land_sea_mask


def forecasts_on(name: str, forecasts: Forecasts, method: Method) -> tuple[Forecasts, Method | None]:
    """Forecasts on the grid called `name`, and how other fields come to lie there.

    On the `native` grid they must lie there already (None); on another they are regridded where they do not.
    """
    if name == "native":
        return forecasts, None
    target = named_grid(name)
    if not target.agrees(forecasts.grid):
        forecasts = forecasts.regridded(Regridder(forecasts.grid, target, method))
    return forecasts, method


def truth_on(
    grid: Grid,
    dataset: xr.Dataset,
    channels: Sequence[Channel],
    method: Method | None,
    derived: Sequence[str] = (),
    name: str = "the truth",
) -> Truth:
    """A dataset's fields on a grid.

    Raises
    ------
    UserError
        If they lie on another grid and there is no method to regrid them by.
    """
    own = grid_of(dataset, name)
    if method is None or grid.agrees(own):
        return DatasetTruth(dataset, channels, grid, derived=derived)
    return RegriddedTruth(DatasetTruth(dataset, channels, derived=derived), Regridder(own, grid, method))


def climatology_on(
    grid: Grid, dataset: xr.Dataset, channels: Sequence[Channel], method: Method | None
) -> ClimatologyReader:
    """A climatology on a grid; see `truth_on`."""
    own = grid_of(dataset, "the climatology")
    if method is None or grid.agrees(own):
        return Climatology(dataset, channels, grid)
    return RegriddedNormals(Climatology(dataset, channels, own), Regridder(own, grid, method))


def land_on(grid: Grid, dataset: xr.Dataset, method: Method | None) -> np.ndarray | None:
    """A dataset's fraction of land on a grid, float64 [lat, lon]; see `truth_on`. None without one."""
    if "land_sea_mask" not in dataset:
        return None
    own = grid_of(dataset, "the land-sea mask")
    if method is None or grid.agrees(own):
        return land_sea_mask(dataset, grid)
    mask = land_sea_mask(dataset, own)
    return None if mask is None else Regridder(own, grid, method)(mask).astype(np.float64)


class RegriddedTruth:
    """A truth on another grid.

    Points where a channel has no values, as land in ocean fields, count as NaN: a target cell is then made of its
    valid part, and masked where it has none.
    """

    def __init__(self, truth: Truth, regridder: Regridder) -> None:
        self._truth, self._regridder = truth, regridder
        self.channels: tuple[Channel, ...] = truth.channels
        self.grid, self.stamps = regridder.target, truth.stamps
        self._whole = bool(truth.mask.all())
        self.mask = np.ones((len(self.channels), *self.grid.shape), bool)
        if not self._whole:
            self.mask = ~np.isnan(regridder(np.where(truth.mask, 1.0, np.nan)))

    def read(self, stamps: np.ndarray) -> np.ndarray:
        """The fields at `stamps`, float32 [time, channel, lat, lon]."""
        fields = self._truth.read(stamps)
        if not self._whole:
            fields = np.where(self._truth.mask, fields, np.nan)
        return self._regridder(fields)


class RegriddedNormals:
    """A climatology on another grid; regridding being linear, that is the climatology of regridded fields."""

    def __init__(self, reader: ClimatologyReader, regridder: Regridder) -> None:
        self._reader, self._regridder = reader, regridder

    def read(self, stamps: np.ndarray) -> np.ndarray:
        """The fields at `stamps`, float32 [time, channel, lat, lon]."""
        return self._regridder(self._reader.read(stamps))
