"""Spatial means of the statistics of an ensemble, or of a normal distribution, from one initial time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from graphufs.grid.areas import cell_weights
from graphufs.grid.grid import Grid
from graphufs.vocabulary.conventions import Convention
from graphufs.weatherbench.inputs.channels import as_slice
from graphufs.weatherbench.inputs.truth import Truth
from graphufs.weatherbench.metrics.ensemble import FIXED, PER_THRESHOLD, RPS, SKILL, SPREAD, MemberRules
from graphufs.weatherbench.metrics.ensemble_kernel import MemberSums
from graphufs.weatherbench.metrics.ensemble_metrics import (
    FIELD_OF,
    OF_MEMBER_VECTORS,
    POOLINGS,
    at_quantile,
    ensemble_statistics,
    gaussian_statistics,
    member_rules,
)
from graphufs.weatherbench.metrics.gaussian import gaussian_fields
from graphufs.weatherbench.metrics.metrics import time_mean
from graphufs.weatherbench.metrics.pooling import Boxes
from graphufs.weatherbench.metrics.spatial_mean import SpatialMean
from graphufs.weatherbench.scoring.score_state import Axes

BLOCK_BYTES = 2**25
"""Members that are looked at together, so that copies stay small."""


class Counts(NamedTuple):
    """Histograms of one initial time; NaN for a channel where they are not defined."""

    ranks: np.ndarray
    """How often the truth has each rank among the members, float64 [lead, channel, region, member + 1]; sum 1."""
    exceedance: np.ndarray
    """How often so many members exceed a threshold, by whether the truth does; sum 1.

    float64 [threshold, lead, channel, region, member + 1, 2].
    """


class MemberScoring:
    """What stays the same from one initial time to the next.

    `means` has the spatial mean of each channel and then of each vector, as `axes` has them; `vectors` are the
    positions of the vectors' components. `quantiles` are those of the thresholds.
    """

    def __init__(
        self,
        truth: Truth,
        axes: Axes,
        means: Sequence[SpatialMean],
        vectors: Sequence[Sequence[int]],
        quantiles: Sequence[float],
    ) -> None:
        self._axes, self._means, self._vectors, self._quantiles = axes, means, vectors, tuple(quantiles)
        self._rules = member_rules(axes.convention, skipna=axes.skipna)
        self._rows = {name: row for row, name in enumerate(axes.statistics)}
        self._boxes = _boxes(truth, means, axes.convention, skipna=axes.skipna)

    def average(
        self, members: np.ndarray, truth: np.ndarray, thresholds: Mapping[int, np.ndarray], averages: np.ndarray
    ) -> Counts:
        """Fill averages [statistic, lead, channel, region]; give the histograms.

        `members` are float32 [lead, member, channel, lat, lon], `truth` is float32 [lead, channel, lat, lon],
        `thresholds` are float32 or float64 [lead, threshold, lat, lon] by the channel's position.
        """
        leads, size, channels = members.shape[:3]
        regions, count = len(self._axes.regions), len(self._quantiles)
        ranks = np.full((leads, channels, regions, size + 1), np.nan)
        exceedance = np.full((count, leads, channels, regions, size + 1, 2), np.nan)
        step = max(1, BLOCK_BYTES // members[0].nbytes)
        for start in range(0, leads, step):
            part = slice(start, start + step)
            fields = [np.require(values[part], np.float32, ("C", "W")) for values in (members, truth)]
            limits = {at: np.require(values[part], None, ("C", "W")) for at, values in thresholds.items()}
            squares = []
            for channel in range(channels):
                at = limits.get(channel, np.zeros((len(fields[0]), 0, *truth.shape[-2:])))
                found = self._means[channel].of_members(fields[0], fields[1], at, channel, self._rules)
                self._fill(averages[:, part, channel], found, size, at.shape[1])
                squares.append(found.fields[FIXED + PER_THRESHOLD * at.shape[1] :])
                ranks[part, channel] = found.ranks
                if at.shape[1]:
                    exceedance[:, part, channel] = found.exceedance
            for number, components in enumerate(self._vectors):
                self._fill_vector(averages[:, part], channels + number, components, squares, size)
            self._fill_pooled(averages[:, part], *fields)
        return Counts(ranks, exceedance)

    def _fill(self, into: np.ndarray, found: MemberSums, size: int, count: int) -> None:
        """Fill the statistics of one channel, [statistic, lead, region]."""
        for name, field in FIELD_OF.items():
            into[self._rows[name]] = found.fields[field]
        self._fill_energy(into, found.fields[FIXED + PER_THRESHOLD * count :], size)
        if count:
            into[self._rows["rps"]] = found.fields[RPS]
        for number, quantile in enumerate(self._quantiles[:count]):
            at = FIXED + PER_THRESHOLD * number
            into[self._rows[at_quantile("brier_score", quantile)]] = found.fields[at]
            into[self._rows[at_quantile("debiased_brier_score", quantile)]] = found.fields[at + 1]
            ignorance = np.where(found.fields[at + 3] > 0, np.inf, found.fields[at + 2])
            into[self._rows[at_quantile("ignorance_score", quantile)]] = ignorance

    def _fill_energy(self, into: np.ndarray, squares: np.ndarray, size: int) -> None:
        """Fill the parts of the energy score from mean squared distances [member and pair, lead, region]."""
        norms, mean = np.sqrt(squares), time_mean(self._rules.skipna)  # over members as over initial times
        into[self._rows["energy_score_skill"]] = mean(norms[:size])
        into[self._rows["energy_score_spread"]] = mean(norms[size:]) if size > 1 else np.zeros_like(norms[0])

    def _fill_vector(
        self, into: np.ndarray, channel: int, components: Sequence[int], squares: list[np.ndarray], size: int
    ) -> None:
        """Fill the statistics of a vector in [statistic, lead, channel, region]: sums over its components.

        The mean of a sum is the sum of means where these run over the same points; NaN where they do not.
        """
        if any(self._means[position] is not self._means[channel] for position in components):
            return
        for name in OF_MEMBER_VECTORS & set(FIELD_OF):
            into[self._rows[name], :, channel] = into[self._rows[name]][:, list(components)].sum(axis=1)
        self._fill_energy(into[:, :, channel], np.sum([squares[at] for at in components], axis=0), size)

    def _fill_pooled(self, into: np.ndarray, members: np.ndarray, truth: np.ndarray) -> None:
        """Fill the CRPS of pooled fields in [statistic, lead, channel, region]."""
        rules = MemberRules(self._rules.skipna, self._rules.nominal_size, energy=False, crps_only=True)
        for positions, boxes in self._boxes:
            chosen = as_slice(np.array(positions))
            ensembles, observations = (boxes(fields[..., chosen, :, :]) for fields in (members, truth))
            for kind in POOLINGS:
                pooled, observed = ensembles[kind], observations[kind]
                nothing = np.zeros((len(pooled), 0, *pooled.shape[-2:]))
                for number, channel in enumerate(positions):
                    found = boxes.mean.of_members(pooled, observed, nothing, number, rules)
                    into[self._rows[f"crps_{kind}_pooled_skill"], :, channel] = found.fields[SKILL]
                    into[self._rows[f"crps_{kind}_pooled_spread"], :, channel] = found.fields[SPREAD]


def _boxes(
    truth: Truth, means: Sequence[SpatialMean], convention: Convention, *, skipna: bool
) -> list[tuple[list[int], Boxes]]:
    """Boxes for pooling, and the positions of the channels that have them in common."""
    grid: Grid = truth.grid
    found: dict[int, tuple[list[int], Boxes]] = {}
    for channel, mask in enumerate(truth.mask):
        mean = means[channel]
        if id(mean) not in found:
            area = cell_weights(grid.latitude, len(grid.longitude), mask, convention)
            found[id(mean)] = ([], Boxes(grid, area, mean.weights, skipna=skipna))
        found[id(mean)][0].append(channel)
    return list(found.values())


def average_gaussian(
    mean: np.ndarray,
    deviation: np.ndarray,
    truth: np.ndarray,
    thresholds: Mapping[int, np.ndarray],
    quantiles: Sequence[float],
    axes: Axes,
    means: Sequence[SpatialMean],
    averages: np.ndarray,
) -> None:
    """Fill averages [statistic, lead, channel, region] of normal distributions.

    `mean`, `deviation` and `truth` are float32 [lead, channel, lat, lon], `thresholds` are float32 or float64 [lead,
    threshold, lat, lon] by the channel's position.
    """
    for channel in range(mean.shape[1]):
        limits, own = np.zeros((0, *truth[:, channel].shape)), tuple(quantiles)
        if channel in thresholds:
            limits = np.moveaxis(thresholds[channel].astype(np.float64), 1, 0)
        else:
            own = ()
        fields = gaussian_fields(mean[:, channel], deviation[:, channel], truth[:, channel], limits, own)
        for name, values in fields.items():
            averages[axes.statistics.index(name), :, channel] = means[channel](values)


def statistics_of(quantiles: Sequence[float], *, ensemble: bool, gaussian: bool) -> tuple[str, ...]:
    """The statistics of forecasts that are kept besides those of single ones."""
    if gaussian:
        return gaussian_statistics(quantiles)
    return ensemble_statistics(quantiles) if ensemble else ()
