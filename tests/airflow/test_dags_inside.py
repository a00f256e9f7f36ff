"""What is checked inside Airflow's environment, which has no pytest: run by `test_dags.py` as a script, all at once.

Each `check_...` is one test there. The last ones share a small Airflow on SQLite and real jobs of the local site.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import time
import traceback
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).parents[2]
RUNNING = {
    "what": "attached",
    "state": "RUNNING",
    "over": False,
    "id": "7",
    "attempt": 1,
    "segments": 1,
    "step": "train",
}
DONE = {**RUNNING, "state": "COMPLETED", "over": True, "result": {"result": {"status": "completed", "loss": 1.5}}}
FAILED = {
    **RUNNING, "what": "stopped", "state": "FAILED", "over": True, "ending": "error", "message": "ValueError: no",
    "folder": "/r/jobs/k",
}  # fmt: skip


@contextmanager
def raises(error, words=""):
    class Caught:
        value = None

    try:
        yield Caught
    except error as caught:
        Caught.value = caught
        assert words in str(caught), f"{words!r} is not in {caught}"
    else:
        raise AssertionError(f"no {error.__name__}")


@contextmanager
def replaced(place, **values):
    before = {name: getattr(place, name, None) for name in values}
    for name, value in values.items():
        setattr(place, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(place, name, value)


class Store(dict):
    """A task's state store."""

    def set(self, key, value):
        self[key] = value


def context(try_number=1, run_id="manual__1", max_tries=2, **more):
    pushed = {}
    ti = SimpleNamespace(
        dag_id="d", run_id=run_id, task_id="t", map_index=-1, try_number=try_number, max_tries=max_tries,
        xcom_push=lambda key, value: pushed.__setitem__(key, value),
    )  # fmt: skip
    return {"ti": ti, "task_state_store": Store(), "pushed": pushed, "outlet_events": {}, **more}


@contextmanager
def site(*answers):
    """A site whose job command answers in turn (the last one for ever) and remembers what it was asked."""
    from jobs.airflow.site_client import SiteClient

    asked, left = [], list(answers)

    def run(self, *arguments, stdin="", timeout=0.0):
        asked.append((arguments, stdin))
        if arguments[0] == "status":
            return {"protocol": 1, "histories": [{"segments": []}], "jobs": []}
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        key = next((word.removeprefix("--key=") for word in arguments if word.startswith("--key=")), arguments[1])
        return {"protocol": 1, "jobs": [{"key": key, **answer}]}

    async def arun(self, *arguments, stdin="", timeout=0.0):
        if arguments[0] != "poll":
            return run(self, *arguments, stdin=stdin)
        asked.append((arguments, stdin))
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return {"protocol": 1, "jobs": [{"key": key, **answer} for key in json.loads(stdin)["jobs"]]}

    with replaced(SiteClient, run=run, arun=arun):
        yield asked


def operator(**more):
    from jobs.airflow.operator import JobOperator

    return JobOperator(**{"task_id": "t", "step": "train", "experiment": "tiny", "site": "quick", **more})


def deferral(task, given):
    from airflow.sdk.exceptions import TaskDeferred

    with raises(TaskDeferred) as caught:
        task.execute(given)
    return caught.value


# the operator


def check_it_submits_once_and_lets_go_of_the_worker():
    given = context()
    with site({**RUNNING, "what": "submitted"}) as asked:
        task = operator(overrides=["training.batch_size=3"], job_resources=["gpus=2"], needs=["other"])
        left = deferral(task, given)
    ((arguments, stdin),) = asked
    assert arguments[:2] == ("submit", "train") and {"-", "--resource=gpus=2", "--needs=other"} <= set(arguments)
    assert {"--label=instance=me", "--label=dag=d", "--label=run=manual__1", "--label=map=-1"} <= set(arguments)
    assert "batch_size: 3" in stdin and "name: tiny" in stdin
    assert given["pushed"]["job"].startswith("af-d.t.manual__1-") and given["pushed"]["job_id"] == "7"
    assert left.method_name == "execute_complete" and left.trigger.attached is None and left.trigger.deadline is None


def check_another_try_is_about_the_same_job():
    with site({**RUNNING, "what": "submitted"}, RUNNING):
        first, second = context(1), context(2)
        deferral(operator(), first)
        left = deferral(operator(), second)
    assert first["pushed"]["job"] == second["pushed"]["job"] and left.trigger.attached


def check_a_job_that_failed_is_done_anew_for_a_person_and_not_for_a_retry_of_airflows():
    from airflow.sdk.exceptions import AirflowFailException

    from jobs.airflow.site_client import Refused, SiteClient

    def tries_again(job, **ti):
        store, again = Store(), context(2, **ti)
        with site({**RUNNING, "what": "submitted"}):
            deferral(operator(), context(task_state_store=store))
        said = []

        def run(self, *arguments, stdin="", timeout=0.0):
            said.append(arguments[0])
            if arguments[0] == "status" and isinstance(job, Exception):
                raise job
            what = {"key": "k", **job} if arguments[0] == "status" else {**RUNNING, "key": "k", "what": "submitted"}
            return {"protocol": 1, "jobs": [what], "histories": [{"segments": []}]}

        with replaced(SiteClient, run=run):
            try:
                deferral(operator(), {**again, "task_state_store": store})
            except AirflowFailException as error:
                said.append(str(error).splitlines()[0])
        return said

    assert tries_again(FAILED) == ["status", "status", "train FAILED, error: ValueError: no"]
    assert tries_again(FAILED, max_tries=4) == ["submit"], "cleared by a person"
    for job in (RUNNING, DONE, {**FAILED, "state": "CANCELLED"}, Refused("there is no job k")):
        assert tries_again(job) == ["status", "submit"], job


def check_a_done_job_needs_no_waiting():
    with site({**DONE, "what": "completed already"}):
        result = operator().execute(context())
    assert result["loss"] == 1.5 and result["job"].startswith("af-") and result["site"] == "quick"


def check_the_result_goes_with_the_asset():
    from airflow.sdk import Asset

    asset = Asset("made")
    event = SimpleNamespace(extra=None)
    with site(DONE):
        task = operator(outlets=[asset])
        task.execute_complete(context(outlet_events={asset: event}), {**DONE, "key": "k"})
    assert event.extra["loss"] == 1.5 and event.extra["step"] == "train"


