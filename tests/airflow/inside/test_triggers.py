"""The triggers: what they tell the log, when they end, and when they cancel."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from tests.airflow.inside import DONE, FAILED, RUNNING, first_event, heard, site

UNKNOWN = ({"state": "NONE"}, {"state": "BROKEN", "over": False, "what": "nothing", "message": "result.json is empty"})
"""What a site says where it has no such job, or cannot read its folder."""


@contextmanager
def airflow_says(state=None, xcoms=None, delay=0.0):
    """A supervisor that knows the task's state and XComs."""
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import XComResult

    xcoms = {} if xcoms is None else xcoms

    async def asend(message):
        await asyncio.sleep(delay)
        kind = type(message).__name__
        if kind == "GetTaskStates":
            return SimpleNamespace(task_states={"r": {"t": state}})
        if kind == "SetXCom":
            xcoms[message.key] = message.value
            return None
        assert kind == "GetXCom", kind
        return XComResult(key=message.key, value=xcoms.get(message.key))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task_runner, "SUPERVISOR_COMMS", SimpleNamespace(asend=asend), raising=False)
        yield xcoms


def of_a_task(trigger):
    trigger._task_instance = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1)
    return trigger


def test_triggers_survive_being_written_down():
    from airflow._shared.module_loading import import_string
    from airflow.serialization.decoders import smart_decode_trigger_kwargs
    from airflow.serialization.encoders import encode_trigger

    from jobs.airflow.operators.trigger import JobTrigger, SiteTrigger

    for trigger in (JobTrigger("s", "k", {"1/log": 5}, 1.5, 2.5), JobTrigger("s", "k"), SiteTrigger("s", 3.5)):
        path, given = trigger.serialize()
        kept = json.loads(json.dumps(encode_trigger(trigger)["kwargs"]))
        again = import_string(path)(**{name: smart_decode_trigger_kwargs(value) for name, value in kept.items()})
        assert again.serialize() == (path, given) and type(again) is type(trigger)


def test_a_trigger_tells_the_log_once_and_keeps_its_place():
    from jobs.airflow.operators.trigger import JobTrigger

    event = {"label": "train", "done": 5, "total": 10, "metrics": {"loss": 2.0}}
    running = {**RUNNING, "what": "nothing", "progress": event, "log": "one\ntwo\n", "cursor": {"1/log": 8}}
    answers = (running, {**running, "log": ""}, {**DONE, "what": "nothing", "log": "three\n", "cursor": {"1/log": 14}})
    with site(*answers) as asked, heard() as lines, airflow_says(xcoms={"log_cursor": {"1/log": 3}}) as xcoms:
        payload = first_event(of_a_task(JobTrigger("quick", "k", None, 2e9)))
    assert json.loads(asked[0][1]) == {"jobs": {"k": {"1/log": 3}}}, "from where the last triggerer was"
    assert xcoms["log_cursor"] == {"1/log": 14}
    assert lines == [
        "one", "two", "Job: RUNNING, id 7", "Job: train 5/10 (50 %)  loss 2", "three", "Job: COMPLETED, id 7",
    ]  # fmt: skip
    assert payload["state"] == "COMPLETED" and payload["result"]["result"]["loss"] == 1.5
    assert payload["deadline"] == 2e9 and "log" not in payload


def test_a_trigger_ends_only_when_there_is_something_to_decide():
    from jobs.airflow.operators.trigger import JobTrigger

    going_on = (
        {**FAILED, "what": "continued"},
        {**RUNNING, "state": "UNKNOWN", "what": "nothing"},
        {**RUNNING, "state": "SUBMITTING"},
    )
    for last in (FAILED, {**FAILED, "what": "waits for a person"}, {**RUNNING, "state": "LOST"}, *UNKNOWN):
        with site(*going_on, last) as asked, heard():
            assert first_event(JobTrigger("quick", "k"))["state"] == last["state"]
        assert len(asked) == len(going_on) + (5 if last in UNKNOWN else 1)


def test_a_folder_that_cannot_be_read_for_a_while_ends_nothing_and_for_long_fails_the_task():
    from airflow.sdk.exceptions import AirflowFailException

    from jobs.airflow.operators.trigger import JobTrigger
    from tests.airflow.inside import context, operator

    _, broken = UNKNOWN
    with site(broken, broken, {**RUNNING, "odd": ["progress.json is empty"]}, broken, DONE), heard() as lines:
        assert first_event(JobTrigger("quick", "k"))["state"] == "COMPLETED"
    assert "progress.json is empty" in lines
    with site(broken), heard():
        event = first_event(JobTrigger("quick", "k"))
        with pytest.raises(AirflowFailException, match="BROKEN: result.json is empty") as failed:
            operator(site="quick").execute_complete(context(), event)
    assert "doctor --set-aside" in str(failed.value)


