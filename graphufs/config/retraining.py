"""How an experiment is retrained: its windows, and the rule by which a challenger becomes the champion."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from graphufs.config.base import MOST_DAYS, MOST_NAMES, Hours, Section


class NamedScore(Section):
    """A score that the rule looks at."""

    variable: str
    """A target."""
    level: float | None = None
    """One of data.levels; null for a variable without levels."""
    lead: Hours
    """A lead time that is forecast."""


class Stability(Section):
    """What a long rollout of a challenger must keep to."""

    margin: float = Field(1.0, gt=0)
    """Values lie within the climatology's range, widened by this share of it to both sides."""
    spectrum: float = Field(10.0, gt=1)
    """The energy in the shorter half of the waves changes from the first to the last lead by less than this factor."""


class Retraining(Section):
    """When a challenger is trained, on what, and what makes it the champion. Names nothing that is made."""

    training_days: int = Field(365, ge=1, le=MOST_DAYS)
    """Length of the training window."""
    validation_days: int = Field(30, ge=1, le=MOST_DAYS)
    """Length of the validation window, right after it."""
    new_days: int = Field(7, ge=1, le=MOST_DAYS)
    """Days by which a training window must end later than that of any model there is."""
    comparison_times: int = Field(20, ge=8, le=10_000)
    """Initial times of the comparison, every forecast.every, all their data after both models' windows."""
    warm_start: bool = True
    """Start from the champion's weights; false: from scratch. The champion's statistics are kept either way."""
    scores: tuple[NamedScore, ...] = Field((), max_length=MOST_NAMES)
    """Scores that decide; empty: each target at the longest lead time."""
    metric: Literal["rmse", "mse", "crps"] = "rmse"
    """Of an ensemble, rmse and mse are its mean's; crps is the fair score of its members."""
    level: float = Field(0.05, gt=0, lt=0.5)
    """The rule promotes a challenger that is no better at most this often; shared among the scores (Bonferroni)."""
    worse_by_at_most: float = Field(0.02, ge=0)
    """A challenger is refused where a named score is worse by more than this share of the champion's."""
    then: Literal["promote", "ask"] = "ask"
    """What follows a gain beyond chance without a loss: promote it, or ask a person."""
    stability: Stability = Stability()