def check_an_end_that_a_retry_cannot_help_fails_at_once_with_its_reason_first():
    from airflow.sdk.exceptions import AirflowFailException

    with site(RUNNING) as asked:
        for answer in (
            FAILED,
            {**FAILED, "state": "LOST"},
            {**FAILED, "state": "NONE"},
            {**FAILED, "state": "REFUSED"},
        ):
            with raises(AirflowFailException, "--site debug") as caught:
                operator().execute_complete(context(), {**answer, "key": "k", "attached": None})
            assert "ValueError: no" in str(caught.value).splitlines()[0]
    assert all(arguments[0] == "status" for arguments, _ in asked), "nothing is submitted again"


def check_a_site_out_of_reach_pauses_the_task_and_it_goes_on():
    from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

    from jobs.airflow.site_client import Unreachable

    with site(Unreachable("no route"), RUNNING):
        task = operator(deadline=timedelta(hours=1))
        left = deferral(task, context())
        assert left.method_name == "execute_again" and left.trigger.serialize()[1]["site"] == "quick"
        event = {"site": "quick", "deadline": left.trigger.deadline, "late": False}
        with raises(TaskDeferred) as caught:
            task.execute_again(context(), event)
        assert caught.value.trigger.deadline == left.trigger.deadline, "the deadline is absolute"
        with raises(AirflowFailException, "could not be asked until the deadline"):
            task.execute_again(context(), {**event, "late": True})


def check_what_is_wrong_is_said_and_not_tried_again():
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    from jobs.airflow.site_client import Refused, SiteError

    with site(RUNNING) as asked:
        for task, words in (
            (operator(overrides=["training.batch_sise=3"]), "did you mean training.batch_size"),
            (operator(experiment="no-such"), "there is no experiment"),
            (operator(step="--help"), "is no step"),
            (operator(needs=["../x"]), "is no job key"),
            (operator(key="-x"), "is no job key"),
            (operator(site="debug"), "debugger"),
            (operator(site="nowhere"), "there is no site"),
        ):
            with raises(AirflowFailException, words):
                task.execute(context())
        assert not asked
    with site(Refused("the key belongs to other work")), raises(AirflowFailException, "belongs to other work"):
        operator().execute(context())
    with site(SiteError("command not found")), raises(AirflowException, "command not found") as caught:
        operator().execute(context())
    assert not isinstance(caught.value, AirflowFailException), "that may be tried again"


def check_force_counts_once():
    given = context()
    with site({**RUNNING, "what": "submitted"}) as asked:
        deferral(operator(force=True), given)
        deferral(operator(force="True"), given)
        deferral(operator(force="False"), context())
    assert ["--force" in arguments for arguments, _ in asked] == [True, False, False]


def check_a_late_cancelling_of_an_earlier_try_is_healed_once():
    from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

    cancelled = {**FAILED, "state": "CANCELLED", "ending": "cancelled", "key": "k"}
    with site({**RUNNING, "what": "submitted"}):
        with raises(TaskDeferred) as caught:
            operator().execute_complete(context(2), {**cancelled, "attached": time.time() - 5})
        assert caught.value.trigger.attached is None
        for attached in (None, time.time() - 3600):
            with raises(AirflowFailException, "CANCELLED"):
                operator().execute_complete(context(2), {**cancelled, "attached": attached})


def check_on_a_worker_a_kill_cancels():
    from jobs.airflow.site_client import Unreachable

    with site({**RUNNING, "what": "submitted"}, Unreachable("busy"), FAILED) as asked:
        task = operator()
        task.on_kill()
        assert not asked, "nothing was submitted"
        deferral(task, context())
        task.on_kill()
    assert [arguments[0] for arguments, _ in asked] == ["submit", "cancel", "cancel"]


def check_a_deadline_that_has_come_fails_the_task():
    from airflow.sdk.exceptions import AirflowFailException

    with raises(AirflowFailException, "by its deadline"):
        operator(deadline=timedelta(hours=1)).execute_complete(
            context(), {**FAILED, "key": "k", "late": True, "cancelled": True}
        )
    with raises(AirflowFailException, "NOT cancelled: away"):
        event = {"state": "UNKNOWN", "message": "away", "key": "k", "late": True, "cancelled": False}
        operator(deadline=timedelta(hours=1)).execute_complete(context(), event)


def check_the_pool_is_the_sites():
    assert operator().pool == "quick-pool"
    assert operator(site="{{ params.site }}").pool == "default_pool" and operator(pool="mine").pool == "mine"


# the triggers


def first_event(trigger, seconds=30.0):
    async def main():
        return await asyncio.wait_for(anext(trigger.run()), seconds)

    return asyncio.run(main()).payload


class Log:
    def __init__(self):
        self.lines = []

    def info(self, words, *values, **_):
        self.lines.append(words % values)

    warning = error = info


@contextmanager
def heard():
    from jobs.airflow.trigger import JobTrigger, SiteTrigger

    log = Log()
    JobTrigger.log, SiteTrigger.log = log, log
    try:
        yield log.lines
    finally:
        del JobTrigger.log, SiteTrigger.log


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

    before = getattr(task_runner, "SUPERVISOR_COMMS", None)
    task_runner.SUPERVISOR_COMMS = SimpleNamespace(asend=asend)
    try:
        yield xcoms
    finally:
        task_runner.SUPERVISOR_COMMS = before


def of_a_task(trigger):
    trigger._task_instance = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1)
    return trigger


def check_triggers_survive_being_written_down():
    from airflow._shared.module_loading import import_string
    from airflow.serialization.decoders import smart_decode_trigger_kwargs
    from airflow.serialization.encoders import encode_trigger

    from jobs.airflow.trigger import JobTrigger, SiteTrigger

    for trigger in (JobTrigger("s", "k", {"1/log": 5}, 1.5, 2.5), JobTrigger("s", "k"), SiteTrigger("s", 3.5)):
        path, given = trigger.serialize()
        kept = json.loads(json.dumps(encode_trigger(trigger)["kwargs"]))
        again = import_string(path)(**{name: smart_decode_trigger_kwargs(value) for name, value in kept.items()})
        assert again.serialize() == (path, given) and type(again) is type(trigger)


def check_a_trigger_tells_the_log_once_and_keeps_its_place():
    from jobs.airflow.trigger import JobTrigger

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


