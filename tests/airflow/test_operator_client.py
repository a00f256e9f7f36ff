"""The site client, keys and the poller, which need no Airflow to be installed. Both sides' protocol is compared."""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
import sys
import threading
import time
from importlib import metadata
from types import SimpleNamespace

import pytest

from jobs.airflow import messages
from jobs.airflow.keys import job_key
from jobs.airflow.sites import client as site_client
from jobs.airflow.sites import poller as polling
from jobs.airflow.sites.client import Refused, SiteClient, SiteError, Unreachable
from jobs.airflow.sites.poller import Poller, Trouble, backoff
from jobs.cli.app import PROTOCOL
from jobs.job.folder import KEY
from jobs.site import Site

HOSTILE = [
    "$(touch PWNED)",
    "`touch PWNED`",
    "; touch PWNED;",
    "a b\tc",
    "'; touch PWNED; '",
    '"; touch PWNED; "',
    "\\'; touch PWNED #",
    "line\ntouch PWNED\n",
    "&& touch PWNED",
    "| touch PWNED",
    "> PWNED",
    "*",
    "~",
    "--root=/etc",
    "é✓",
]


HERE = metadata.version("graphufs")


def answers(*words, code=0, before="", version=HERE):
    """A job command that says in JSON what it was called with."""
    content = (
        f'{{"protocol": 1, "graphufs": {version!r}, "argv": sys.argv[1:], "stdin": sys.stdin.read(), '
        '"env": dict(os.environ)}'
    )
    return f"import json, os, sys\nprint({before!r} + json.dumps({content}))\nsys.exit({code})\n"