def test_the_rest_of_a_long_log_is_read_before_the_end():
    from jobs.airflow.operators.trigger import JobTrigger

    long = {**DONE, "what": "nothing", "log": "x" * 60000 + "\n"}
    with site(long, long, {**long, "log": "end\n"}) as asked, heard() as lines:
        first_event(JobTrigger("quick", "k"))
    assert len(asked) == 3 and "end" in lines


def test_a_site_out_of_reach_is_told_once_and_waited_for():
    from jobs.airflow.operators.trigger import JobTrigger, SiteTrigger
    from jobs.airflow.sites.client import Unreachable

    away = [Unreachable("no route")] * 3
    with site(*away, RUNNING, DONE), heard() as lines:
        assert first_event(JobTrigger("quick", "k"))["state"] == "COMPLETED"
    assert len([line for line in lines if "no route" in line]) == 1 and "Site quick answers again" in lines
    with site(*away, RUNNING), heard() as lines:
        assert first_event(SiteTrigger("quick")) == {"site": "quick", "deadline": None, "late": False}
    assert len([line for line in lines if "no route" in line]) == 1


def test_the_deadline_cancels_once_and_ends_the_waiting():
    from jobs.airflow.operators.trigger import JobTrigger, SiteTrigger

    with site({**FAILED, "state": "CANCELLED"}) as asked, heard():
        payload = first_event(JobTrigger("quick", "k", None, time.time() - 1))
        assert payload["late"] and payload["cancelled"] and payload["state"] == "CANCELLED"
        assert first_event(SiteTrigger("quick", time.time() - 1))["late"]
    assert [arguments[0] for arguments, _ in asked].count("cancel") == 1
    with site(DONE), heard():
        payload = first_event(JobTrigger("quick", "k", None, time.time() - 1))
        assert payload["state"] == "COMPLETED" and "late" not in payload, "it was faster"


def test_no_event_comes_before_the_scheduler_knows_of_the_deferral(monkeypatch):
    from jobs.airflow.operators import trigger as module

    monkeypatch.setattr(module, "SETTLE", 1.5)
    for trigger in (
        module.JobTrigger("quick", "k"),
        module.JobTrigger("quick", "k", None, time.time() - 1),
        module.SiteTrigger("quick"),
    ):
        with site({**DONE, "what": "nothing"}), heard():
            began = time.monotonic()
            first_event(trigger)
            assert 1.5 <= time.monotonic() - began < 10


def test_a_kill_cancels_but_not_while_the_task_waits_on_elsewhere():
    from jobs.airflow.operators.trigger import JobTrigger

    for state, cancels in (("deferred", 0), ("failed", 1), ("scheduled", 1), (None, 1)):
        with site({**FAILED, "state": "CANCELLED"}) as asked, heard(), airflow_says(state):
            asyncio.run(of_a_task(JobTrigger("quick", "k")).on_kill())
        assert [arguments for arguments, _ in asked] == [("cancel", "k")] * cancels, state


def test_a_kill_that_airflow_interrupts_goes_on():
    from jobs.airflow.operators import trigger as module

    async def main():
        trigger = of_a_task(module.JobTrigger("quick", "k"))
        outer = asyncio.create_task(trigger.on_kill())
        await asyncio.sleep(0.2)
        outer.cancel()
        await asyncio.sleep(0)
        del trigger
        assert outer.cancelled() or outer.cancelling()
        while module._kills:
            await asyncio.sleep(0.05)

    with site({**FAILED, "state": "CANCELLED"}) as asked, heard(), airflow_says("failed", delay=1.0):
        asyncio.run(main())
    assert [arguments for arguments, _ in asked] == [("cancel", "k")]


def test_a_silent_airflow_does_not_keep_a_kill_for_ever(monkeypatch):
    from jobs.airflow.operators import trigger as module

    monkeypatch.setattr(module, "CHECK", 0.2)
    with site({**FAILED, "state": "CANCELLED"}) as asked, heard(), airflow_says("deferred", delay=60):
        asyncio.run(of_a_task(module.JobTrigger("quick", "k")).on_kill())
    assert asked, "an unknown state is a person's wish"


def test_cleanup_and_the_end_of_a_triggerer_cancel_nothing():
    from jobs.airflow.operators.trigger import JobTrigger

    async def main():
        trigger = JobTrigger("quick", "k")
        running = asyncio.create_task(anext(trigger.run()))
        await asyncio.sleep(1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await trigger.cleanup()

    with site({**RUNNING, "what": "nothing"}) as asked, heard():
        asyncio.run(main())
    assert asked and all(arguments == ("poll",) for arguments, _ in asked)
