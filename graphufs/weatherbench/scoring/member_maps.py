"""Scores of ensembles at each grid point: CRPS, variance, ensemble-mean error and ranks without the spatial mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphufs.grid.grid import Grid
from graphufs.vocabulary.conventions import DEFAULT, Convention
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.metrics.ensemble import RANK, TIES, fields_at
from graphufs.weatherbench.metrics.ensemble_metrics import FIELD_OF, member_rules, metrics_of
from graphufs.weatherbench.scoring.field_sums import FieldSums

METRICS = ("crps", "crps_skill", "crps_spread", "ensemble_mean_mse", "debiased_ensemble_mean_mse", "ensemble_variance")
"""The metrics that have a map."""


class MemberMaps:
    """Keeps what members say at each point summed over initial times; a `MemberObserver` of `score`.

    With `ranks` the rank of the truth is kept too, which takes as much memory for each rank as a map does; ties are
    shared out. A missing value ranks above all others, as in WeatherBench2. With `skipna` maps are of the members and
    times that are there.
    """

    def __init__(
        self,
        channels: Sequence[Channel],
        grid: Grid,
        leads: np.ndarray,
        *,
        ranks: bool = False,
        convention: Convention = DEFAULT,
        skipna: bool = False,
    ) -> None:
        self.channels, self.grid, self.leads = tuple(channels), grid, np.asarray(leads, "timedelta64[ns]")
        self.convention, self.skipna = convention, skipna
        self._ranks = ranks
        self._rules = member_rules(convention, skipna=skipna)._replace(energy=False)
        self.sums: dict[str, FieldSums] = {}
        """By name of the forecast, [statistic, lead, channel, lat, lon]."""
        self.rank_sums: dict[str, FieldSums] = {}
        """By name of the forecast, [rank, lead, channel, lat, lon]."""

    def observe_members(self, name: str, time: np.datetime64, members: np.ndarray, truth: np.ndarray) -> None:
        """Add an ensemble, float32 [lead, member, channel, lat, lon], and its truth [lead, channel, lat, lon]."""
        fields = fields_at(np.moveaxis(members, 1, 0), truth, np.zeros((0, *truth.shape)), self._rules)
        chosen = fields[list(FIELD_OF.values())]
        self.sums.setdefault(name, FieldSums(chosen.shape, skipna=self.skipna)).update(time, chosen)
        if self._ranks:
            number = np.arange(members.shape[1] + 1).reshape(-1, 1, 1, 1, 1)
            inside = (number >= fields[RANK]) & (number <= fields[RANK] + fields[TIES])
            share = inside / (fields[TIES] + 1)
            self.rank_sums.setdefault(name, FieldSums(share.shape)).update(time, share)

    def scores(self, name: str) -> dict[str, np.ndarray]:
        """The maps of a forecast by metric, each float64 [lead, channel, lat, lon]."""
        means = dict(zip(FIELD_OF, self.sums[name].mean(), strict=True))
        known = metrics_of(FIELD_OF, self.convention)
        return {metric: known[metric].combine(means, np.asarray) for metric in METRICS}

    def rank_histogram(self, name: str) -> np.ndarray:
        """How often the truth has each rank among the members, float64 [lead, channel, lat, lon, member + 1]."""
        return np.moveaxis(self.rank_sums[name].mean(), 0, -1)
