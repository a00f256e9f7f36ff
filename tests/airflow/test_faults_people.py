"""The fault matrix of Airflow: what people do to tasks, and ends that are no accident."""

from __future__ import annotations

import signal

import pytest

from graphufs.storage.atomic import write_json
from tests.airflow.test_faults import ANSWERLESS
from tests.support.airflow.bench import AirflowBench, eventually, without
from tests.support.airflow.rows import Row

HELD = "sbatch.begin=now+1hour"
pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]


def submit(bench: AirflowBench, key: str, *labels: str) -> None:
    """A held job that no task asked for."""
    given = [f"--label={label}" for label in labels]
    bench.slurm.run("submit", "prepare", "tiny", "--site", "bench", "--key", key, "--resource", HELD, *given)


def lose(bench: AirflowBench, key: str, *labels: str) -> None:
    """A job that nobody has known for an hour."""
    submit(bench, key, *labels)
    job = bench.slurm.job(key)
    attempt = job.attempt()
    assert attempt is not None and attempt.id is not None
    bench.slurm.cluster.command("scancel", attempt.id)
    job.write_attempt(attempt, id="999999")
    write_json(job.folder(1) / "observed.json", {"since": "2026-01-01T00:00:00Z"})


def test_marked_as_failed_while_deferred(bench: AirflowBench, request: pytest.FixtureRequest) -> None:
    row = Row(bench, "marked as failed while deferred", request)
    row.start("held")
    row.deferred()
    bench.mark(row.dag, row.run, "failed")
    row.ends("failed", "CANCELLED", jobs=1, note="the trigger cancelled it")


@pytest.mark.long
def test_marked_as_failed_on_a_worker(bench: AirflowBench, request: pytest.FixtureRequest) -> None:
    row = Row(bench, "marked as failed on a worker", request)
    with bench.at("submit", ANSWERLESS) as flag:
        row.start("held")
        eventually(flag.exists)
        bench.mark(row.dag, row.run, "failed")
        row.ends("failed", "CANCELLED", jobs=1, note="the operator cancelled it")


@pytest.mark.long
def test_marked_as_failed_before_a_triggerer_has_it(bench: AirflowBench, request: pytest.FixtureRequest) -> None:
    row = Row(bench, "marked as failed while there was no triggerer", request)
    with without(lambda: bench.stack.stop("triggerer"), lambda: bench.stack.start("triggerer")):
        row.start("held")
        row.until("deferred")
        bench.mark(row.dag, row.run, "failed")
        assert bench.live(row.key) == 1
    row.ends("failed", "CANCELLED", jobs=1, note="the triggerer that came cancelled it")


@pytest.mark.long
def test_marked_as_failed_when_its_triggerer_had_just_died(bench: AirflowBench, request: pytest.FixtureRequest) -> None:
    """Airflow 3.3.2 tells nobody then. Jobs of others are not taken for orphans, nor those that are waited for."""
    row, waiting = (Row(bench, "marked as failed when its triggerer had just died", request) for _ in range(2))
    others = {"persons": [], "elsewheres": ["instance=elsewhere", "dag=held", "run=none", "task=job", "map=-1"]}
    for key, labels in others.items():
        submit(bench, key, *labels)
    for one in (row, waiting):
        one.start("held")
    for one in (row, waiting):
        one.deferred()
    bench.stack.start("triggerer-2")
    try:
        bench.stack.stop("triggerer", signal.SIGKILL)
        bench.mark(row.dag, row.run, "failed")
        bench.stack.start("triggerer")
    finally:
        bench.stack.stop("triggerer-2")
    assert bench.live(row.key) == 1, "nothing is left to reconcile"
    lose(bench, "lost", f"instance={bench.stack.instance}", "dag=held", "run=deleted", "task=job", "map=-1")
    run = bench.trigger("reconcile", {"grace": 0})
    assert bench.api.wait("reconcile", run, 300) == "failed"
    said = bench.log(bench.task("reconcile", run, "report"))
    assert "1 need a person:\n  bench: lost: LOST, id 999999" in said and "held.job of deleted is gone" in said, said
    row.ends("failed", "CANCELLED", jobs=1, note="reconcile cancelled it, and no other")
    logs = [bench.log(one) for one in bench.api.task_instances("reconcile", run) if one["task_id"] == "compare"]
    assert sum(log.count(f"cancelled {row.key}: CANCELLED") for log in logs) == 1, logs
    assert bench.live(*others, waiting.key) == 3
    bench.slurm.run("cancel", *others, "--site", "bench")
    waiting.release()
    assert waiting.until("success", "failed")["state"] == "success"


def test_cleared_while_deferred(bench: AirflowBench, request: pytest.FixtureRequest) -> None:
    row = Row(bench, "cleared while deferred", request)
    row.start("held")
    row.deferred()
    bench.clear(row.dag, row.run)

    def second() -> bool:
        assert bench.live(row.key) <= 1
        return bool(row.tries() >= 2 and row.task()["state"] == "deferred" and bench.live(row.key) == 1)

    eventually(second)
    row.settled()
    row.release()
    # where the second try waits before the first one's trigger is told, the job is its, and goes on
    row.ends("success", "COMPLETED", jobs=(1, 2), note="one live job at any time")


@pytest.mark.long
def test_a_run_that_takes_too_long(bench: AirflowBench, request: pytest.FixtureRequest) -> None:
    row = Row(bench, "the DAG run's timeout", request)
    row.start("timed")
    row.deferred()
    row.ends("skipped", "CANCELLED", jobs=1, note="the trigger cancelled it")


@pytest.mark.long
def test_a_deadline(bench: AirflowBench, request: pytest.FixtureRequest) -> None:
    row = Row(bench, "the operator's deadline", request)
    row.start("late")
    row.ends("failed", "CANCELLED", jobs=1, note="no retry")
    assert row.tries() == 1
    assert "prepare was not done by its deadline of 0:00:25" in row.log()


@pytest.mark.long
def test_an_end_that_a_retry_cannot_help(bench: AirflowBench, request: pytest.FixtureRequest) -> None:
    row = Row(bench, "bad input, found by the job", request)
    row.start("wrong")
    row.ends("failed", "FAILED", jobs=1, note="no retry, the reason first")
    assert row.tries() == 1
    first = next(
        line for line in row.log().splitlines() if "AirflowFailException" in line or "normalize FAILED" in line
    )
    assert "normalize FAILED, bad input:" in first and "prepare" in first, row.log()
