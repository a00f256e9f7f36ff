"""Mini-batches of forecast samples, shuffled by a seed, shared among processes and read ahead of the training step.

Batch number `n` is a pure function of the samples, the batch size and the key: a loader has no state, going on after a
restart takes only the number, and processes that share the batches agree on them without talking to each other.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graphufs.config.experiment import Experiment
from graphufs.data.dataset import PreparedData
from graphufs.data.zarr_segment import Part
from graphufs.errors import UserError
from graphufs.forcings import derived_forcing
from graphufs.vocabulary.variables import DERIVED_FORCINGS

READERS = 2
"""Batches read at once; more are not read faster, as the reads of a batch are concurrent already."""
AHEAD = 2
"""Batches read ahead of the one in use."""
AHEAD_BYTES = 2**30
"""Memory they may take: large batches are read less far ahead, but one always is."""
DERIVED_CACHE_BYTES = 512 * 2**20
"""Memory for derived fields that are full maps (solar radiation), which are costly to compute."""


class Batch(NamedTuple):
    """Samples of one update, as host arrays.

    frames: float32 [batch, time, channel, lat, lon], the prepared data of the whole window, input frames first.
    derived: by name, float32 [batch, time, 1, lat or 1, lon or 1], computed for the same times.
    Where only a part of the grid points was read, these are lat and lon: 1 and as many as the part has.
    """

    frames: NDArray[np.float32]
    derived: dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class WindowReader:
    """Reads samples: the data, the initial times to choose from, and how long a window of frames is."""

    data: PreparedData
    initial_times: NDArray[np.datetime64]
    derived: tuple[str, ...]
    input_frames: int
    rollout: int
    tisr_period: int
    part: Part | None = None
    """The grid points that are read; None: all, as they lie."""

    @classmethod
    def of(
        cls, experiment: Experiment, data: PreparedData, initial_times: NDArray[np.datetime64], rollout: int
    ) -> WindowReader:
        """The samples of an experiment at given initial times [sample]."""
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

    @property
    def bytes_per_sample(self) -> int:
        """Memory of one sample's frames and derived forcings."""
        channels, rows, columns = self.frame_shape
        maps = channels + ("toa_incident_solar_radiation" in self.derived)
        return 4 * (self.input_frames + self.rollout) * maps * rows * columns

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(channel, lat, lon) of a frame as it is read."""
        shape = self.data.frame_shape
        return shape if self.part is None else (shape[0], 1, self.part.points.size)

    def buffer(self, samples: int) -> NDArray[np.float32]:
        """Memory for the frames of so many samples, float32 [sample * time, channel, lat, lon]."""
        return np.empty((samples * (self.input_frames + self.rollout), *self.frame_shape), np.float32)

    def read(
        self,
        initial_times: NDArray[np.datetime64],
        cache: DerivedCache | None = None,
        buffer: NDArray[np.float32] | None = None,
    ) -> Batch:
        """Read the samples of the given initial times [sample] as one batch, into a `buffer` if one is given."""
        stamps = self.window(initial_times)
        taken = () if self.part is None else (self.part,)
        frames = self.data.read(stamps.ravel(), buffer, *taken)
        return Batch(frames.reshape(stamps.shape + frames.shape[1:]), self.derive(stamps, cache))

    def derive(
        self, stamps: NDArray[np.datetime64], cache: DerivedCache | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """The derived forcings at windows of stamps [batch, time]."""
        cache = cache or DerivedCache()
        return {
            name: np.stack([self._of_part(cache.get(self, name, window)) for window in stamps]) for name in self.derived
        }

    def _of_part(self, field: NDArray[np.float32]) -> NDArray[np.float32]:
        """What of a field [..., lat or 1, lon or 1] belongs to the grid points that are read; a number stays one."""
        if self.part is None or field.shape[-2:] == (1, 1):
            return field
        places = np.divmod(self.part.points, self.data.frame_shape[2])
        row, column = (place * (size > 1) for place, size in zip(places, field.shape[-2:], strict=True))
        return field[..., row, column][..., None, :]


class DerivedCache:
    """Remembers derived fields by name and stamp, the least recently used forgotten first."""

    def __init__(self, limit: int = DERIVED_CACHE_BYTES) -> None:
        self._limit, self._size, self._lock = limit, 0, Lock()
        self._fields: OrderedDict[tuple[str, np.datetime64], NDArray[np.float32]] = OrderedDict()

    def get(self, samples: WindowReader, name: str, stamps: NDArray[np.datetime64]) -> NDArray[np.float32]:
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
    return _permutation(count, (*key, epoch))[place * batch_size : (place + 1) * batch_size]


@lru_cache(maxsize=2)
def _permutation(count: int, key: tuple[int, ...]) -> NDArray[np.int64]:
    # NumPy may change what its generators draw in a later version. A test holds the values, and a checkpoint refuses
    # to go on where they differ, as they are part of the loader's identity.
    drawn = np.random.Generator(np.random.Philox(np.random.SeedSequence(key))).permutation(count)
    drawn.flags.writeable = False
    return drawn


class BatchLoader:
    """Reads shuffled batches a few ahead in threads and measures how long the training waited for them.

    `batch_size` is that of one update, over all processes; the order of the samples is drawn from the numbers of `key`.
    `shard` is (process, processes): this process reads its equal part of each batch, the parts in the order of the
    processes. Put together they are the batches of a single process.

    Raises
    ------
    UserError
        If the processes cannot share a batch equally.
    """

    def __init__(
        self, samples: WindowReader, batch_size: int, key: tuple[int, ...], *, shard: tuple[int, int] = (0, 1)
    ) -> None:
        process, processes = shard
        if not 0 <= process < processes:
            raise UserError(f"there is no process {process} of {processes}; they are counted from 0")
        if batch_size % processes:
            raise UserError(
                f"a batch of {batch_size} samples cannot be shared equally by {processes} processes; choose a "
                "batch size that is a multiple of them"
            )
        self.samples, self.batch_size, self.key = samples, batch_size, key
        share = batch_size // processes
        self._shard = slice(process * share, (process + 1) * share)
        self.waited = 0.0
        """Seconds that the consumer spent waiting so far."""
        self._cache = DerivedCache()

    @property
    def ahead(self) -> int:
        """Batches read ahead of the one in use."""
        share = self._shard.stop - self._shard.start
        return max(1, min(AHEAD, AHEAD_BYTES // (share * self.samples.bytes_per_sample)))

    def read_only(self, part: Part) -> None:
        """From now on read only a part of the grid points: which samples a batch takes does not depend on it."""
        self.samples = replace(self.samples, part=part)

    @property
    def batches_per_epoch(self) -> int:
        """Full batches in one pass over the samples."""
        return len(self.samples.initial_times) // self.batch_size

    def identity(self) -> dict[str, Any]:
        """What decides which samples each batch takes, for JSON: going on with another gives another training.

        Under `initial_times` and `order` are the first 16 hexadecimal digits of the SHA-256 of all initial times, as
        hours since 1970 in little-endian int64, and of the first epoch's order, as little-endian int64.
        """
        times = self.samples.initial_times.astype("datetime64[h]")
        first_epoch = _permutation(len(times), (*self.key, 0))
        return {
            "samples": len(times),
            "first": str(times[0]) if len(times) else None,
            "last": str(times[-1]) if len(times) else None,
            "initial_times": _digest(times.astype(np.int64)),
            "batch_size": self.batch_size,
            "key": list(self.key),
            "order": _digest(first_epoch),
        }

    def initial_times(self, batch: int) -> NDArray[np.datetime64]:
        """The initial times [batch] of batch number `batch`, of all processes together."""
        indices = order(len(self.samples.initial_times), self.batch_size, batch, self.key)
        return self.samples.initial_times[indices]

    def local_initial_times(self, batch: int) -> NDArray[np.datetime64]:
        """The initial times [samples of this process] of its part of batch number `batch`."""
        return self.initial_times(batch)[self._shard]

    def batches(self, first: int, stop: int) -> Iterator[tuple[int, Batch]]:
        """This process's part of batches number `first` up to, not including, `stop`, each with its number."""
        pending: deque[Future[Batch]] = deque()
        following = first
        with ThreadPoolExecutor(READERS, thread_name_prefix="loader") as pool:

            def read_on() -> None:
                nonlocal following
                while following < stop and len(pending) < self.ahead:
                    times = self.local_initial_times(following)
                    # taken in the consumer's thread, where what it freed is used again: others get fresh pages, to
                    # clear which takes longer than to read into them
                    buffer = self.samples.buffer(len(times))
                    pending.append(pool.submit(self.samples.read, times, self._cache, buffer))
                    following += 1

            try:
                read_on()
                for number in range(first, stop):
                    began = time.perf_counter()
                    batch = pending.popleft().result()
                    self.waited += time.perf_counter() - began
                    read_on()
                    yield number, batch
            finally:
                for future in pending:
                    future.cancel()


def _digest(values: NDArray[np.int64]) -> str:
    return hashlib.sha256(values.astype("<i8").tobytes()).hexdigest()[:16]
