"""The guard: notices a loss that is not finite or runs away, before anything trusts what follows."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable
from typing import Any

from graphufs.config.training import Divergence


class LossDiverged(Exception):
    """An update's loss or gradient is not finite, or the loss ran away. `update` counts from 1."""

    def __init__(self, update: int, reason: str) -> None:
        super().__init__(reason)
        self.update, self.reason = update, reason


class Guard:
    """Looks at every loss of a stage in its order.

    A loss has diverged when it is above `factor` times the median of the last `window` losses of the same stage. Until
    there are as many, only losses that are not finite are noticed: a stage's first losses may fall or jump.
    """

    def __init__(self, settings: Divergence, stage: str, losses: Iterable[float] = ()) -> None:
        self.settings, self.stage = settings, stage
        self._losses: deque[float] = deque(losses, maxlen=settings.window)

    def look(self, update: int, loss: float, gradient_norm: float) -> None:
        """Take note of an update's loss and norm of the gradient.

        Raises
        ------
        LossDiverged
            If either is not finite, or the loss ran away.
        """
        if not math.isfinite(loss) or not math.isfinite(gradient_norm):
            raise LossDiverged(update, f"is not finite (loss {loss:g}, gradient norm {gradient_norm:g})")
        factor = self.settings.factor
        if factor is not None and len(self._losses) == self.settings.window:
            median = statistics.median(self._losses)
            if loss > factor * median:
                raise LossDiverged(
                    update,
                    f"has diverged (loss {loss:g}, more than {factor:g} times {median:g}, the median of the "
                    f"{self.settings.window} before it)",
                )
        self._losses.append(loss)

    def state(self) -> dict[str, Any]:
        """What `from_state` needs to go on, for JSON."""
        return {"stage": self.stage, "losses": list(self._losses)}

    @staticmethod
    def from_state(settings: Divergence, stage: str, state: dict[str, Any] | None) -> Guard:
        """The guard of a stage; with the losses of `state` if that is of the same stage."""
        known = state is not None and state["stage"] == stage
        return Guard(settings, stage, state["losses"] if state is not None and known else ())
