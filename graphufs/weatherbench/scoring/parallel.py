"""Scoring initial times in shares: on threads of this machine, or on dask workers of many.

An initial time's averages depend on no other one, so shares computed anywhere and merged are the whole, to the last bit
on machines of one kind. Neighbours stay together, for they share truth; each share reads for itself, with the memory
that scoring takes alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import reduce
from threading import Lock
from typing import TypeVar

import numpy as np

from graphufs import parallel
from graphufs.errors import Stopped
from graphufs.weatherbench.scoring.score_state import ScoreState

States = dict[str, ScoreState]
R = TypeVar("R")
"""What comes of a share."""

STOPPED = "stopped in scores; what is unfinished is done again"

SMALLEST = 8
"""Initial times that a share holds at least: no share reuses what another has read."""

PER_WORKER = 4
"""Shares for each thread of dask workers, so that a slow one does not hold up all."""

MOST_THREADS = 4
"""Threads that are used unasked: each takes the memory of scoring alone."""


def cores() -> int:
    """Threads to use where nothing is said about them."""
    return min(MOST_THREADS, len(os.sched_getaffinity(0)))


def split(times: np.ndarray, parts: int) -> list[np.ndarray]:
    """The initial times [time] in about `parts` shares of neighbours, none below `SMALLEST` if there are more."""
    return np.array_split(np.sort(times), max(1, min(parts, len(times) // SMALLEST)))


def score_in_shares(
    times: np.ndarray,
    here: Callable[[np.ndarray, Callable[[], None]], R],
    there: Callable[[np.ndarray], R],
    merge: Callable[[R, R], R],
    *,
    threads: int,
    progress: Callable[[int, int], None],
    should_stop: Callable[[], bool],
) -> R:
    """What comes of all initial times, datetime64[ns] [time], merged in their order.

    `here` scores some of them in this process and calls its second argument after each; `there` does the same on a dask
    worker: importable, or a partial of such with small arguments. So many `threads` are used where there are no workers
    (`graphufs.parallel.over`). `progress` is told the number of initial times done and of all; it may raise Stopped.

    Raises
    ------
    Stopped
        If `should_stop()` turned true.
    """
    client = parallel.current()
    parts = threads if client is None else PER_WORKER * sum(client.nthreads().values())
    pieces, done, lock = split(times, parts), 0, Lock()

    def count(number: int) -> None:
        nonlocal done
        with lock:
            done += number
            progress(done, len(times))

    def advance() -> None:
        if should_stop():
            raise Stopped(STOPPED)
        count(1)

    if client is None and len(pieces) == 1:
        return here(pieces[0], advance)
    found: dict[int, R] = {}
    computing = parallel.map_unordered(
        there,
        pieces,
        should_stop=should_stop,
        stopped=lambda: STOPPED,
        here=lambda piece: here(piece, advance),
        threads=threads,
    )
    with closing(computing):
        for number, result in computing:
            found[number] = result
            if client is not None:
                count(len(pieces[number]))
    return reduce(merge, [found[number] for number in range(len(pieces))])


def merged(one: Mapping[str, ScoreState], other: Mapping[str, ScoreState]) -> States:
    """The states over the initial times of both, by name of the forecast."""
    return {name: state.merge(other[name]) for name, state in one.items()}
