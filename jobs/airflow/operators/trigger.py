"""Waiting for a job, or for a site, in the triggerer.

A trigger does not ask the site itself: the site's poller tells it. It writes what is new into the task's log and ends
with an event when the job is over, lost, waits for a person, or the deadline has passed. How far the log was read is
kept in the task's XCom `log_cursor` (Airflow's task_state_store cannot be reached from a trigger), so that another
triggerer goes on there.

Cancelling follows three rules, each from a fault of Airflow 3.3.2 that was seen:

- Airflow calls `on_kill` when another triggerer has taken the trigger over, too. So nothing is cancelled while the task
  is still deferred.
- Airflow interrupts `on_kill` after about a second. So the work is done by an asyncio task of its own, shielded and
  kept by a strong reference.
- `cleanup` runs at every end, also when a triggerer stops. It cancels nothing.

A fourth fault: where a trigger fires before the scheduler has read that the worker is done with the first half of the
task, it takes that old message for the end of the second half, and fails the task ("finished with state success, but
the task instance's state attribute is running"). So no event comes sooner than `SETTLE` after the beginning; seen up to
six seconds on a busy machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from jobs.airflow import messages
from jobs.airflow.sites.client import Refused, SiteError, Unreachable
from jobs.airflow.sites.poller import BEHIND, Cursor, Subscription, Trouble, Word, poller_of
from jobs.job.messages import progress

CURSOR = "log_cursor"
"""The XCom that keeps how far the log was read."""
MISSING = 5
"""Looks in a row that must say there is no such job, or that its folder cannot be read: shared file systems show new
folders late."""
REST = 200
"""Looks at most for the rest of the log of a job that is over."""
CHECK = 20.0
"""Seconds for Airflow to say what state the task is in."""
CANCEL = 900.0
"""Seconds for which a site that does not answer is asked again to cancel."""
DEADLINE_CANCEL = 120.0
SETTLE = 8.0
"""Seconds after its beginning before which a trigger does not fire."""
_kills: set[asyncio.Task[None]] = set()


class JobTrigger(BaseTrigger):
    """Wait for a job of a site, whose log was read already as far as `cursor` says.

    At the `deadline` [s since the epoch] the job is cancelled and the waiting ends. At the time `attached` [s since the
    epoch] a later try found the job alive; it is handed back with the event.
    """

    def __init__(
        self,
        site: str,
        key: str,
        cursor: Cursor | None = None,
        deadline: float | None = None,
        attached: float | None = None,
    ) -> None:
        super().__init__()
        self.site, self.key = site, key
        self.cursor = dict(cursor or {})
        self.deadline, self.attached = deadline, attached
        self._told: dict[str, Any] = {}
        self._missing = 0
        self._rest = 0

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What Airflow keeps of the trigger."""
        names = ("site", "key", "cursor", "deadline", "attached")
        return "jobs.airflow.operators.trigger.JobTrigger", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Tell the task's log what is new until there is something to decide."""
        began = time.monotonic()
        self.cursor = await self._remembered()
        with poller_of(self.site).subscribe(self.key, self.cursor) as subscription:
            while True:
                word = await _before(self.deadline, subscription)
                if isinstance(word, Trouble):
                    self._tell_trouble(word)
                    continue
                if word is None:
                    event = await self._too_late()
                else:
                    self._tell(word)
                    await self._remember(dict(word.get("cursor", {})))
                    if not self._decided(word):
                        continue
                    event = self._event(word)
                await _settle(began)
                yield TriggerEvent(event)
                return

    def _event(self, answer: dict[str, Any]) -> dict[str, Any]:
        content = {name: value for name, value in answer.items() if name not in ("log", "progress", "cursor")}
        return {**content, "key": self.key, "site": self.site, "deadline": self.deadline, "attached": self.attached}

    def _decided(self, answer: dict[str, Any]) -> bool:
        """Whether nothing more will come by itself, and the log was read to its end."""
        unknown = answer["state"] in ("NONE", "BROKEN")
        self._missing = self._missing + 1 if unknown else 0
        if unknown:
            return self._missing >= MISSING
        over = answer["state"] == "COMPLETED" or (answer["over"] and answer.get("what") not in ("continued", "healed"))
        if over and len(answer.get("log", "")) > BEHIND and self._rest < REST:
            self._rest += 1
            return False
        return over or answer["state"] == "LOST"

    def _tell(self, answer: dict[str, Any]) -> None:
        """Write what changed into the task's log."""
        if self._told.pop("trouble", None):
            self.log.info("Site %s answers again", self.site)
        for line in str(answer.get("log", "")).splitlines():
            self.log.info("%s", line)
        for words in answer.get("odd", ()):
            if self._told.get(words) is None:
                self._told[words] = True
                self.log.warning("%s", words)
        for name, said in (("state", messages.state(answer)), ("progress", progress(answer.get("progress"), most=4))):
            if said and said != self._told.get(name):
                self._told[name] = said
                self.log.info("Job: %s", said)  # without its long key, which the line of its submission has

    def _tell_trouble(self, trouble: Trouble) -> None:
        if self._told.get("trouble") != trouble.since:  # once, not at each vain try
            self._told["trouble"] = trouble.since
            self.log.warning(
                "Site %s has been unreachable since %s: %s. The job is not touched; waiting until the site answers",
                self.site,
                trouble.since,
                trouble.message,
            )

    async def _too_late(self) -> dict[str, Any]:
        """Cancel at the deadline; what became of it."""
        self.log.error("The deadline has passed: cancelling job %s", self.key)
        answer = await self._cancel(DEADLINE_CANCEL)
        if answer is not None and answer["state"] == "COMPLETED":  # it was faster
            return self._event(answer)
        content = answer or {"state": "UNKNOWN", "message": f"site {self.site} did not answer the request to cancel"}
        return self._event({**content, "key": self.key, "late": True, "cancelled": answer is not None})

    # how far the log was read

    def _place(self) -> dict[str, Any] | None:
        ti = self.task_instance
        if ti is None:  # dag.test()
            return None
        return {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id, "map_index": ti.map_index}

    async def _remembered(self) -> Cursor:
        from airflow.sdk.execution_time.xcom import XCom

        place = self._place()
        if place is None:
            return self.cursor
        try:
            known = await asyncio.wait_for(XCom.aget_one(key=CURSOR, **place), CHECK)
        except Exception as error:
            self.log.warning("The position in the log could not be read (%r); lines may be repeated", error)
            return self.cursor
        return {str(name): int(offset) for name, offset in known.items()} if isinstance(known, dict) else self.cursor

    async def _remember(self, cursor: Cursor) -> None:
        from airflow.sdk.execution_time.xcom import XCom

        place = self._place()
        if not cursor or cursor == self.cursor:
            return
        self.cursor = cursor
        if place is None:
            return
        try:
            await asyncio.wait_for(XCom.aset(key=CURSOR, value=cursor, **place), CHECK)
        except Exception as error:
            if not self._told.get("cursor"):
                self._told["cursor"] = True
                self.log.warning(
                    "The position in the log could not be saved (%r); another triggerer would repeat lines", error
                )

    # cancelling

    async def on_kill(self) -> None:
        """Cancel the job, unless the task goes on elsewhere. Airflow's patience ends before this does."""
        kill = asyncio.get_running_loop().create_task(self._kill(), name=f"kill-{self.key}")
        _kills.add(kill)
        kill.add_done_callback(_kills.discard)
        await asyncio.shield(kill)

    async def _kill(self) -> None:
        state = await self._task_state()
        if state == "deferred":
            self.log.warning("Job %s is not cancelled: its task waits on, in another triggerer", self.key)
            return
        self.log.info("The task is %s: cancelling job %s", state or "in a state that Airflow did not return", self.key)
        if await self._cancel(CANCEL) is None:
            self.log.error("Job %s could not be cancelled; cancel it by hand: graphufs-jobs cancel", self.key)

    async def _task_state(self) -> str | None:
        """The task's state, or None if Airflow does not say in time: then a person's wish to cancel is believed."""
        from airflow.sdk.execution_time import task_runner
        from airflow.sdk.execution_time.comms import GetTaskStates

        ti = self.task_instance
        if ti is None:
            return None
        question = GetTaskStates(dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index)
        try:
            answer = await asyncio.wait_for(task_runner.SUPERVISOR_COMMS.asend(question), CHECK)
            states = answer.task_states.get(ti.run_id, {})
        except Exception as error:
            self.log.warning("Airflow did not return the task's state: %r", error)
            return None
        mapped = states.get(f"{ti.task_id}_{ti.map_index}") if ti.map_index >= 0 else None
        return mapped or states.get(ti.task_id)

    async def _cancel(self, patience: float) -> dict[str, Any] | None:
        """Ask the site until it has answered; its answer, or None."""
        until, pause = time.monotonic() + patience, 1.0
        async with poller_of(self.site).use() as client:
            while True:
                try:
                    content = await client.arun("cancel", self.key, timeout=min(patience, 120.0))
                except Refused as error:
                    self.log.warning("Job %s was not cancelled: %s", self.key, error)
                    return None
                except (Unreachable, SiteError) as error:
                    self.log.warning("Job %s is not cancelled yet: %s", self.key, error)
                    if time.monotonic() + pause > until:
                        return None
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, 60.0)
                else:
                    answer: dict[str, Any] = content["jobs"][0]
                    self.log.info("Cancelled: job %s is %s", self.key, messages.state(answer))
                    return answer