def check_a_trigger_ends_only_when_there_is_something_to_decide():
    from jobs.airflow.trigger import JobTrigger

    going_on = (
        {**FAILED, "what": "continued"},
        {**RUNNING, "state": "UNKNOWN", "what": "nothing"},
        {**RUNNING, "state": "SUBMITTING"},
    )
    for last in (FAILED, {**FAILED, "what": "waits for a person"}, {**RUNNING, "state": "LOST"}, {"state": "NONE"}):
        with site(*going_on, last) as asked, heard():
            assert first_event(JobTrigger("quick", "k"))["state"] == last["state"]
        assert len(asked) == len(going_on) + (5 if last["state"] == "NONE" else 1)


def check_the_rest_of_a_long_log_is_read_before_the_end():
    from jobs.airflow.trigger import JobTrigger

    long = {**DONE, "what": "nothing", "log": "x" * 60000 + "\n"}
    with site(long, long, {**long, "log": "end\n"}) as asked, heard() as lines:
        first_event(JobTrigger("quick", "k"))
    assert len(asked) == 3 and "end" in lines


def check_a_site_out_of_reach_is_told_once_and_waited_for():
    from jobs.airflow.site_client import Unreachable
    from jobs.airflow.trigger import JobTrigger, SiteTrigger

    away = [Unreachable("no route")] * 3
    with site(*away, RUNNING, DONE), heard() as lines:
        assert first_event(JobTrigger("quick", "k"))["state"] == "COMPLETED"
    assert len([line for line in lines if "no route" in line]) == 1 and "Site quick answers again" in lines
    with site(*away, RUNNING), heard() as lines:
        assert first_event(SiteTrigger("quick")) == {"site": "quick", "deadline": None, "late": False}
    assert len([line for line in lines if "no route" in line]) == 1


def check_the_deadline_cancels_once_and_ends_the_waiting():
    from jobs.airflow.trigger import JobTrigger, SiteTrigger

    with site({**FAILED, "state": "CANCELLED"}) as asked, heard():
        payload = first_event(JobTrigger("quick", "k", None, time.time() - 1))
        assert payload["late"] and payload["cancelled"] and payload["state"] == "CANCELLED"
        assert first_event(SiteTrigger("quick", time.time() - 1))["late"]
    assert [arguments[0] for arguments, _ in asked].count("cancel") == 1
    with site(DONE), heard():
        payload = first_event(JobTrigger("quick", "k", None, time.time() - 1))
        assert payload["state"] == "COMPLETED" and "late" not in payload, "it was faster"


def check_a_kill_cancels_but_not_while_the_task_waits_on_elsewhere():
    from jobs.airflow.trigger import JobTrigger

    for state, cancels in (("deferred", 0), ("failed", 1), ("scheduled", 1), (None, 1)):
        with site({**FAILED, "state": "CANCELLED"}) as asked, heard(), airflow_says(state):
            asyncio.run(of_a_task(JobTrigger("quick", "k")).on_kill())
        assert [arguments for arguments, _ in asked] == [("cancel", "k")] * cancels, state


def check_a_kill_that_airflow_interrupts_goes_on():
    from jobs.airflow import trigger as module

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


def check_a_silent_airflow_does_not_keep_a_kill_for_ever():
    from jobs.airflow import trigger as module

    with site({**FAILED, "state": "CANCELLED"}) as asked, heard(), airflow_says("deferred", delay=60):
        with replaced(module, CHECK=0.2):
            asyncio.run(of_a_task(module.JobTrigger("quick", "k")).on_kill())
    assert asked, "an unknown state is a person's wish"


def check_cleanup_and_the_end_of_a_triggerer_cancel_nothing():
    from jobs.airflow.trigger import JobTrigger

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


# over SSH, to a server in this process: a real handshake with a real shell behind it


@contextmanager
def login_node(folder: Path, **wrong):
    """A site `far` behind a server that runs what it is told in a shell; what it saw."""
    import threading

    import asyncssh

    from jobs.airflow.site_client import SiteClient
    from jobs.site import Site

    folder = folder.absolute()
    folder.mkdir(exist_ok=True)
    keys = {name: asyncssh.generate_private_key("ssh-ed25519") for name in ("host", "client", "other")}
    for name, key in keys.items():
        key.write_private_key(folder / name)
    (folder / "known").write_text(keys["client"].export_public_key().decode())
    command = folder / "graphufs-jobs"
    command.write_text(
        f"#!{sys.executable}\nimport json, sys\ntext = sys.stdin.read()\nprint('Welcome')\n"
        "keys = json.loads(text)['jobs'] if 'poll' in sys.argv else []\n"
        "jobs = [{'key': key, 'state': 'RUNNING', 'over': False} for key in keys]\n"
        "print(json.dumps({'protocol': 1, 'graphufs': '0.1.0', 'argv': sys.argv[1:], 'stdin': text, 'jobs': jobs}))\n"
    )
    command.chmod(0o755)
    seen = SimpleNamespace(connections=0, commands=[], open=[], port=0)

    class Server(asyncssh.SSHServer):
        def connection_made(self, conn):
            seen.connections += 1
            seen.open.append(conn)

    async def handle(process):
        seen.commands.append(process.command)
        shell = await asyncio.create_subprocess_exec(
            "bash", "-c", process.command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=folder
        )
        text = await process.stdin.read()
        out, _ = await shell.communicate(text.encode())
        process.stdout.write(out.decode())
        process.exit(shell.returncode)

    loop = asyncio.new_event_loop()

    async def listen(port=0):
        seen.server = await asyncssh.listen(
            "127.0.0.1", port, server_factory=Server, server_host_keys=[keys["host"]],
            authorized_client_keys=str(folder / "known"), process_factory=handle,
        )  # fmt: skip
        seen.port = seen.server.get_port()

    async def stop():
        seen.server.close()
        for connection in seen.open:
            connection.abort()
        seen.open.clear()

    seen.start = lambda: asyncio.run_coroutine_threadsafe(listen(seen.port), loop).result(10)
    seen.stop = lambda: asyncio.run_coroutine_threadsafe(stop(), loop).result(10)
    threading.Thread(target=loop.run_forever, daemon=True).start()
    seen.start()
    host_key = keys[wrong.get("host", "host")].export_public_key().decode().strip()
    extra = {"key_file": str(folder / wrong.get("key", "client")), "host_key": host_key, "look_for_keys": False}
    content = {"conn_type": "ssh", "host": "127.0.0.1", "port": seen.port, "login": "someone", "extra": extra}
    os.environ["AIRFLOW_CONN_FAR_LOGIN"] = json.dumps(content)
    control = {"connection": "far_login", "command": str(command), "poll_interval": 1}
    seen.client = lambda: SiteClient("far", Site(executor="slurm", control=control))
    try:
        yield seen
    finally:
        loop.call_soon_threadsafe(loop.stop)


