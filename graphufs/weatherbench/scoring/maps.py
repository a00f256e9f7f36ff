"""Scores at each grid point: the metrics without the spatial mean, such as a map of the bias."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphufs.errors import UserError
from graphufs.grid.grid import Grid
from graphufs.vocabulary.conventions import DEFAULT, Convention
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.metrics.metrics import STATISTICS, Fields, metrics_of, pointwise
from graphufs.weatherbench.scoring.field_sums import FieldSums

METRICS = ("rmse", "mse", "mae", "bias")
"""The metrics that have a map. A correlation over so few initial times would say little."""


class Maps:
    """Keeps pointwise statistics summed over initial times, for maps of `METRICS`; an `Observer` of `score`.

    Memory is 8 bytes for each forecast, statistic, lead, channel and point, whatever the number of initial times. With
    `skipna`, NaN is left out of the mean over initial times.
    """

    def __init__(
        self,
        channels: Sequence[Channel],
        grid: Grid,
        leads: np.ndarray,
        *,
        metrics: Sequence[str] = ("mse", "mae", "bias"),
        convention: Convention = DEFAULT,
        skipna: bool = False,
    ) -> None:
        if unknown := [name for name in metrics if name not in METRICS]:
            raise UserError(f"there is no map of {', '.join(unknown)}; there are maps of {', '.join(METRICS)}")
        self.channels = tuple(channels)
        self.grid = grid
        self.convention = convention
        self.leads = np.asarray(leads, "timedelta64[ns]")
        self._metrics = tuple(metrics)
        known = metrics_of(STATISTICS, convention)
        self._statistics = tuple(dict.fromkeys(name for metric in metrics for name in known[metric].statistics))
        self._skipna = skipna
        self.sums: dict[str, FieldSums] = {}
        """By name of the forecast, [statistic, lead, channel, lat, lon]."""

    def observe(
        self, name: str, time: np.datetime64, forecast: np.ndarray, truth: np.ndarray, climatology: np.ndarray
    ) -> None:
        """Add a forecast; arrays are [lead, channel, lat, lon]."""
        shape = (len(self._statistics), len(self.leads), len(self.channels), *self.grid.shape)
        values = np.empty(shape)
        for channel in range(len(self.channels)):
            fields = [Fields(forecast[:, channel], truth[:, channel], climatology[:, channel])]
            for row, statistic in enumerate(self._statistics):
                values[row, :, channel] = pointwise(statistic, fields)
        self.sums.setdefault(name, FieldSums(shape, skipna=self._skipna)).update(time, values)

    def scores(self, name: str) -> dict[str, np.ndarray]:
        """The maps of a forecast by metric, each float64 [lead, channel, lat, lon]."""
        means = dict(zip(self._statistics, self.sums[name].mean(), strict=True))
        known = metrics_of(self._statistics, self.convention)
        return {metric: known[metric].combine(means, np.asarray) for metric in self._metrics}
