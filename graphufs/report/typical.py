"""Which case a page shows: a lead and an initial time that are neither the best nor the worst."""

from __future__ import annotations

import numpy as np

from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.scoring.score import FORECAST

TYPICAL_LEAD = np.timedelta64(72, "h")


def typical_lead(scores: Scores) -> np.timedelta64:
    """Three days, or where these were not scored the lead in the middle."""
    if TYPICAL_LEAD in scores.leads:
        return TYPICAL_LEAD
    return np.timedelta64(np.sort(scores.leads)[len(scores.leads) // 2])


def typical_time(scores: Scores, lead: np.timedelta64, among: np.ndarray) -> np.datetime64:
    """The initial time, of those also in `among` [time], whose error at `lead` is the median.

    The error is the RMSE over its mean, averaged over the targets.
    """
    at = int(np.flatnonzero(scores.leads == lead)[0])
    times = np.intersect1d(scores.initial_times, among)
    errors = scores.states("rmse")[FORECAST].select(times).by_initial_time(["rmse"])["rmse"][:, at, :, 0]
    relative = (errors / errors.mean(axis=0)).mean(axis=1)
    order = np.argsort(relative)  # NaN last
    return times[order[(len(order) - 1) // 2]]