def check_both_halves_speak_over_ssh_and_hostile_words_start_nothing():
    with login_node(Path("login")) as seen:
        value = "--resource=$(touch PWNED); `touch PWNED` '\"\n&& touch PWNED"
        asked = ["submit", value]

        async def main():
            client = seen.client()
            try:
                return [await client.arun(*asked, stdin="given ü") for _ in range(3)]
            finally:
                await client.close()

        answers = [seen.client().run(*asked, stdin="given ü"), *asyncio.run(main())]
    assert all(one["argv"] == [*asked, "--site=far", "--json"] and one["stdin"] == "given ü" for one in answers), (
        answers
    )
    assert seen.connections == 2, "one for the blocking call, one for all the others"
    assert not Path("login/PWNED").exists()


def check_twenty_wait_over_one_connection_and_survive_its_end():
    from jobs.airflow.poller import News, Poller, Trouble

    async def main(seen):
        poller = Poller(seen.client(), 0.5)

        async def wait(number):
            with poller.subscribe(f"k{number}") as one:
                heard = [await one.next() for _ in range(2)]
                while not isinstance(heard[-1], Trouble):
                    heard.append(await one.next())
                while not isinstance(heard[-1], News):
                    heard.append(await one.next())
                return heard

        async def disturb():
            while poller.looks < 3:
                await asyncio.sleep(0.1)
            before = (seen.connections, len(seen.commands), poller.looks)
            await asyncio.to_thread(seen.stop)
            await asyncio.sleep(1.5)
            await asyncio.to_thread(seen.start)
            return before

        *heard, before = await asyncio.wait_for(asyncio.gather(*(wait(number) for number in range(20)), disturb()), 60)
        await poller.client.close()
        return heard, before

    with login_node(Path("login")) as seen:
        heard, (connections, commands, looks) = asyncio.run(main(seen))
    assert connections == 1 and 2 <= commands <= looks <= commands + 1, (connections, commands, looks)
    assert all(words[0].answer["state"] == words[-1].answer["state"] == "RUNNING" for words in heard)


def check_another_host_key_a_refused_login_and_a_missing_connection_are_told_apart():
    from jobs.airflow.site_client import SiteError, Unreachable

    def both(client, error, words):
        with raises(error, words) as caught:
            client.run("list", timeout=20)
        assert type(caught.value) is error
        with raises(error, words) as caught:
            asyncio.run(client.arun("list", timeout=20))
        assert type(caught.value) is error

    with login_node(Path("login"), host="other") as seen:
        both(seen.client(), SiteError, "another key")
        assert not seen.commands
    with login_node(Path("login"), key="other") as seen:
        both(seen.client(), Unreachable, "")
        client = seen.client()
        del os.environ["AIRFLOW_CONN_FAR_LOGIN"]
        both(client, SiteError, "connection of site far cannot be used")


# messages


@contextmanager
def chat(code=200):
    """A web server that keeps what is posted to it: the connection `chat`, whose password is part of its address."""
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    posted = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posted.append((self.path, json.loads(body)))
            self.send_response(code)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"http://127.0.0.1:{server.server_port}/hooks"
    os.environ["AIRFLOW_CONN_CHAT"] = json.dumps({"conn_type": "http", "host": host, "password": "T0/HIDDEN"})
    os.environ["GRAPHUFS_NOTIFY_CONNECTION"] = "chat"
    try:
        yield posted
    finally:
        os.environ.pop("AIRFLOW_CONN_CHAT", None)
        os.environ.pop("GRAPHUFS_NOTIFY_CONNECTION", None)
        server.shutdown()
        server.server_close()


def of_a_failure(error):
    place = SimpleNamespace(dag_id="training", run_id="r1", task_id="train", log_url="http://airflow/log?try_number=1")
    return {"dag_run": SimpleNamespace(dag_id="training", run_id="r1"), "ti": place, "exception": error}


def tell(given, *arguments, **more):
    """Send a message; what went into the log."""
    from jobs.airflow.notifier import Notifier

    log = Log()
    Notifier.log = log
    try:
        Notifier(*arguments, **more)(given)
    finally:
        del Notifier.log
    return "\n".join(log.lines)


def check_a_failure_is_told_with_its_reason_its_log_and_the_command_that_shows_it():
    from jobs.airflow import words

    failed = {**FAILED, "key": "k", "message": "ValueError: <!channel> & no\nmore"}
    with chat() as posted:
        tell(of_a_failure(RuntimeError(words.failure(failed))))
    ((path, content),) = posted
    assert path == "/hooks/T0/HIDDEN"
    assert {name: content[name] for name in ("dag", "run", "task", "state", "log")} == {
        "dag": "training", "run": "r1", "task": "train", "state": "failed", "log": "http://airflow/log?try_number=1",
    }  # fmt: skip
    assert content["reason"] == "train FAILED, error: ValueError: <!channel> & no"
    assert content["reproduce"] == "graphufs-jobs submit train /r/jobs/k/experiment.yaml --site debug --root /r"
    assert "&lt;!channel&gt; &amp; no" in content["text"] and "<" not in content["text"]
    assert all(content[name] in content["text"] for name in ("dag", "run", "task", "log", "reproduce"))


def check_a_message_that_cannot_be_sent_changes_nothing_and_its_address_stays_hidden():
    given = of_a_failure(RuntimeError("no"))
    with chat(code=500) as posted:
        said = tell(given)
    assert posted and "the address answers 500" in said and "HIDDEN" not in said
    with chat() as posted:
        os.environ["AIRFLOW_CONN_CHAT"] = json.dumps({"conn_type": "http", "host": "127.0.0.1:1", "password": "HIDDEN"})
        said = tell(given)
    assert not posted and "cannot be reached (ConnectionRefusedError)" in said and "HIDDEN" not in said
    with chat() as posted:
        del os.environ["AIRFLOW_CONN_CHAT"]
        said = tell(given)
    assert not posted and "was not sent" in said


