"""One look at a site's jobs for all who wait for them.

In the triggerer, every deferred task of a site shares one poller: one connection, and one `graphufs-jobs poll` for all
keys an interval. While the site does not answer, the pauses grow, those who wait are told, and nothing is concluded.
Whatever goes wrong in a look, the next one starts afresh, so that no task waits for an answer that cannot come.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from jobs.airflow.sites.client import SiteClient, SiteError, Unreachable
from jobs.job.records import now

log = logging.getLogger(__name__)
LONGEST = 600.0
"""Longest pause, in seconds, between two looks at a site that does not answer."""
GATHER = 0.3
"""Seconds for which a first look waits for more who ask."""
BEHIND = 32768
"""Bytes of log in one answer after which more is expected to be there; the next look then comes soon."""
SOON = 5.0
TIMEOUT = 180.0
"""Seconds for one look."""

Cursor = dict[str, int]


@dataclass(frozen=True)
class Trouble:
    """The site cannot be looked at."""

    message: str
    since: str
    """When it was first noticed, UTC."""


Word = dict[str, Any] | Trouble
"""What a look said about one job, nothing where only the site was asked for; or that there could be none."""


@dataclass(eq=False)
class Subscription:
    """Someone who waits for a job, or, without a key, for the site."""

    key: str | None
    cursor: Cursor
    asked: float = 0.0
    """When the poller last asked for what comes after this cursor."""
    inbox: asyncio.Queue[Word] = field(default_factory=asyncio.Queue)
    """The words of the looks, each of them."""


class Poller:
    """Looks at one site's jobs."""

    def __init__(self, client: SiteClient, interval: float | None = None) -> None:
        self.client = client
        self.interval = float(interval or client.site.control.poll_interval)
        self.looks = 0
        self._subscribers: set[Subscription] = set()
        self._users = 0
        self._task: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()

    @contextmanager
    def subscribe(self, key: str | None, cursor: Cursor | None = None) -> Iterator[Subscription]:
        """Wait for a job while the context lasts."""
        one = Subscription(key, dict(cursor or {}))
        self._subscribers.add(one)
        try:
            self._ensure()
            yield one
        finally:
            self._subscribers.discard(one)

    @asynccontextmanager
    async def use(self) -> AsyncIterator[SiteClient]:
        """The poller's client, whose connection stays open meanwhile."""
        self._users += 1
        try:
            yield self.client
        finally:
            self._users -= 1
            if not self._users and not self._running:
                await self.client.close()

    @property
    def _running(self) -> bool:
        return self._task is not None and not self._task.done()

    @property
    def usable(self) -> bool:
        """Whether it is at work in the loop that runs now. Another one begins with the site's file read afresh."""
        return self._loop is asyncio.get_running_loop() and (self._running or self._users > 0)

    def _ensure(self) -> None:
        if self._subscribers and not self._running:
            # with a context of its own: what it logs belongs to no task's log
            self._task = self._loop.create_task(
                self._run(), name=f"poller-{self.client.name}", context=contextvars.Context()
            )
            self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Start the loop again while a task waits, whatever ended it."""
        if task.cancelled():
            return
        if task.exception() is not None:
            log.error("the poller of site %s ended", self.client.name, exc_info=task.exception())
        if self._subscribers and not self._loop.is_closed():
            self._loop.call_later(min(self.interval, SOON), self._ensure)

    async def _run(self) -> None:
        trouble: Trouble | None = None
        failures, pause = 0, GATHER
        try:
            while True:
                await asyncio.sleep(pause)
                if not self._subscribers:
                    return
                begun = time.monotonic()
                try:
                    behind = await self._look()
                except asyncio.CancelledError:
                    raise
                except Exception as error:
                    failures += 1
                    if not isinstance(error, Unreachable | SiteError):
                        log.exception("a look at site %s failed", self.client.name)
                    words = str(error) or type(error).__name__
                    trouble = Trouble(words, trouble.since if trouble else now())
                    for one in list(self._subscribers):
                        one.inbox.put_nowait(trouble)
                    if not self._users:
                        await self.client.close()
                    pause = backoff(self.interval, failures)
                else:
                    trouble, failures = None, 0
                    rest = self.interval - (time.monotonic() - begun)
                    pause = max(min(rest, SOON) if behind else rest, 0.05) * random.uniform(0.95, 1.05)
        finally:
            if not self._users:
                await self.client.close()

    async def _look(self) -> bool:
        """Ask once for all who wait; whether a log has more than fits in one answer."""
        groups: dict[Any, list[Subscription]] = defaultdict(list)
        for one in self._subscribers:
            groups[one.key].append(one)
        sites_only = groups.pop(None, [])
        # two who wait for one job may have read differently far: each look serves the one who waited longest
        chosen = {key: min(several, key=lambda one: one.asked) for key, several in groups.items()}
        wishes = {key: one.cursor for key, one in chosen.items()}
        self.looks += 1
        content = await self.client.arun("poll", stdin=json.dumps({"jobs": wishes}), timeout=TIMEOUT)
        answers = {answer["key"]: answer for answer in content["jobs"]}
        behind = False
        for key, several in groups.items():
            answer = answers.get(key)
            if answer is None:
                raise SiteError(f"the site's answer does not include the job {key}")
            asked_for = wishes[key]
            for one in several:
                if one is chosen[key]:
                    one.asked = time.monotonic()
                if one.cursor == asked_for:
                    one.cursor = dict(answer.get("cursor", one.cursor))
                    mine = answer
                else:
                    mine = {**answer, "log": "", "cursor": one.cursor}
                    behind = True
                one.inbox.put_nowait(mine)
            behind |= len(answer.get("log", "")) > BEHIND
        for one in sites_only:
            one.inbox.put_nowait({})
        return behind


_pollers: dict[str, Poller] = {}
"""Those of this process, by site."""


def poller_of(site: str) -> Poller:
    """The one poller of a site in this process.

    Raises
    ------
    graphufs.errors.UserError
        If there is no such site, or its file is wrong.
    """
    poller = _pollers.get(site)
    if poller is None or not poller.usable:
        poller = _pollers[site] = Poller(SiteClient.load(site))
    return poller


def backoff(interval: float, failures: int) -> float:
    """The pause after some failures in a row: doubling, with a limit, and never quite the same for two."""
    return min(interval * 2.0 ** min(failures - 1, 30), max(LONGEST, interval)) * random.uniform(0.5, 1.0)
