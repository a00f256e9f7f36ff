"""Scores at each grid point: the metrics without the spatial mean, such as a map of the bias."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from graphufs.errors import UserError
from graphufs.grid.grid import Grid
from graphufs.storage.zarr_io import level_coordinate
from graphufs.vocabulary.conventions import DEFAULT, Convention
from graphufs.weatherbench.climatology.seeps import SeepsClimatology
from graphufs.weatherbench.inputs.channels import Channel, unpack, vectors_in
from graphufs.weatherbench.metrics.metrics import STATISTICS, Fields, metrics_of, pointwise
from graphufs.weatherbench.scoring.field_sums import FieldSums

METRICS = ("rmse", "mse", "mae", "bias", "seeps")
"""The metrics that have a map. A correlation over so few initial times would say little."""


class Maps:
    """Keeps pointwise statistics summed over initial times, for chosen leads; an `Observer` of `score`.

    Memory is 8 bytes for each forecast, statistic, lead, channel and point, whatever the number of initial times.

    Parameters
    ----------
    channels, grid, leads
        Of the forecasts.
    metrics
        Which maps; see `METRICS`.
    chosen
        The leads to keep; where not given, all.
    vectors
        Whether to keep wind vectors too.
    seeps
        The thresholds of precipitation categories; needed for maps of SEEPS.
    skipna
        Whether NaN is left out of the mean over initial times.
    """

    def __init__(
        self,
        channels: Sequence[Channel],
        grid: Grid,
        leads: np.ndarray,
        *,
        metrics: Sequence[str] = ("mse", "mae", "bias"),
        chosen: np.ndarray | None = None,
        vectors: bool = False,
        seeps: SeepsClimatology | None = None,
        convention: Convention = DEFAULT,
        skipna: bool = False,
    ) -> None:
        if unknown := [name for name in metrics if name not in METRICS]:
            raise UserError(f"there is no map of {', '.join(unknown)}; there are maps of {', '.join(METRICS)}")
        if "seeps" in metrics and seeps is None:
            raise UserError("a map of seeps needs a climatology with SEEPS thresholds")
        components = vectors_in(channels) if vectors else {}
        self.channels = (*channels, *components)
        self.grid = grid
        self.convention = convention
        self.leads = np.asarray(leads if chosen is None else chosen, "timedelta64[ns]")
        absent = np.setdiff1d(self.leads, leads)
        if absent.size:
            raise UserError(f"the forecasts have no lead of {absent[0] / np.timedelta64(1, 'h'):g} h to map")
        self._at = np.array([int(np.flatnonzero(leads == lead)[0]) for lead in self.leads])
        self._components = [*((position,) for position in range(len(channels))), *components.values()]
        self._metrics = tuple(metrics)
        known = metrics_of(STATISTICS, convention)
        self._statistics = tuple(dict.fromkeys(name for metric in metrics for name in known[metric].statistics))
        self._seeps, self._skipna = seeps, skipna
        self.sums: dict[str, FieldSums] = {}
        """By name of the forecast, [statistic, lead, channel, lat, lon]."""

    def observe(
        self, name: str, time: np.datetime64, forecast: np.ndarray, truth: np.ndarray, climatology: np.ndarray
    ) -> None:
        """Add a forecast."""
        shape = (len(self._statistics), len(self.leads), len(self.channels), *self.grid.shape)
        thresholds = self._seeps.read(time + self.leads) if self._seeps is not None else {}
        values = np.full(shape, np.nan)
        for channel, components in enumerate(self._components):
            fields = [
                Fields(
                    forecast[self._at, position],
                    truth[self._at, position],
                    climatology[self._at, position],
                    thresholds.get(position),
                )
                for position in components
            ]
            for row, statistic in enumerate(self._statistics):
                if (found := pointwise(statistic, fields)) is not None:
                    values[row, :, channel] = found
        self.sums.setdefault(name, FieldSums(shape, skipna=self._skipna)).update(time, values)

    def scores(self, name: str) -> dict[str, np.ndarray]:
        """The maps of a forecast by metric, each float64 [lead, channel, lat, lon]."""
        means = dict(zip(self._statistics, self.sums[name].mean(), strict=True))
        known = metrics_of(self._statistics, self.convention)
        return {metric: known[metric].combine(means, np.asarray) for metric in self._metrics}

    def dataset(self, name: str) -> xr.Dataset:
        """The maps of a forecast in WeatherBench2's layout, (metric, lead_time, [level], latitude, longitude)."""
        scores = self.scores(name)
        dims = ["metric", "lead_time", "channel", "latitude", "longitude"]
        variables, levels = unpack(np.stack(list(scores.values())), self.channels, dims)
        coordinates = {"metric": list(scores), "lead_time": self.leads, "latitude": self.grid.latitude}
        coordinates |= {"longitude": self.grid.longitude}
        if levels.size:
            coordinates["level"] = level_coordinate(levels)
        attributes = {"convention": self.convention, "initial_times": len(self.sums[name].initial_times)}
        return xr.Dataset(variables, coordinates, attributes)