def check_messages_go_out_only_where_an_operator_wants_them():
    given = of_a_failure(RuntimeError("no"))
    with chat() as posted:
        del os.environ["GRAPHUFS_NOTIFY_CONNECTION"]
        assert "graphufs: training train failed, run r1" in tell(given) and not posted
    succeeded = {name: value for name, value in given.items() if name != "exception"}
    with chat() as posted:
        tell(succeeded, "succeeded", only_if="notify_success")
        assert not posted
        os.environ["AIRFLOW_VAR_GRAPHUFS_NOTIFY_SUCCESS"] = "true"
        try:
            tell(succeeded, "succeeded", only_if="notify_success")
        finally:
            del os.environ["AIRFLOW_VAR_GRAPHUFS_NOTIFY_SUCCESS"]
    ((_, content),) = posted
    assert content["state"] == "succeeded" and content["task"] is None and content["text"].startswith(
        "graphufs: training succeeded, run r1"
    )  # fmt: skip


def check_an_address_is_read_from_any_usual_spelling_of_a_connection():
    from jobs.airflow.notifier import address

    for connection, wanted in (
        ("https://chat.example.org/services/T0/B0", "https://chat.example.org/services/T0/B0"),
        ('{"conn_type": "http", "host": "chat.example.org", "schema": "https", "password": "T0/B0"}',
         "https://chat.example.org/T0/B0"),
        ('{"conn_type": "http", "host": "https://chat.example.org/hooks/"}', "https://chat.example.org/hooks"),
        ('{"conn_type": "http", "host": "localhost", "port": 8065, "schema": "http"}', "http://localhost:8065"),
    ):  # fmt: skip
        os.environ["AIRFLOW_CONN_CHAT"] = connection
        try:
            assert address("chat") == wanted
        finally:
            del os.environ["AIRFLOW_CONN_CHAT"]
    os.environ["AIRFLOW_CONN_CHAT"] = '{"conn_type": "http", "host": "file:///etc/passwd"}'
    try:
        with raises(ValueError, "no web address"):
            address("chat")
    finally:
        del os.environ["AIRFLOW_CONN_CHAT"]


# preflight and the local copy of what sites hold


@contextmanager
def holding(files, **more):
    """A site that holds files by path; the commands it was asked."""
    import base64
    import hashlib

    from jobs.airflow.site_client import Refused, SiteClient

    asked = []

    def run(self, *arguments, stdin="", timeout=0.0):
        asked.append(arguments)
        if arguments[0] == "show":
            listed = [{"path": path, "bytes": len(data), "modified": "1"} for path, data in files.items()]
            return {"protocol": 1, "files": listed, "runs": [], "models": [], **more}
        if arguments[1] not in files or b"gone" in files[arguments[1]]:
            raise Refused("there is no such file")
        data = files[arguments[1]]
        digest = hashlib.sha256(data).hexdigest()
        return {"protocol": 1, "base64": base64.b64encode(data).decode(), "sha256": digest}

    with replaced(SiteClient, run=run):
        yield asked


def copied():
    from jobs.airflow import mirrored

    place = mirrored.place("quick") / "files"
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def mirrored_by(files, **more):
    from jobs.airflow import mirror
    from jobs.airflow.site_client import SiteClient

    with holding(files, **more) as asked:
        done = mirror.refresh(SiteClient.load("quick"), "quick", lambda words: None)
    return done, [arguments[1] for arguments in asked if arguments[0] == "fetch"]


def check_the_copy_follows_the_site_and_fetches_only_what_changed():
    from jobs.airflow import mirrored

    os.environ["GRAPHUFS_MIRROR"] = str(Path("copies").absolute())
    one, two = "runs/tiny/ab/reports/cd.html", "runs/tiny/ab/nightly/00000016/report.html"
    done, fetched = mirrored_by({one: b"first", two: b"second"})
    assert set(fetched) == {one, two} and copied() == {one: b"first", two: b"second"} and done["fetched"] == 2
    _, fetched = mirrored_by({one: b"first", two: b"second, longer"}, models=[{"id": "m", "registered": "2"}])
    assert fetched == [two] and copied()[two] == b"second, longer"
    assert mirrored.models(["quick", "here"]) == ["m"]
    left = mirrored.place("quick") / "files" / "runs" / ".report.html.tmp"
    left.write_text("half")
    mirrored_by({one: b"first"})
    assert copied() == {one: b"first"} and not (left.parent / "tiny" / "ab" / "nightly").exists()
    assert [file["path"] for file in mirrored.catalogue("quick")["files"]] == [one]
    _, fetched = mirrored_by({one: b"gone!"})
    assert fetched == [one] and copied() == {} and mirrored.catalogue("quick")["files"] == []


def check_a_site_writes_nowhere_but_in_its_copy_and_no_more_than_it_may():
    from jobs.airflow import mirror, mirrored
    from jobs.airflow.site_client import SiteError

    hostile = ["../stolen.html", "/tmp/stolen.html", "a/../../b.html", ".ssh/x.html", "a//b.html", "a/b.sh", "-a.html",
               "a\x00.html", "a\n.html", ""]  # fmt: skip
    _, fetched = mirrored_by({**{path: b"x" for path in hostile}, "good/a.html": b"y"})
    assert fetched == ["good/a.html"] and copied() == {"good/a.html": b"y"}
    with replaced(mirror, LARGEST=3, TOTAL=4):
        _, fetched = mirrored_by({"a.html": b"1234", "b.html": b"123", "c.html": b"12", "d.html": b"1"})
    assert copied().keys() == {"b.html", "d.html"} and mirrored.catalogue("quick")["left_out"] == ["a.html", "c.html"]

    before, catalogue = copied(), mirrored.catalogue("quick")
    with replaced(mirror, _fetch=lambda client, path: (_ for _ in ()).throw(SiteError("broken"))):
        with raises(SiteError):
            mirrored_by({"new.html": b"z"})
    assert copied() == before and mirrored.catalogue("quick") == catalogue, "the old copy stays"


