"""How much each row of latitude and each level counts in the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from graphufs.errors import UserError


def level_weights(levels: np.ndarray) -> np.ndarray:
    """P / mean(p), float64 [level]."""
    levels = np.asarray(levels, np.float64)
    return levels / levels.mean()


def channel_factors(
    settings: Mapping[str, Mapping[float, float]], levels: Mapping[str, Sequence[float]]
) -> dict[str, list[float]]:
    """Factors [level] by variable for `LossWeights.build`, 1 where none is set.

    They are set by variable and wanted level, as training.loss.channel_weights has them; `levels` has the wanted levels
    by variable, in the channels' order.

    Raises
    ------
    UserError
        If a variable has no such level.
    """
    for name, factors in settings.items():
        if strange := sorted(set(factors) - set(levels.get(name, ()))):
            there = ", ".join(f"{level:g}" for level in levels.get(name, ())) or "none"
            raise UserError(
                f"training.loss.channel_weights.{name} names level {', '.join(f'{level:g}' for level in strange)}, but "
                f"the levels of {name} are: {there}; training.loss.variable_weights weighs a variable as a whole"
            )
    return {name: [factors.get(level, 1.0) for level in levels[name]] for name, factors in settings.items()}
