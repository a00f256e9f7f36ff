"""The fault matrix of Airflow: what dies between a task and its job, and what becomes of both.

Every row ends with the one job that was wished for, and with a true state of the task.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.support.airflow.bench import AirflowBench, eventually, without
from tests.support.airflow.rows import Row

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

ANSWERLESS = '"$REAL" "$@" > /dev/null; touch FLAG; while [ -e FLAG ]; do sleep 0.2; done'
"""The site does what it is told, and nobody hears of it."""


def task_process(identity: str) -> int:
    """The process of a task on a worker."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if f"airflow worker -- {identity}" in title:
            return int(folder.name)
    raise AssertionError(f"no process of the task {identity}")


def kill(bench: AirflowBench, name: str) -> None:
    """End a part, and what it has started, as a loss of power does."""
    bench.stack.stop(name, signal.SIGKILL)


def test_worker_killed_right_after_sbatch(bench: AirflowBench, request: pytest.FixtureRequest) -> None:
    row = Row(bench, "task's process killed right after sbatch", request)
    with bench.at("submit", ANSWERLESS) as flag:
        row.start("held")
        eventually(flag.exists)
        os.kill(task_process(row.task()["id"]), signal.SIGKILL)
    eventually(lambda: row.task()["try_number"] == 2)
    row.deferred()
    assert f"Job {row.key} attached: PENDING" in row.log()
    row.release()
    row.ends("success", "COMPLETED", jobs=1, note="Airflow's retry attached to it")


@pytest.mark.long
def test_scheduler_killed_right_after_sbatch(bench: AirflowBench, request: pytest.FixtureRequest) -> None:
    row = Row(bench, "scheduler and its workers killed right after sbatch", request)
    with bench.at("submit", ANSWERLESS) as flag:
        row.start("held")
        eventually(flag.exists)
        kill(bench, "scheduler")
    bench.stack.start("scheduler")
    eventually(lambda: row.task()["try_number"] == 2)
    row.deferred()
    row.release()
    row.ends("success", "COMPLETED", jobs=1, note="Airflow's retry attached to it")


def test_scheduler_and_api_server_killed_while_deferred(bench: AirflowBench, request: pytest.FixtureRequest) -> None:
    row = Row(bench, "scheduler and API server killed while deferred", request)
    row.start("held")
    row.deferred()
    with ExitStack() as away:
        for part in ("scheduler", "api-server"):
            away.enter_context(without(partial(kill, bench, part), partial(bench.stack.start, part)))
        row.release()
        eventually(lambda: bench.slurm.job(row.key).result() is not None)
    row.ends("success", "COMPLETED", jobs=1, note="the job ended meanwhile; the task went on")


@pytest.mark.long
def test_triggerer_killed_and_another_started(bench: AirflowBench, request: pytest.FixtureRequest) -> None:
    row = Row(bench, "triggerer killed, another started", request)
    row.start("held")
    row.deferred()
    with without(partial(kill, bench, "triggerer"), partial(bench.stack.start, "triggerer")):
        with without(partial(bench.stack.start, "triggerer-2"), partial(bench.stack.stop, "triggerer-2")):
            row.release()
            row.ends("success", "COMPLETED", jobs=1, note="the other one went on waiting")


@pytest.mark.long
def test_triggerer_suspended_until_another_took_over(bench: AirflowBench, request: pytest.FixtureRequest) -> None:
    """Airflow 3.3.2 tells the first one's trigger to cancel when it wakes."""
    row = Row(bench, "triggerer suspended until another took over", request)
    row.start("held")
    before = row.deferred()["trigger"]["triggerer_id"]
    bench.stack.signal("triggerer", signal.SIGSTOP)
    try:
        bench.stack.start("triggerer-2")
        eventually(lambda: (row.task()["trigger"] or {}).get("triggerer_id") not in (None, before))
    finally:
        bench.stack.signal("triggerer", signal.SIGCONT)
    try:
        eventually(lambda: "is not cancelled: its task waits on" in row.log())
        assert row.task()["state"] == "deferred" and bench.live(row.key) == 1
        row.release()
        row.ends("success", "COMPLETED", jobs=1, note="the first did not cancel when it woke")
    finally:
        bench.stack.stop("triggerer-2")


@pytest.mark.long
def test_ssh_server_killed_and_back(bench: AirflowBench, request: pytest.FixtureRequest) -> None:
    row = Row(bench, "sshd killed, back after a while", request)
    row.start("held")
    row.deferred()
    with without(bench.ssh.stop, bench.ssh.start):
        row.release()
        eventually(lambda: "Site bench has been unreachable since" in row.log())
        run = bench.trigger("reconcile", {"grace": 0})
        eventually(lambda: bench.slurm.job(row.key).result() is not None)
        assert bench.api.wait("reconcile", run, 300) == "success"
        states = {one["rendered_map_index"]: one["state"] for one in bench.api.task_instances("reconcile", run)}
        assert states["bench"] == "skipped", "nothing is concluded"
        assert row.task()["state"] == "deferred"
    row.ends("success", "COMPLETED", jobs=1, note="paused, said so, went on")
    assert "Site bench answers again" in row.log(1) or "COMPLETED" in row.log()


@pytest.mark.long
def test_a_new_login_wanted(bench: AirflowBench, request: pytest.FixtureRequest) -> None:
    row = Row(bench, "the site wants a new login", request)
    with without(partial(bench.ssh.allow, False), partial(bench.ssh.allow, True)):
        row.start("held")
        row.until("deferred")
        eventually(lambda: row.log().count("Site bench is unreachable") >= 1)
        time.sleep(5)
        assert row.task()["state"] == "deferred" and not bench.slurm.job(row.key).exists
        assert "uthentication" in row.log() or "ermission denied" in row.log()
    row.submitted()
    row.deferred()
    with without(partial(bench.ssh.allow, False), partial(bench.ssh.allow, True)):
        bench.ssh.disconnect()
        eventually(lambda: "The job is not touched; waiting until the site answers" in row.log())
        assert row.task()["state"] == "deferred" and bench.live(row.key) == 1
        row.release()
    row.ends("success", "COMPLETED", jobs=1, note="paused before and after the submission, went on")
    assert row.tries() == 1