def check_a_site_that_cannot_be_asked_keeps_its_old_copy_and_pauses_a_preflight():
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred

    from jobs.airflow import mirrored
    from jobs.airflow.commands import PreflightOperator
    from jobs.airflow.mirror import MirrorOperator
    from jobs.airflow.site_client import SiteClient, Unreachable

    before = mirrored.catalogue("quick")
    with site(Unreachable("no route")):
        with raises(AirflowSkipException, "the old copy stays"):
            MirrorOperator(task_id="m", site="quick").execute({})
        with raises(TaskDeferred) as caught:
            PreflightOperator(task_id="p", site="quick").execute({})
    assert mirrored.catalogue("quick") == before
    event = {"site": "quick", "deadline": caught.value.trigger.deadline, "late": False}
    found = [{"what": "root folder", "good": True, "words": "fine"}, {"what": "GPU", "good": None, "words": "none"}]
    asked = []

    def run(self, *arguments, **_):
        asked.append(arguments)
        return {"protocol": 1, "findings": found}

    with replaced(SiteClient, run=run):
        task = PreflightOperator(task_id="p2", site="quick", job_resources=["train.gpus=2"])
        assert task.execute_again({}, event) == found
        found.append({"what": "train job", "good": False, "words": "no such partition"})
        with raises(AirflowFailException, "is not ready: train job: no such partition"):
            task.execute({})
        with raises(AirflowFailException, "could not be asked"):
            task.execute_again({}, {**event, "late": True})
    assert asked[0] == ("sites", "--check", "--resource=train.gpus=2")


def check_the_pools_of_all_sites_are_told():
    from jobs.airflow.pools import pools

    assert {"graphufs", "quick-pool"} == set(pools())
    assert all(pool["slots"] > 0 and pool["include_deferred"] is False for pool in pools().values())


# the DAGs


def bag():
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(str(ROOT / "dags"))


def check_dags_are_read_without_errors_and_have_owner_tags_and_docs():
    found = bag()
    assert not found.import_errors, found.import_errors
    for path in (ROOT / "dags").glob("*.py"):
        assert path.stem in found.dags
    for dag in found.dags.values():
        assert dag.tags and dag.doc_md and dag.owner == "graphufs" and not dag.catchup
        assert all(task.owner == "graphufs" for task in dag.tasks)
    json.dumps(bag_serialized(found))


def bag_serialized(found):
    from airflow.serialization.serialized_objects import DagSerialization

    return [DagSerialization.to_dict(dag) for dag in found.dags.values()]


def check_the_form_offers_what_there_is():
    params = bag().dags["normalization"].params
    assert params.get_param("experiment").schema["enum"] == ["demo", "graphcast_curriculum", "p0", "tiny"]
    assert params.get_param("site").schema["enum"] == ["here", "quick", "local", "testcluster"]


def run(dag_id, **conf):
    dag = bag().dags[dag_id]
    for task in dag.tasks:
        task.retries = 0
    return dag.test(run_conf=conf)


def states_of(done):
    return {ti.task_id: ti.state for ti in done.get_task_instances()}


def xcoms(done, task_id):
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        wanted = (XComModel.run_id == done.run_id) & (XComModel.task_id == task_id)
        return {row.key: XComModel.deserialize_value(row) for row in session.scalars(select(XComModel).where(wanted))}


def events(name):
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        found = select(AssetEvent).join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        return [event.extra for event in session.scalars(found.where(AssetModel.name == name))]


def check_the_training_form_has_types_limits_and_help_of_the_schemas():
    from graphufs.experiment import Experiment

    params = bag().dags["training"].params
    batch, precision, gpus = (params.get_param(name) for name in ("batch_size", "precision", "gpus"))
    own = Experiment.model_json_schema()["$defs"]["Training"]["properties"]["batch_size"]
    assert batch.schema["type"] == ["integer", "null"] and batch.schema["minimum"] == own["minimum"] == 1
    assert batch.description.startswith(own["description"]) and "tiny: 2" in batch.description
    assert precision.schema["enum"] == ["float32", "bfloat16", None] and gpus.schema["minimum"] == 0
    assert all(
        params.get_param(name).value is None for name in ("mesh_size", "updates", "learning_rate", "seed", "nodes")
    )
    assert all(params.get_param(name).description for name in params)


def check_a_form_changes_what_is_learnt_but_no_place_the_site_would_go_to():
    from graphufs.errors import UserError
    from jobs.airflow import resolve

    assert resolve.experiment("tiny", ["data.source.world.seed=3"]).data.source.world.seed == 3
    for override in (
        "data.source.url=file:///etc",
        "data.source={url: 'simplecache::https://elsewhere/x'}",
        "data.source.storage_options={simplecache: {cache_storage: /home/someone}}",
        "normalization.dask=tcp://elsewhere:8786",
        "normalization={url: /home/someone}",
        "training.init_from=/etc/shadow",
    ):
        with raises(UserError, "names a place that the site's account would go to"):
            resolve.experiment("tiny", [override])
    for override, words in (
        ("name=../../etc", "name"),
        ("description=!!python/object/apply:os.system [id]", "not YAML"),
        ("description=[&a [x, x], &b [*a, *a], *b]", "references"),
        ("a=b\nc=d", "one a line"),
        ("--site=x", "section.key=value"),
        ("x" * 2000, "1000 characters"),
        ("training.batch_sise=2", "did you mean training.batch_size"),
    ):
        with raises(UserError, words):
            resolve.experiment("tiny", [override])
    with raises(UserError, "there is no experiment"):
        resolve.experiment("../experiments/tiny")
    with raises(UserError, "101 overrides"):
        resolve.experiment("tiny", ["training.seed=1"] * 101)
    with raises(UserError, "training.seed is given both"):
        resolve.merged({"training.seed": 1}, ["training.seed=2"])
    for site in ("debug", "unfinished", "--root=/", "../sites/here.yaml", "/etc/passwd"):
        with raises(UserError, "no site"):
            resolve.site(site)
    for wrong in ({"time_limit": "1h; id"}, {"memory": "lots"}, {"gpus": -1}):
        with raises(UserError, next(iter(wrong))):
            resolve.resources("here", "train", wrong)


