"""The guard of ensembles: notices members that are all the same, before a training spends days on one forecast."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphufs.errors import UserError
from graphufs.train.ensemble.members import Spread
from graphufs.train.stages import PlannedStage

FIRST_UPDATES = 20
"""Maps of noise begin with zeros: members may be the same for so many updates of a stage, while its rate warms up."""
FEWEST_UPDATES = 5
"""A shorter stage is not looked at."""
SAME = 1e-12
"""Of the squared error of the ensemble's mean: a variance below is that of rounding."""


def require_spread(spread: Spread, done: int, stage: PlannedStage) -> None:
    """See that members differ, after `done` updates of all stages.

    Raises
    ------
    UserError
        If after the stage's first updates they are the same in all targets.
    """
    number = done - stage.first
    if number < max(FEWEST_UPDATES, min(FIRST_UPDATES, stage.updates)):
        return
    variance, error = (max(float(np.max(one)) for one in parts.values()) for parts in (spread.variance, spread.skill))
    if variance <= SAME * error**2:
        raise UserError(
            f"the {stage.loss.members} members of stage {stage.name!r} are all the same after {number} of its updates: "
            "the noise does not reach them, or the learning rate is too small for its maps to leave zero. See that "
            "learning_rate.peak is not nearly 0, and that each member has noise of its own"
        )


def described(spread: Spread) -> dict[str, Any]:
    """What metrics.jsonl says of a spread: its parts, and their corrected spread/skill, each by target [level].

    Its numbers are float64 or lists of them; spread/skill is None where the mean's error is not above 0.
    """
    ratios = {
        name: [
            math.sqrt(v / e) if e > 0 and math.isfinite(v) else None
            for v, e in zip(variance, spread.mean_error[name], strict=True)
        ]
        for name, variance in spread.variance.items()
    }
    return {**spread._asdict(), "spread_skill": ratios}
