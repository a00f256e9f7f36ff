"""A look at a few stamps of a source before anything is written: what all of a record would be refused for later."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from graphufs.data.channels import variable_slices
from graphufs.data.segments import costs, reading_pool
from graphufs.data.selection import Selection
from graphufs.data.static_fields import present_mask, read_static_fields
from graphufs.errors import UserError
from graphufs.replay.source import ReplayStore
from graphufs.replay.times import text

LOOKS, FEWEST = 5, 2
"""Stamps looked at, and how many where their chunks are huge."""
MORE = 20
"""Stamps looked at besides where the first are suspicious."""
LOOK_BYTES = 4 * 2**30
"""Decoded bytes that the first look may take where that is enough for FEWEST stamps."""


def check_sample(store: ReplayStore, selection: Selection, stamps: np.ndarray, targets: Iterable[str]) -> None:
    """Read the static fields and a few of the stamps [time], spread over the record, as they would be prepared.

    Raises
    ------
    UserError
        If a value is implausible or cannot be read, a variable has missing values at every stamp, or a target is the
        same at every stamp.
    """
    read_static_fields(store, selection)
    if not stamps.size:
        return
    mask = present_mask(store, selection, stamps)
    count = int(np.clip(LOOK_BYTES // max(1, costs(store, selection).per_stamp), FEWEST, LOOKS))
    with reading_pool(store, selection) as pool:
        for name, channels in variable_slices(selection.channels).items():
            look = _Look(store, name, selection.levels.get(name), mask[channels])
            look.at(_spread(stamps, count), pool)
            is_target = name in targets
            if name not in store.allowances.implausible and look.is_suspicious(is_target):
                look.at(_spread(stamps, count + MORE), pool)
                look.require_use(is_target, [channel.native for channel in selection.channels[channels]])


def _spread(stamps: np.ndarray, count: int) -> np.ndarray:
    return stamps[np.unique(np.linspace(0, stamps.size - 1, count).astype(int))]


class _Look:
    """What was seen of one variable so far."""

    def __init__(self, store: ReplayStore, name: str, levels: np.ndarray | None, there: np.ndarray) -> None:
        self.store, self.name, self.levels, self.there = store, name, levels, there
        self.seen: list[np.datetime64] = []
        self.whole = 0
        self.first: np.ndarray | None = None
        self.same = np.ones(len(there), bool)

    def at(self, stamps: np.ndarray, pool: ThreadPoolExecutor) -> None:
        stamps = np.setdiff1d(stamps, self.seen)
        self.seen.extend(stamps)
        for values in pool.map(lambda stamp: self.store.read(self.name, np.array([stamp]), self.levels), stamps):
            values = values.reshape(self.there.shape)
            if not np.isfinite(values[self.there]).all():
                continue
            self.whole += 1
            if self.first is None:
                self.first = values
            else:
                self.same &= ((values == self.first) | ~self.there).all(axis=(1, 2))

    def is_suspicious(self, is_target: bool) -> bool:
        return not self.whole or (is_target and self.whole > 1 and bool(self.same.any()))

    def require_use(self, is_target: bool, native: list[float | None]) -> None:
        if not self.is_suspicious(is_target):
            return
        seen = f"all of {len(self.seen)} stamps looked at from {text(min(self.seen))} to {text(max(self.seen))}"
        if not self.whole:
            raise UserError(
                f"{self.name} of {self.store.url} has missing values at {seen}, so none of them could be used; take it "
                f"out of the experiment, or name it in data.accept_implausible if other stamps are whole"
            )
        level = native[int(self.same.argmax())]
        at = "" if level is None else f" at level {level:.7g}"
        raise UserError(
            f"{self.name}{at} of {self.store.url} is the same at {seen}, so there is nothing to predict; take it out "
            "of data.targets, or name it in data.accept_implausible if it changes elsewhere"
        )
