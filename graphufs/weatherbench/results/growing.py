"""Scores with initial times after all that were scored before: made of running sums, without reading the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from graphufs.storage.checksums import Files
from graphufs.weatherbench.results import contents, parts
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.scoring.score_state import ScoreState, require_same_axes, require_same_times


class GrownScores(Scores):
    """The scores of a store and of later initial times; the states of the former are read where they are asked for."""

    def __init__(
        self,
        before: Scores,
        states: Mapping[str, ScoreState],
        dataset: xr.Dataset,
        statistics: xr.Dataset,
        diagnostics: xr.Dataset | None,
        histograms: xr.Dataset | None,
        sums: xr.Dataset,
    ) -> None:
        super().__init__(dataset, statistics, diagnostics, histograms, sums=sums)
        self._before = before
        self._later = dict(states)

    @property
    def initial_times(self) -> np.ndarray:
        """The initial times, datetime64[ns] [time], ascending."""
        return np.concatenate([self._before.initial_times, self._statistics["init_time"].values])

    def _read_of(self, metric: str | None) -> Mapping[str, ScoreState]:
        found = {}
        for name, state in self._before.states(metric).items():
            wanted = ("statistics", "leads", "channels", "regions")
            later = self._later[name].restricted({axis: getattr(state.axes, axis) for axis in wanted})
            found[name] = state.merge(later)
        return found

    def _labels(self) -> xr.Dataset:
        axes = self._statistics.drop_vars([*self._statistics.data_vars, "init_time"])
        return axes.assign_coords(init_time=self.initial_times)

    def _to_write(self) -> tuple[dict[str | None, xr.Dataset], Callable[[Path], Files] | None]:
        assert self._before.path is not None and self.part is not None
        full = len(self._before.initial_times) // self.part
        return {}, parts.longer(self._before.path, full, self._statistics)


def can_grow(before: Scores, states: Mapping[str, ScoreState]) -> bool:
    """Whether the states' initial times come after all of a store's, which keeps running sums."""
    times = require_same_times(states)
    growing = before.part is not None and before.sums is not None and before.path is not None
    return growing and bool(times[0] > before.initial_times[-1])


def grown(
    before: Scores,
    states: Mapping[str, ScoreState],
    attributes: Mapping[str, Any],
    variable_attributes: Mapping[str, Mapping[str, Any]],
    diagnostics: xr.Dataset | None,
    histograms: xr.Dataset | None,
) -> Scores:
    """The scores of a store and of states of later initial times, as `Scores.from_states` makes them of all.

    Raises
    ------
    UserError
        If they are of other statistics, leads, channels, regions or conventions, or the store is damaged.
    """
    assert before.part is not None and before.sums is not None
    axes, part = before.axes, before.part
    for state in states.values():
        require_same_axes(axes, state.axes)
    names = before.forecasts
    so_far = contents.sums_of(before.sums, axes)
    sums = {name: so_far[name].add(states[name].averages()) for name in names}
    full = len(before.initial_times) // part
    of_parts = {
        name: [*before.part_checksums[name][:full], *state.merge(states[name]).part_checksums(part)]
        for name, state in before.unfinished().items()
    }
    common = contents.common_attributes(axes, sums[names[0]].initial_times, attributes)
    finished = {name: one.finalize() for name, one in sums.items()}
    dataset = contents.scores_dataset(finished, axes, common, variable_attributes)
    later = {name: states[name] for name in names}
    tail = contents.statistics_dataset(later, common | parts.checksums(of_parts, part))
    return GrownScores(before, later, dataset, tail, diagnostics, histograms, contents.sums_dataset(sums))
