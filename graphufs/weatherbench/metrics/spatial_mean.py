"""Spatial means under weights, with WeatherBench2's rules for missing values."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from graphufs.weatherbench.metrics.ensemble import RANK, TIES, MemberRules, fields_at
from graphufs.weatherbench.metrics.ensemble_kernel import MemberSums, member_sums
from graphufs.weatherbench.metrics.kernel import Tiles


class SpatialMean:
    """Weighted means over regions of the grid: <x>_R = sum(w_R x) / sum(w_R), weights [region, lat, lon], at least 0.

    A point of weight 0 has no influence, whatever its value. Of the other points, a NaN makes the mean NaN, or,
    with `skipna`, is left out of both sums (the mean is then NaN only where no point is left). A region without a
    point of positive weight has the mean NaN.
    """

    def __init__(self, weights: np.ndarray, *, skipna: bool = False) -> None:
        weights = np.asarray(weights, np.float64)
        self._shape = weights.shape
        self._weights = np.ascontiguousarray(weights.reshape(len(weights), -1).T)  # [point, region]
        self._sums = self._weights.sum(axis=0)
        self._filled = self._sums > 0
        self._unused = np.flatnonzero(~np.any(self._weights > 0, axis=1))
        self.skipna = skipna

    @property
    def weights(self) -> np.ndarray:
        """The weights, float64 [region, lat, lon]."""
        return self._weights.T.reshape(self._shape)

    @cached_property
    def _tiles(self) -> Tiles:
        return Tiles(self.weights)

    def of_statistics(
        self, forecast: np.ndarray, truth: np.ndarray, climatology: np.ndarray, channel: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The means of all statistics in `graphufs.weatherbench.metrics.kernel.ORDER` of one channel.

        Fields are float32 [lead, channel, lat, lon], means float64 [statistic, lead, region]; with them comes bool
        [lead], False where these cannot be trusted as NaN or infinity is among the values.
        """
        sums = self._tiles.sums(forecast, truth, climatology, channel)
        with np.errstate(invalid="ignore"):
            means = sums / self._sums
        return means, np.isfinite(means[..., self._filled]).all(axis=(0, 2))

    def of_members(
        self, members: np.ndarray, truth: np.ndarray, thresholds: np.ndarray, channel: int, rules: MemberRules
    ) -> MemberSums:
        """The means of all fields that members and truth of one channel make; see `member_sums` for the arrays.

        Histograms are of points where nothing is missing: others are left out with `skipna`, and make them NaN without.
        """
        sums = member_sums(self._tiles, members, truth, thresholds, channel, rules)
        with np.errstate(invalid="ignore"):
            means = MemberSums(
                sums.fields / self._sums,
                sums.ranks / self._sums[:, None],
                sums.exceedance / self._sums[:, None, None],
                sums.whole,
            )
        for lead in np.flatnonzero(~sums.whole).tolist():
            self._look_closer(means, lead, members[lead, :, channel], truth[lead, channel], thresholds[lead], rules)
        return means

    def _look_closer(
        self,
        means: MemberSums,
        lead: int,
        members: np.ndarray,
        truth: np.ndarray,
        thresholds: np.ndarray,
        rules: MemberRules,
    ) -> None:
        """Fill in the means of a lead where something is missing."""
        fields = fields_at(members, truth, thresholds, rules)
        means.fields[:, lead] = self(fields, skipna=rules.skipna)
        whole = ~(np.isnan(members).any(axis=0) | np.isnan(truth))
        rank, ties = fields[RANK], fields[TIES]
        for number in range(len(members) + 1):
            share = np.where((rank <= number) & (number <= rank + ties), 1 / (ties + 1), 0.0)
            means.ranks[lead, :, number] = self(np.where(whole, share, np.nan), skipna=rules.skipna)
        for at, limit in enumerate(thresholds):
            over, event = (members > limit).sum(axis=0), truth > limit
            for number in range(len(members) + 1):
                for happened in (0, 1):
                    hit = np.where(whole, (over == number) & (event == bool(happened)), np.nan)
                    means.exceedance[at, lead, :, number, happened] = self(hit, skipna=rules.skipna)

    def __call__(self, values: np.ndarray, *, skipna: bool | None = None) -> np.ndarray:
        """The means, float64 [..., region], of `values` [..., lat, lon], summed in float64.

        `skipna`, where given, stands in for the mean's own.
        """
        leading = values.shape[:-2]
        rows = np.array(values.reshape(-1, len(self._weights)), np.float64)
        if self._unused.size:
            rows[:, self._unused] = 0.0
        with np.errstate(invalid="ignore"):
            means = (rows @ self._weights) / self._sums
        # NaN or infinity at one point spoils the products of all regions: look closer at such rows only
        spoilt = ~np.isfinite(means[:, self._filled]).all(axis=1)
        if spoilt.any():
            means[spoilt] = self._careful(rows[spoilt], self.skipna if skipna is None else skipna)
        return means.reshape(*leading, len(self._sums))

    def _careful(self, rows: np.ndarray, skipna: bool) -> np.ndarray:
        """The means, [row, region], of rows [row, point] that hold NaN or infinity."""
        counted = (self._weights > 0).astype(np.float64)
        missing = np.isnan(rows)
        sums = np.where(np.isfinite(rows), rows, 0.0) @ self._weights
        for infinity in (np.inf, -np.inf):  # both in one region add up to NaN, as they should
            hit = (rows == infinity).astype(np.float64) @ counted > 0
            with np.errstate(invalid="ignore"):
                sums[hit] += infinity
        if skipna:
            with np.errstate(invalid="ignore", divide="ignore"):
                left = (~missing).astype(np.float64) @ self._weights
                return np.where(left > 0, sums / left, np.nan)
        sums[missing.astype(np.float64) @ counted > 0] = np.nan
        with np.errstate(invalid="ignore"):
            return sums / self._sums
