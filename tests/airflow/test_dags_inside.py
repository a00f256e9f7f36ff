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
    before = {name: getattr(place, name) for name in values}
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