def check_forecasts_of_a_short_validation_period_are_shortened_and_that_is_said():
    from jobs.airflow import resolve

    whole, note = resolve.on_validation(resolve.experiment("tiny"))
    assert whole.forecast.lead_time == 24 and "shortened" not in note
    assert str(whole.forecast.period) == str(whole.data.validation)
    period = "data.validation={start: 1994-01-11T00, end: 1994-01-12T00}"
    short, note = resolve.on_validation(resolve.experiment("tiny", [period]))
    assert short.forecast.lead_time == 18 and "shortened from 24h to 18h" in note and len(short.initial_times) == 1
    none = ["data.validation={start: 1994-01-11T00, end: 1994-01-11T06}", "data.input_frames=1"]
    longest, note = resolve.on_validation(resolve.experiment("tiny", none))
    assert longest.forecast.lead_time == 6


def check_wrong_overrides_fail_the_first_task_and_name_the_field():
    from airflow.sdk.exceptions import ParamValidationError

    with raises((ParamValidationError, ValueError)):
        run("normalization", experiment="tiny", site="here", overrides=["$(touch PWNED)"])
    with raises((ParamValidationError, ValueError)):
        run("normalization", experiment="../../etc/passwd", site="here")
    for wrong in (
        {"batch_size": 0},
        {"batch_size": "8; id"},
        {"seed": 1.5},
        {"precision": "float16"},
        {"time_limit": "1" * 300},
        {"deadline_hours": 0},
        {"site": "debug"},
        {"overrides": ["training.seed=1\ndata: x"]},
    ):
        with raises((ParamValidationError, ValueError)):
            run("training", **{"experiment": "tiny", "site": "here", **wrong})
    done = run("normalization", experiment="tiny", site="here", overrides=["training.batch_sise=2"])
    states = {ti.task_id: ti.state for ti in done.get_task_instances()}
    assert states["check"] == "failed" and states["prepare"] == states["normalize"] == "upstream_failed", states
    assert not (Path(os.environ["GRAPHUFS_ROOT"]) / "jobs").exists()


def check_normalization_runs_on_tiny_and_a_second_run_finds_it_done():
    root = Path(os.environ["GRAPHUFS_ROOT"])
    for number in (1, 2):
        done = run("normalization", experiment="tiny", site="here", overrides=["description=a $(touch PWNED) 'b'"])
        assert done.state == "success", {ti.task_id: ti.state for ti in done.get_task_instances()}
        assert len(list((root / "jobs").iterdir())) == 2 * number and len(list((root / "statistics").iterdir())) == 1
    results = [json.loads(path.read_text()) for path in sorted((root / "jobs").glob("af-*/result.json"))]
    assert len(results) == 4 and all(one["attempt"] == 1 for one in results), results
    told = events("graphufs_statistics")
    assert len(told) == 2 and all(extra["site"] == "here" and extra["job"] for extra in told)
    assert not Path("PWNED").exists()


def check_training_goes_from_the_form_to_a_candidate_and_shares_what_is_there():
    root = Path(os.environ["GRAPHUFS_ROOT"])
    hostile = "description='{{ var.value.secret }} {{ conn.secret.password }} {% raw %} $(touch PWNED)'"
    done = run(
        "training", experiment="tiny", site="here", latent_size=4, time_limit="1:00:00", overrides=[hostile]
    )  # fmt: skip
    assert set(states_of(done).values()) == {"success"}, states_of(done)
    assert len(list((root / "statistics").iterdir())) == len(list((root / "data").iterdir())) == 1
    assert xcoms(done, "prepare")["status"] == xcoms(done, "normalize")["status"] == "unchanged"
    assert "validation period 1994-01-11T00..1994-01-12T18: 2 from 1994-01-11T06 on" in xcoms(done, "check")["note"]
    (event,) = events("graphufs_checkpoint")
    assert event["experiment"] == event["name"] == "tiny" and event["site"] == "here" and event["scores"]["rmse"]
    assert event["overrides"] == ["model.latent_size=4", hostile] and Path(event["report"]).exists()
    (trained,) = (root / "runs" / "tiny").iterdir()
    assert event["model"] == f"tiny-{trained.name}-16"
    (job,) = (root / "jobs").glob("af-training.register.*")
    asked = (job / "experiment.yaml").read_text()
    assert "{{ var.value.secret }} {{ conn.secret.password }} {% raw %}" in " ".join(asked.split()), "as it was typed"
    assert "latent_size: 4" in asked and not Path("PWNED").exists()
    (attempt,) = (root / "jobs").glob("af-training.train.*/attempts/1/attempt.json")
    assert json.loads(attempt.read_text())["resources"]["time_limit"] == "1:00:00"


def check_a_night_scores_what_is_new_a_repeated_one_is_skipped_and_the_mirror_shows_it():
    from jobs.airflow import forms, mirrored

    root = Path(os.environ["GRAPHUFS_ROOT"])
    (model,) = [event["model"] for event in events("graphufs_checkpoint")]
    wish = {"experiment": "tiny", "site": "here", "at_most": 50, "night": "2026-03-01"}
    done = run("nightly_evaluation", **wish)
    assert set(states_of(done).values()) == {"success"}, states_of(done)
    (event,) = events("graphufs_scores")
    assert (event["model"], event["experiment"], event["night"]) == (model, "tiny", "2026-03-01")
    assert event["added"] == len(xcoms(done, "plan_nightly")["initial_times"]) > 0
    again = run("nightly_evaluation", **wish)
    states = states_of(again)
    assert states.pop("check") == states.pop("extend_world") == "success" and set(states.values()) == {"skipped"}
    assert "nothing new" in xcoms(again, "plan_nightly")["result"]["message"]
    assert len(events("graphufs_scores")) == 1 and again.state == "success"
    seen = mirrored.catalogue("here")
    assert [one["id"] for one in seen["models"]] == [model] == [one["model"] for one in seen["nightly"]]
    assert model in forms.models() and "experiment" not in seen["models"][0]
    report = mirrored.place("here") / "files" / event["report"]
    assert report.read_bytes() == (root / event["report"]).read_bytes() and report.suffix == ".html"


