"""What a frame holds: channels.

A frame is all time-varying data at one stamp, float32 [channel, lat, lon]: a channel for each surface variable and
for each level of a variable with levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphufs.errors import UserError


@dataclass(frozen=True)
class PreparedChannel:
    """One horizontal field: a variable, and for one with levels the wanted level and the store's own value."""

    variable: str
    level: float | None = None
    native: float | None = None


def variable_slices(channels: Sequence[PreparedChannel]) -> dict[str, slice]:
    """The channels of each variable; a variable's channels lie side by side."""
    slices: dict[str, slice] = {}
    for index, channel in enumerate(channels):
        first = slices[channel.variable].start if channel.variable in slices else index
        slices[channel.variable] = slice(first, index + 1)
    return slices


def slice_of(slices: dict[str, slice], variable: str) -> slice:
    """The channels of one variable.

    Raises
    ------
    UserError
        If there is no such variable.
    """
    if variable not in slices:
        raise UserError(f"the prepared data hold no time-varying variable {variable!r}; they have {', '.join(slices)}")
    return slices[variable]
