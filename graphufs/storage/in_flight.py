"""How much is asked of a store at once: more as long as that brings more, within what memory and server are to bear.

A request to an object store takes a tenth of a second before its first byte, and one stream brings a part of what the
network can. So a store that is far away is asked for many things at once. How many are of use depends on their size and
on the network; the bytes that come in a second tell.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from typing import Any, Self

from graphufs.errors import UserError

AT_FIRST = 8
"""Requests at once to a store nothing is known of."""
BETTER, WORSE = 1.15, 0.7
"""By how much the rate must change for more requests at once, or fewer."""
AGAIN = 20
"""Looks at the rate after which one more request than now is tried, since a network may have become faster."""
MOST = {"requests": 1024, "reading_mib": 2**20}


@dataclass(frozen=True)
class Limits:
    """What reading a source may take; each is a key of `storage_options`, for all clients alike."""

    requests: int = 64
    """Requests to an object store in flight at once, at most."""
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
        self._active, self._waiting = 0, deque[asyncio.Future[None]]()
        self._ended, self._bytes, self._looks = 0, 0, 0
        self._since, self._best = time.monotonic(), 0.0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn to make a request, and have it."""
        if self._active >= self.limit:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            try:
                await waiting
            except asyncio.CancelledError:
                if waiting.done() and not waiting.cancelled():
                    self._end()  # the turn had come
                raise
        else:
            self._active += 1
        try:
            yield
        finally:
            self._end()

    def came(self, size: int) -> None:
        """Note that a request has brought so many bytes."""
        self._ended, self._bytes = self._ended + 1, self._bytes + size
        if self._ended >= 2 * self.limit:  # those that were in flight when the limit was set tell less of it
            self._look(time.monotonic())

    def _end(self) -> None:
        self._active -= 1
        while self._waiting and self._active < self.limit:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)
                self._active += 1

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
