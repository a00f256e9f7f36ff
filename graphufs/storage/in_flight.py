"""How much is asked of a store at once: more as long as that brings more, within what memory and server are to bear.

A request to an object store takes a tenth of a second before its first byte, and one stream brings a part of what the
network can. So a store that is far away is asked for many things at once. How many are of use depends on their size and
on the network; the bytes that come in a second tell.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from typing import Any, Self

from graphufs.errors import UserError

AT_FIRST = 32
"""Requests at once to a store nothing is known of."""
BETTER, WORSE = 1.15, 0.7
"""By how much the rate must change for more requests at once, or fewer."""
AGAIN = 20
"""Looks at the rate after which one more request than now is tried, since a network may have become faster."""
BEGUN = 4
"""One of so many turns at least is for what begins something."""
SLOW, OF = 5.0, 16
"""How many times longer than the last OF or so a request may take until it is slow."""
MOST = {"requests": 1024, "reading_mib": 2**20}


@dataclass(frozen=True)
class Limits:
    """What reading a source may take; each is a key of `storage_options`, for all clients alike."""

    requests: int = 96
    """Requests to an object store in flight at once, at most: about as many as its client has connections."""
    reading_mib: int = 2304
    """MiB that all reads in flight may take, of the chunks as they come and decoded. One read always goes on."""

    @classmethod
    def split(cls, options: Mapping[str, Any]) -> tuple[Self, dict[str, Any]]:
        """The limits among some `storage_options`, and the other options.

        Raises
        ------
        UserError
            If one is no whole number, or none that can be.
        """
        rest = dict(options)
        given = {each.name: rest.pop(each.name) for each in fields(cls) if each.name in rest}
        for name, value in given.items():
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST[name]:
                raise UserError(f"storage_options has {name}: {value!r}; give a whole number from 1 to {MOST[name]}")
        return cls(**given), rest

    def reads(self, size: int) -> int:
        """How many reads may be in flight where one takes `size` bytes at most."""
        return max(1, min(self.requests, self.reading_mib * 2**20 // max(1, size)))


class Traffic:
    """What this process received from object stores so far [bytes]."""

    received = 0


TRAFFIC = Traffic()


class Turns:
    """Lets so many requests begin as are of use, `most` at most. All of them are made in one event loop."""

    def __init__(self, most: int) -> None:
        self.limit, self._most = min(AT_FIRST, most), most
        self._active = self._begun = 0
        self._waiting, self._patient = deque[asyncio.Future[None]](), deque[asyncio.Future[None]]()
        self._ended, self._bytes, self._looks = 0, 0, 0
        self._since, self._best = time.monotonic(), 0.0
        self._usual = math.inf

    @property
    def slow(self) -> float:
        """Seconds after which a request for few bytes takes far longer than others did; infinite without others."""
        return SLOW * self._usual

    def took(self, seconds: float) -> None:
        """Note how long a request for few bytes took."""
        self._usual = seconds if math.isinf(self._usual) else self._usual + (seconds - self._usual) / OF

    @asynccontextmanager
    async def turn(self, *, patient: bool = False) -> AsyncIterator[None]:
        """Wait for a turn to make a request, and have it.

        One that is `patient` lets others go first: it begins something, which is of use once what was begun is ended.
        But some always have turns, so that when those end, there is something to go on with.
        """
        if self._active >= self.limit:
            waiting = asyncio.get_running_loop().create_future()
            (self._patient if patient else self._waiting).append(waiting)
            try:
                await waiting
            except asyncio.CancelledError:
                if waiting.done() and not waiting.cancelled():
                    self._end(patient)  # the turn had come
                raise
        else:
            self._begin(patient)
        try:
            yield
        finally:
            self._end(patient)

    def came(self, size: int) -> None:
        """Note that a request has brought so many bytes."""
        if not (self._waiting or self._patient):  # so few are wanted that the rate tells nothing of the limit
            self._ended, self._bytes, self._since = 0, 0, time.monotonic()
            return
        self._ended, self._bytes = self._ended + 1, self._bytes + size
        if self._ended >= 2 * self.limit:  # those that were in flight when the limit was set tell less of it
            self._look(time.monotonic())

    def _begin(self, patient: bool) -> None:
        self._active, self._begun = self._active + 1, self._begun + patient

    def _end(self, patient: bool) -> None:
        self._active, self._begun = self._active - 1, self._begun - patient
        while self._active < self.limit and (self._waiting or self._patient):
            patient = bool(self._patient) and (not self._waiting or self._begun < self.limit // BEGUN)
            waiting = (self._patient if patient else self._waiting).popleft()
            if not waiting.done():
                waiting.set_result(None)
                self._begin(patient)

    def _look(self, now: float) -> None:
        rate = self._bytes / max(now - self._since, 1e-6)
        self._looks += 1
        if rate > BETTER * self._best:
            self.limit, self._best, self._looks = min(self._most, 2 * self.limit), rate, 0
        elif rate < WORSE * self._best:
            self.limit, self._best = max(min(AT_FIRST, self._most), 3 * self.limit // 4), rate
        elif self._looks >= AGAIN:
            self.limit, self._best, self._looks = min(self._most, self.limit + 1), rate, 0
        self._ended, self._bytes, self._since = 0, 0, now
