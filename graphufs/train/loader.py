"""Mini-batches of forecast samples, shuffled by a seed and read ahead of the training step."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from graphufs.experiment import DERIVED_FORCINGS, Experiment
from graphufs.forcings import derived_forcing
from graphufs.replay.frames import PreparedData

DERIVED_CACHE_BYTES = 512 * 2**20
"""Memory for derived fields that are full maps (solar radiation), which are costly to compute."""


class Batch(NamedTuple):
    """Samples of one update, as host arrays.

    frames: float32 [batch, time, channel, lat, lon], the prepared data of the whole window, input frames first.
    derived: by name, float32 [batch, time, 1, lat or 1, lon or 1], computed for the same times.
    """

    frames: NDArray[np.float32]
    derived: dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Samples:
    """Where samples come from: the data, the initial times to choose from, and how long a window is."""

    data: PreparedData
    initial_times: NDArray[np.datetime64]
    derived: tuple[str, ...]
    input_frames: int
    rollout: int
    tisr_period: int

    @classmethod
    def of(
        cls, experiment: Experiment, data: PreparedData, initial_times: NDArray[np.datetime64], rollout: int
    ) -> Samples:
        """The samples of an experiment at given initial times."""
        names = set(experiment.data.inputs) | set(experiment.data.forcings)
        return cls(
            data=data,
            initial_times=initial_times,
            derived=tuple(sorted(names & set(DERIVED_FORCINGS))),
            input_frames=experiment.data.input_frames,
            rollout=rollout,
            tisr_period=experiment.data.tisr_period,
        )

    def window(self, initial_times: NDArray[np.datetime64]) -> NDArray[np.datetime64]:
        """The stamps [initial time, frame] of the windows around initial times."""
        offsets = np.arange(1 - self.input_frames, self.rollout + 1) * np.timedelta64(self.data.time_step, "h")
        return initial_times[:, None] + offsets

    def read(self, initial_times: NDArray[np.datetime64], cache: DerivedCache | None = None) -> Batch:
        """Read the samples of the given initial times as one batch."""
        stamps = self.window(initial_times)
        frames = self.data.read(stamps.ravel())
        return Batch(frames.reshape(stamps.shape + frames.shape[1:]), self.derive(stamps, cache))

    def derive(
        self, stamps: NDArray[np.datetime64], cache: DerivedCache | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """The derived forcings at windows of stamps [batch, time]."""
        cache = cache or DerivedCache()
        return {name: np.stack([cache.get(self, name, window) for window in stamps]) for name in self.derived}


class DerivedCache:
    """Remembers derived fields by name and stamp, the least recently used forgotten first."""

    def __init__(self, limit: int = DERIVED_CACHE_BYTES) -> None:
        self._limit, self._size, self._lock = limit, 0, Lock()
        self._fields: OrderedDict[tuple[str, np.datetime64], NDArray[np.float32]] = OrderedDict()

    def get(self, samples: Samples, name: str, stamps: NDArray[np.datetime64]) -> NDArray[np.float32]:
        """The derived variable at stamps, [time, 1, lat or 1, lon or 1]."""
        with self._lock:
            known = {stamp: self._fields[name, stamp] for stamp in stamps if (name, stamp) in self._fields}
        wanted = np.array([stamp for stamp in stamps if stamp not in known], dtype=stamps.dtype)
        if wanted.size:
            data = samples.data
            computed = derived_forcing(name, wanted, data.latitude, data.longitude, samples.tisr_period)
            for stamp, field in zip(wanted, computed, strict=True):
                known[stamp] = field
        with self._lock:
            for stamp, field in known.items():
                if (name, stamp) not in self._fields:
                    self._size += field.nbytes
                self._fields[name, stamp] = field
                self._fields.move_to_end((name, stamp))
            while self._size > self._limit:
                self._size -= self._fields.popitem(last=False)[1].nbytes
        return np.stack([known[stamp] for stamp in stamps])


def order(count: int, batch_size: int, batch: int, key: tuple[int, ...]) -> NDArray[np.int64]:
    """Which samples batch number `batch` takes: a pure function, so that any batch can be repeated after a restart.

    Each epoch is a new permutation, drawn from `key` and the epoch's number; samples left over at an epoch's end wait
    for the next one. Returns indices [batch_size].
    """
    per_epoch = count // batch_size
    epoch, place = divmod(batch, per_epoch)
    permutation = np.random.Generator(np.random.Philox(np.random.SeedSequence((*key, epoch)))).permutation(count)
    return permutation[place * batch_size : (place + 1) * batch_size]


class BatchLoader:
    """Reads shuffled batches a few ahead in threads and measures how long the training waited for them."""

    def __init__(self, samples: Samples, batch_size: int, key: tuple[int, ...], *, ahead: int = 3) -> None:
        self.samples, self.batch_size, self.key, self.ahead = samples, batch_size, key, ahead
        self.waited = 0.0
        """Seconds that the consumer spent waiting so far."""
        self._cache = DerivedCache()

    @property
    def batches_per_epoch(self) -> int:
        """Full batches in one pass over the samples."""
        return len(self.samples.initial_times) // self.batch_size

    def initial_times(self, batch: int) -> NDArray[np.datetime64]:
        """The initial times of batch number `batch`."""
        indices = order(len(self.samples.initial_times), self.batch_size, batch, self.key)
        return self.samples.initial_times[indices]

    def batches(self, first: int, stop: int) -> Iterator[tuple[int, Batch]]:
        """Batches number `first` up to, not including, `stop`, each with its number."""
        pending: deque[Future[Batch]] = deque()
        following = first
        with ThreadPoolExecutor(2, thread_name_prefix="loader") as pool:
            try:
                for number in range(first, stop):
                    while following < stop and len(pending) < self.ahead:
                        pending.append(pool.submit(self.samples.read, self.initial_times(following), self._cache))
                        following += 1
                    began = time.perf_counter()
                    batch = pending.popleft().result()
                    self.waited += time.perf_counter() - began
                    yield number, batch
            finally:
                for future in pending:
                    future.cancel()
