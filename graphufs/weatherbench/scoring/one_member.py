"""A single forecast as an ensemble of one member, to be compared with ensembles: its CRPS is its absolute error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from graphufs.weatherbench.scoring.score_state import ScoreState

FROM = {
    "crps_skill": "absolute_error",
    "crps_spread": None,
    "crps_spread_biased": None,
    "ensemble_mean_squared_error": "squared_error",
    "ensemble_variance": None,
}
"""The statistics of one member, and which of a single forecast's they are; None where they are 0."""

OF_ONE_MEMBER = frozenset(FROM)


def as_one_member(state: ScoreState) -> ScoreState:
    """The state with the statistics of one member added; an ensemble's, or one that lacks what it takes, as it is."""
    there = state.axes.statistics
    if OF_ONE_MEMBER & set(there) or not {"absolute_error", "squared_error"} <= set(there):
        return state
    made = ScoreState(replace(state.axes, statistics=(*there, *FROM)))
    absolute, squared = (there.index(name) for name in ("absolute_error", "squared_error"))
    for time, averages in zip(state.initial_times, state.stacked(), strict=True):
        nothing = np.where(np.isnan(averages[squared]), np.nan, 0.0)
        sources = {"absolute_error": averages[absolute], "squared_error": averages[squared], None: nothing}
        made.update(time, np.concatenate([averages, [sources[source] for source in FROM.values()]]))
    return made