class SiteTrigger(BaseTrigger):
    """Wait until a site can be asked, or for the deadline in seconds since the epoch."""

    def __init__(self, site: str, deadline: float | None = None) -> None:
        super().__init__()
        self.site, self.deadline = site, deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What Airflow keeps of the trigger."""
        return "jobs.airflow.operators.trigger.SiteTrigger", {"site": self.site, "deadline": self.deadline}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """End when the site answers, or at the deadline."""
        since, began = "", time.monotonic()
        with poller_of(self.site).subscribe(None) as subscription:
            while True:
                word = await _before(self.deadline, subscription)
                if isinstance(word, Trouble):
                    if since != word.since:
                        since = word.since
                        self.log.warning(
                            "Site %s has been unreachable since %s: %s", self.site, word.since, word.message
                        )
                    continue
                await _settle(began)
                yield TriggerEvent({"site": self.site, "deadline": self.deadline, "late": word is None})
                return


async def _before(deadline: float | None, subscription: Subscription) -> Word | None:
    """The next word, or None at the deadline."""
    left = None if deadline is None else max(deadline - time.time(), 0.0)
    try:
        return await asyncio.wait_for(subscription.inbox.get(), left)
    except TimeoutError:
        return None


async def _settle(began: float) -> None:
    """Wait until the scheduler knows of the task's deferral."""
    await asyncio.sleep(began + SETTLE - time.monotonic())
