"""The mean of an ensemble's members, as single forecasts are scored."""

from __future__ import annotations

import numpy as np


def single_mean(members: np.ndarray, skipna: bool = False) -> np.ndarray:
    """The mean of members [member, ...] in float32, added one after the other as the official code does."""
    total = np.zeros(members.shape[1:], np.float32)
    if not skipna:
        for member in members:
            total += member
        total /= np.float32(len(members))
        return total
    number = np.zeros(members.shape[1:], np.float32)
    for member in members:
        there = ~np.isnan(member)
        total += np.where(there, member, np.float32(0))
        number += there
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total / number)