def check_a_night_is_asked_for_by_form_event_or_setting():
    from datetime import date

    from graphufs import configuration
    from graphufs.errors import UserError
    from jobs.airflow import nightly

    form = {"experiment": "tiny", "site": "here", "model": "latest", "overrides": ["forecast.lead_time=48h"]}
    rest = {"at_most": None, "night": None, "deadline_hours": 20}
    found = nightly.asked({**form, **rest, "at_most": 3}, None, date(2026, 3, 1))
    experiment = configuration.parse(found["experiment"])
    assert (experiment.nightly.model, experiment.nightly.at_most) == ("latest", 3)
    assert str(experiment.nightly.night) == found["night"] == "2026-03-01" and experiment.forecast.lead_time == 48
    chosen = nightly.asked({**form, **rest, "night": "2026-02-27"}, None, date(2026, 3, 1))
    assert chosen["night"] == "2026-02-27" and configuration.parse(chosen["experiment"]).nightly.at_most == 4

    event = {"experiment": "tiny", "site": "here", "model": "tiny-ab-16", "overrides": ["nightly.at_most=1"]}
    nobody = {"experiment": None, "site": None, "model": "champion", "overrides": [], **rest}
    told = nightly.asked(nobody, event, date(2026, 3, 1))
    assert told["model"] == "tiny-ab-16" and configuration.parse(told["experiment"]).nightly.at_most == 4
    with raises(UserError, "graphufs_nightly_experiment"):
        nightly.asked(nobody, None, date(2026, 3, 1))
    os.environ.update({"GRAPHUFS_NIGHTLY_EXPERIMENT": "demo", "AIRFLOW_VAR_GRAPHUFS_NIGHTLY_SITE": "here"})
    try:
        by_clock = nightly.asked(nobody, None, date(2026, 3, 1))
    finally:
        del os.environ["GRAPHUFS_NIGHTLY_EXPERIMENT"], os.environ["AIRFLOW_VAR_GRAPHUFS_NIGHTLY_SITE"]
    assert (by_clock["name"], by_clock["site"], by_clock["model"]) == ("demo", "here", "champion")
    for wrong, words in (
        ({"site": "../../x"}, "no site"),
        ({"experiment": "../tiny"}, "no experiment"),
        ({"experiment": ["tiny"]}, "no name"),
        ({"model": "{{ conn.x }}"}, "is no model"),
        ({"model": "--help"}, "is no model"),
        ({"overrides": "training.seed=1"}, "no list"),
        ({"overrides": ["normalization.dask=tcp://elsewhere:1"]}, "names a place"),
    ):
        with raises(UserError, words):
            nightly.asked(nobody, {**event, **wrong}, date(2026, 3, 1))
        with raises(UserError, words):
            nightly.asked({**form, **rest, **wrong}, None, date(2026, 3, 1))
    with raises(UserError, "nightly.night is given both"):
        nightly.asked({**form, **rest, "overrides": ["nightly.night=2026-01-01"]}, None, date(2026, 3, 1))


def check_of_several_events_the_newest_counts_and_the_others_get_runs_of_their_own():
    from datetime import UTC, datetime

    from airflow.sdk.execution_time import task_runner

    from jobs.airflow import nightly

    def event(minute, **extra):
        return SimpleNamespace(extra=extra, timestamp=datetime(2026, 3, 1, 0, minute, tzinfo=UTC))

    tiny, demo = ({"experiment": name, "site": "here", "model": f"{name}-ab-1"} for name in ("tiny", "demo"))
    triggering = {
        "checkpoint": [event(1, **tiny, scores={}), event(3, **demo, overrides=[]), event(2, **tiny)],
        "champion": [event(4)],
    }
    assert nightly.extras(triggering) == [demo, tiny] and nightly.extras(None) == []
    sent = []
    with replaced(task_runner, SUPERVISOR_COMMS=SimpleNamespace(send=sent.append)):
        assert nightly.trigger("nightly_evaluation", "r", [tiny]) == ["also_1_of__r"]
    assert sent[0].conf == tiny and sent[0].dag_id == "nightly_evaluation" and sent[0].logical_date is None


def check_the_night_goes_by_clock_or_asset_one_at_a_time_and_can_be_filled_in_backwards():
    from datetime import UTC, datetime

    from airflow.models.backfill import ReprocessBehavior, _create_backfill
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    dag = bag().dags["nightly_evaluation"]
    assert dag.max_active_runs == 1 and not dag.catchup
    assert {asset.name for asset in dag.timetable.asset_condition.objects} == {
        "graphufs_checkpoint",
        "graphufs_champion",
    }
    _create_backfill(
        dag_id="nightly_evaluation", from_date=datetime(2026, 1, 1, tzinfo=UTC),
        to_date=datetime(2026, 1, 3, 12, tzinfo=UTC), max_active_runs=1, reverse=False, triggering_user_name="somebody",
        dag_run_conf={"experiment": "tiny", "site": "here"}, reprocess_behavior=ReprocessBehavior.NONE,
    )  # fmt: skip
    with create_session() as session:
        wanted = (DagRun.dag_id == "nightly_evaluation") & (DagRun.run_type == "backfill")
        runs = session.scalars(select(DagRun).where(wanted).order_by(DagRun.logical_date)).all()
    assert [f"{run.logical_date:%Y-%m-%d}" for run in runs] == ["2026-01-01", "2026-01-02", "2026-01-03"]


def check_a_training_that_need_not_be_registered_is_not():
    from airflow.sdk.exceptions import AirflowSkipException

    with site(DONE) as asked, raises(AirflowSkipException, "not wanted"):
        operator(wanted=False).execute(context())
    assert not asked


def main(report: Path) -> None:
    started = time.perf_counter()
    import airflow.sdk  # what every DAG file has cost before its own imports
    from airflow.dag_processing import dagbag

    spent, begun = {"airflow": time.perf_counter() - started}, time.process_time()
    for path in (ROOT / "dags").glob("*.py"):
        exec(compile(path.read_text(), path, "exec"), {"__name__": "dag", "__doc__": ""})
        spent[path.stem], begun = time.process_time() - begun, time.process_time()
    heavy = sorted(
        {name.split(".")[0] for name in sys.modules} & {"jax", "xarray", "numpy", "zarr", "submitit", "asyncssh"}
    )
    del airflow, dagbag
    results = {"spent": spent, "heavy": heavy}
    report.write_text(json.dumps(results))

    from airflow.utils.db import initdb

    initdb()
    only = os.environ.get("ONLY", "")
    for name, check in list(globals().items()):
        if name.startswith("check_") and inspect.isfunction(check) and only in name:
            begun = time.perf_counter()
            try:
                check()
                results[name] = ""
            except BaseException:
                results[name] = traceback.format_exc()
            print(f"{name}: {time.perf_counter() - begun:.1f} s {'FAILED' if results[name] else ''}", flush=True)
            report.write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