@pytest.fixture
def command(tmp_path):
    """A function that writes a job command, and makes a client that uses it."""

    def make(code, **control):
        path = tmp_path / "graphufs-jobs"
        path.write_text(f"#!{sys.executable}\n{code}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return SiteClient("here", Site(executor="local", control={"command": str(path), **control}))

    return make


def test_the_protocol_is_the_one_of_the_job_command():
    assert site_client.PROTOCOL == PROTOCOL


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_words_arrive_as_they_are_and_start_nothing(command, tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    client = command(answers())
    expected = ["submit", f"--resource={value}", "--site=here", "--json"]
    assert client.run("submit", f"--resource={value}", stdin=value)["argv"] == expected
    assert asyncio.run(client.arun("submit", f"--resource={value}", stdin=value))["stdin"] == value
    shown = os.popen(client.line(["submit", f"--resource={value}"]) + " </dev/null").read()  # as an SSH server's shell
    assert json.loads(shown)["argv"] == expected
    assert not (tmp_path / "PWNED").exists()


def test_a_zero_byte_is_refused(command):
    with pytest.raises(Refused, match="zero byte"):
        command(answers()).run("a\0b")


def test_a_command_here_gets_none_of_airflows_variables(command, monkeypatch):
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "secret")
    monkeypatch.setenv("AIRFLOW_CONN_HPC", "secret")
    monkeypatch.setenv("GRAPHUFS_ROOT", "/somewhere")
    env = command(answers()).run("list")["env"]
    assert "secret" not in env.values() and env["GRAPHUFS_ROOT"] == "/somewhere"


@pytest.mark.parametrize(
    ("code", "error", "says"),
    [
        ("import sys; print('the scheduler is away', file=sys.stderr); sys.exit(69)", Unreachable, "is away"),
        ("import sys; print('error bad key', file=sys.stderr); sys.exit(2)", Refused, "^bad key"),
        ("import os; os.kill(os.getpid(), 9)", Unreachable, "killed"),
        ("raise RuntimeError('broken')", SiteError, "broken"),
        ("print('hello')", SiteError, "no answer"),
        ("""print('{"protocol": 99, "graphufs": "7"}')""", SiteError, "protocol 99"),
    ],
)
def test_each_way_to_fail_has_its_exception(command, code, error, says):
    client = command(code)
    with pytest.raises(error, match=says) as blocking:
        client.run("list")
    with pytest.raises(error, match=says) as running:
        asyncio.run(client.arun("list"))
    assert type(blocking.value) is type(running.value) is error


def test_a_job_that_failed_is_an_answer(command):
    assert command(answers(code=1)).run("submit")["argv"]


def test_a_greeting_before_the_answer_is_skipped(command):
    assert command(answers(before="Welcome to {hpc}\n{\n")).run("list")["protocol"] == 1


def test_no_answer_in_time_is_unreachable(command):
    client = command("import time; time.sleep(60)")
    with pytest.raises(Unreachable, match="within"):
        client.run("list", timeout=0.3)
    with pytest.raises(Unreachable, match="within"):
        asyncio.run(client.arun("list", timeout=0.3))


def test_a_missing_command_is_named(command):
    client = SiteClient("here", Site(executor="local", control={"command": "/nowhere/graphufs-jobs"}))
    with pytest.raises(SiteError, match="/nowhere/graphufs-jobs"):
        client.run("list")
    with pytest.raises(SiteError, match="/nowhere/graphufs-jobs"):
        asyncio.run(client.arun("list"))


def test_another_version_is_told_once(command, caplog):
    client = command(answers(version="99.0"))
    client.run("list"), client.run("list")
    assert len([one for one in caplog.records if "99.0" in one.message]) == 1


def test_paramikos_half_reads_both_streams_to_their_ends():
    """The class that paramiko gives is imitated: an answer larger than any buffer, errors, and an exit code."""
    status = threading.Event()
    status.set()
    written = []
    channel = SimpleNamespace(
        shutdown_write=lambda: written.append("closed"), status_event=status, recv_exit_status=lambda: 1
    )
    streams = (
        SimpleNamespace(write=written.append, channel=channel),
        SimpleNamespace(read=lambda: b"x" * 2**21, channel=channel),
        SimpleNamespace(read=lambda: b"words"),
    )
    client = SimpleNamespace(exec_command=lambda line, timeout: streams)
    code, out, err = site_client._execute(client, "line", "given", 5)
    assert (code, len(out), err, written) == (1, 2**21, "words", [b"given", "closed"])


# keys


def test_keys_are_allowed_readable_and_all_different():
    runs = [
        "manual__2026-11-22T17:00:00+00:00",
        "manual__2026-11-22T17:00:00-00:00",
        "x" * 250,
        "é/../;$(a)",
        "x" * 251,
    ]
    made = {
        job_key(dag, run, task, index, instance=instance)
        for instance in ("", "me")
        for dag in ("d", "d.t")
        for run in runs
        for task in ("t", "t.t")
        for index in (-1, 0, 1)
    }
    assert len(made) == 2 * 2 * len(runs) * 2 * 3
    assert all(KEY.fullmatch(key) for key in made)
    key = job_key("training", runs[0], "forecast", 3)
    assert key.startswith("af-training.forecast.3.manual__2026-11-22T17-00-00-00-00-") and key == job_key(
        "training", runs[0], "forecast", 3
    )


# the poller


class FakeClient:
    """A site that answers from a table, or raises."""

    def __init__(self, interval=1):
        self.name, self.asked, self.closed = "fake", [], 0
        self.site = Site(executor="local", control={"poll_interval": interval})
        self.trouble: Exception | None = None
        self.states: dict[str, str] = {}

    async def arun(self, *arguments, stdin="", timeout=0.0):
        assert arguments == ("poll",)
        self.asked.append((time.monotonic(), json.loads(stdin)["jobs"]))
        await asyncio.sleep(0.01)
        if self.trouble is not None:
            raise self.trouble
        found = []
        for key, cursor in self.asked[-1][1].items():
            after = {"1/log": cursor.get("1/log", 0) + 10}
            found.append(
                {"key": key, "state": self.states.get(key, "RUNNING"), "log": f"{key} at {cursor}\n", "cursor": after}
            )
        return {"protocol": 1, "jobs": found}

    async def close(self):
        self.closed += 1


def test_twenty_wait_with_one_command_an_interval():
    async def main():
        client = FakeClient()
        poller = Poller(client, 0.2)

        async def wait(number):
            with poller.subscribe(f"job-{number}") as one:
                return [await one.inbox.get() for _ in range(4)]

        heard = await asyncio.gather(*(wait(number) for number in range(20)))
        return client, heard, poller

    client, heard, _ = asyncio.run(main())
    assert len(client.asked) == 4 and all(len(jobs) == 20 for _, jobs in client.asked)
    pauses = [after[0] - before[0] for before, after in zip(client.asked, client.asked[1:], strict=False)]
    assert all(0.15 < pause < 0.6 for pause in pauses)
    for number, words_ in enumerate(heard):
        assert [word["log"] for word in words_] == [
            f"job-{number} at {cursor}\n" for cursor in ({}, {"1/log": 10}, {"1/log": 20}, {"1/log": 30})
        ]


def test_two_who_wait_for_one_job_each_get_its_whole_log():
    async def main():
        poller = Poller(FakeClient(), 0.05)
        with poller.subscribe("job") as one, poller.subscribe("job", {"1/log": 70}) as other:
            heard = {one: [], other: []}
            for _ in range(6):
                for subscription in heard:
                    heard[subscription].append((await subscription.inbox.get())["log"])
        return [[text for text in texts if text] for texts in heard.values()]

    first, second = asyncio.run(main())
    assert first[:2] == ["job at {}\n", "job at {'1/log': 10}\n"]
    assert second[:2] == ["job at {'1/log': 70}\n", "job at {'1/log': 80}\n"]


@pytest.mark.parametrize("error", [Unreachable("no route"), SiteError("no command"), RuntimeError("a fault of ours")])
def test_trouble_is_told_with_its_beginning_and_waiting_goes_on(error):
    async def main():
        client = FakeClient()
        client.trouble = error
        poller = Poller(client, 0.05)
        with poller.subscribe("job") as one, poller.subscribe(None) as site:
            told = [await one.inbox.get() for _ in range(3)]
            client.trouble = None
            while isinstance(word := await one.inbox.get(), Trouble):
                pass
            while isinstance(whole := await site.inbox.get(), Trouble):
                pass
        return told, word, whole, client

    told, word, whole, client = asyncio.run(main())
    assert all(isinstance(one, Trouble) and str(error) in one.message for one in told)
    assert len({one.since for one in told}) == 1 and re.fullmatch(r"\d{4}-.*Z", told[0].since)
    assert isinstance(word, dict) and word["state"] == "RUNNING" and whole == {}
    assert client.closed >= 3, "a connection that failed is not used again"


def test_an_answer_without_a_job_is_trouble_and_not_silence():
    async def main():
        client = FakeClient()

        async def nothing(*arguments, **options):
            return {"protocol": 1, "jobs": []}

        client.arun = nothing
        with Poller(client, 0.05).subscribe("job") as one:
            return await one.inbox.get()

    assert "does not include the job" in asyncio.run(main()).message


def test_the_poller_ends_when_nobody_waits_and_begins_again():
    async def main():
        client = FakeClient()
        poller = Poller(client, 0.05)
        with poller.subscribe("job") as one:
            await one.inbox.get()
        await asyncio.sleep(0.3)
        ended = (poller._running, client.closed)
        with poller.subscribe("job") as one:
            await asyncio.wait_for(one.inbox.get(), 5)
        return ended

    assert asyncio.run(main()) == (False, 1)


def test_a_poller_whose_loop_breaks_is_started_again(monkeypatch):
    async def main():
        poller = Poller(FakeClient(), 0.05)
        breaks = iter([True])
        monkeypatch.setattr(polling.random, "uniform", lambda low, high: 1 / 0 if next(breaks, False) else 1.0)
        with poller.subscribe("job") as one:
            return [await asyncio.wait_for(one.inbox.get(), 10) for _ in range(3)]

    assert all(isinstance(word, dict) for word in asyncio.run(main()))


def test_one_poller_a_site_and_none_of_a_loop_that_is_gone(monkeypatch, tmp_path):
    (tmp_path / "mine.yaml").write_text("executor: local\n")
    monkeypatch.setenv("GRAPHUFS_SITES", str(tmp_path))

    async def main():
        with polling.poller_of("mine").subscribe("job"):
            poller = polling.poller_of("mine")
            assert poller is polling.poller_of("mine") and poller._running
        return poller

    assert asyncio.run(main()) is not asyncio.run(main())


def test_pauses_grow_to_a_limit_and_differ():
    assert all(30 <= backoff(60, 1) <= 60 for _ in range(50))
    assert all(300 <= backoff(60, 10**6) <= 600 for _ in range(50))
    assert all(500 <= backoff(1000, 3) <= 1000 for _ in range(50))
    assert len({backoff(60, 3) for _ in range(20)}) > 10


# words


def test_a_failures_first_line_has_the_reason_and_the_last_how_to_see_it():
    answer = {
        "key": "k", "step": "train", "state": "FAILED", "ending": "out_of_memory", "message": "CUDA: no room\n  more",
        "id": "7", "folder": "/big root/jobs/k", "what": "stopped",
    }  # fmt: skip
    lines = messages.failure(answer).splitlines()
    assert lines[0] == "train FAILED, out of memory: CUDA: no room"
    assert lines[-1].endswith("submit train '/big root/jobs/k/experiment.yaml' --site debug --root '/big root'")
    assert "not submitted again" in messages.failure({**answer, "state": "LOST"})
