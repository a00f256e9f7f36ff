"""SEEPS' thresholds by valid time, read from a climatology."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from graphufs.errors import UserError
from graphufs.grid.grid import Grid
from graphufs.vocabulary.conventions import DEFAULT, DRY_METRES, Convention
from graphufs.weatherbench.climatology.store import Climatology
from graphufs.weatherbench.inputs.channels import Channel, pack
from graphufs.weatherbench.inputs.layout_checks import grid_of
from graphufs.weatherbench.metrics.seeps import SeepsThresholds, penalties


class SeepsClimatology:
    """Thresholds by valid time from a climatology in WeatherBench2's layout.

    It has X_seeps_threshold in metres and X_seeps_dry_fraction, (hour, dayofyear, latitude, longitude), for each
    precipitation X among the channels. Latitudes are brought to those of `grid`; the categories are the convention's.
    """

    def __init__(
        self, dataset: xr.Dataset, channels: Sequence[Channel], grid: Grid, convention: Convention = DEFAULT
    ) -> None:
        self.positions = [position for position, channel in enumerate(channels) if channel.variable in DRY_METRES]
        if not self.positions:
            raise UserError(f"SEEPS needs {' or '.join(DRY_METRES)} among the scored variables")
        self._names = [channels[position].variable for position in self.positions]
        thresholds = [Channel(f"{name}_seeps_threshold") for name in self._names]
        fractions = [Channel(f"{name}_seeps_dry_fraction") for name in self._names]
        self._thresholds = Climatology(dataset, thresholds, grid)
        if lacking := [name for name, _ in fractions if name not in dataset]:
            raise UserError(f"the climatology has no {', '.join(lacking)}; make it with SEEPS thresholds")
        order = grid.orientation(grid_of(dataset, "the climatology"), "the climatology")
        packed = pack(dataset, fractions, ["hour", "dayofyear"])[..., order, :]
        # one p a point: the mean over whatever days and hours the climatology has values for, as in WeatherBench2
        there = ~np.isnan(packed)
        with np.errstate(invalid="ignore"):
            fraction = np.where(there, packed, 0).sum(axis=(0, 1), dtype=np.float64) / there.sum(axis=(0, 1))
        self._penalties = [penalties(p, convention) for p in fraction]
        self._convention = convention

    def read(self, stamps: np.ndarray) -> dict[int, SeepsThresholds]:
        """The thresholds at valid times [time], by position of the channel."""
        heavy = self._thresholds.read(stamps)
        return {
            position: SeepsThresholds(DRY_METRES[name], heavy[:, index], self._penalties[index], self._convention)
            for index, (position, name) in enumerate(zip(self.positions, self._names, strict=True))
        }
