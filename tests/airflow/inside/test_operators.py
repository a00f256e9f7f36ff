"""The operator: one job a task, found again by each try, with an end that says why."""

from __future__ import annotations

import time
from datetime import timedelta
from types import SimpleNamespace

import pytest

from tests.airflow.inside import DONE, FAILED, RUNNING, Store, context, deferral, operator, site


def test_it_submits_once_and_lets_go_of_the_worker():
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


def test_a_step_is_asked_for_what_it_reads_and_the_later_requests_go_first():
    hostile = "{{ conn.x }} $(touch PWNED) --force"
    run, plan = {"night": "2026-03-01", "why": "first", "decided_by": hostile}, {"champion": "tiny-ab-1"}
    with site({**RUNNING, "what": "submitted"}) as asked:
        for step, more in (
            ("decide", [run, None, plan, {"why": hostile}]),
            ("extend_world", [run]),
            ("prepare", [run]),
        ):
            deferral(operator(step=step, request=more), context())
    words = [[word for word in arguments if word.startswith("--request")] for arguments, _ in asked]
    assert sorted(words[0]) == [
        "--request=champion=tiny-ab-1", f"--request=decided_by={hostile}", f"--request=why={hostile}",
    ]  # fmt: skip
    assert words[1:] == [["--request=night=2026-03-01"], []]
    assert not any("champion" in stdin or "night:" in stdin.replace("per_night:", "") for _, stdin in asked)


def test_what_a_task_of_0_1_was_given_stays_in_the_experiment_for_the_site():
    from graphufs.config import loading

    former = ("retraining.champion=tiny-ab-1", "nightly.night=2026-03-01")
    experiment, request = loading.load_run(loading.EXPERIMENTS / "tiny.yaml", former)
    with site({**RUNNING, "what": "submitted"}) as asked:
        deferral(operator(experiment=loading.dump(experiment, request)), context())
    ((_, stdin),) = asked
    assert loading.parse_run(stdin) == (experiment, request) and request.champion == "tiny-ab-1"


def test_another_try_is_about_the_same_job():
    with site({**RUNNING, "what": "submitted"}, RUNNING):
        first, second = context(1), context(2)
        deferral(operator(), first)
        left = deferral(operator(), second)
    assert first["pushed"]["job"] == second["pushed"]["job"] and left.trigger.attached


def test_a_job_that_failed_is_done_anew_for_a_person_and_not_for_a_retry_of_airflows(monkeypatch):
    from airflow.sdk.exceptions import AirflowFailException

    from jobs.airflow.sites.client import Refused, SiteClient

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

        monkeypatch.setattr(SiteClient, "run", run)
        try:
            deferral(operator(), {**again, "task_state_store": store})
        except AirflowFailException as error:
            said.append(str(error).splitlines()[0])
        return said

    assert tries_again(FAILED) == ["status", "status", "train FAILED, error: ValueError: no"]
    assert tries_again(FAILED, max_tries=4) == ["submit"], "cleared by a person"
    for job in (RUNNING, DONE, {**FAILED, "state": "CANCELLED"}, Refused("there is no job k")):
        assert tries_again(job) == ["status", "submit"], job


def test_a_done_job_needs_no_waiting():
    with site({**DONE, "what": "completed already"}):
        result = operator().execute(context())
    assert result["loss"] == 1.5 and result["job"].startswith("af-") and result["site"] == "quick"


def test_a_short_job_is_done_before_the_worker_is_given_back():
    from jobs.airflow.sites.client import SiteClient
    from jobs.site import Site

    history = {"segments": [], "used": {"gpu_hours": 1.0}}
    given, task = context(), operator()
    task._client_ = SiteClient("quick", Site(executor="local", control={"first_wait": 7}))
    with site({**DONE, "what": "submitted", "log": "loss 1.5\n", "history": history}) as asked:
        assert task.execute(given)["loss"] == 1.5
    ((arguments, _),) = asked
    assert "--first-wait=7" in arguments and given["pushed"]["used"] == {"gpu_hours": 1.0}


def test_the_result_goes_with_the_asset():
    from airflow.sdk import Asset

    asset = Asset("made")
    event = SimpleNamespace(extra=None)
    with site(DONE):
        task = operator(outlets=[asset])
        task.execute_complete(context(outlet_events={asset: event}), {**DONE, "key": "k"})
    assert event.extra["loss"] == 1.5 and event.extra["step"] == "train"


def test_an_end_that_a_retry_cannot_help_fails_at_once_with_its_reason_first():
    from airflow.sdk.exceptions import AirflowFailException

    with site(RUNNING) as asked:
        for answer in (
            FAILED,
            {**FAILED, "state": "LOST"},
            {**FAILED, "state": "NONE"},
            {**FAILED, "state": "REFUSED"},
        ):
            with pytest.raises(AirflowFailException, match="--site debug") as caught:
                operator().execute_complete(context(), {**answer, "key": "k", "attached": None})
            assert "ValueError: no" in str(caught.value).splitlines()[0]
    assert all(arguments[0] == "status" for arguments, _ in asked), "nothing is submitted again"


def test_a_site_out_of_reach_pauses_the_task_and_it_goes_on():
    from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

    from jobs.airflow.sites.client import Unreachable

    with site(Unreachable("no route"), RUNNING):
        task = operator(deadline=timedelta(hours=1))
        left = deferral(task, context())
        assert left.method_name == "execute_again" and left.trigger.serialize()[1]["site"] == "quick"
        event = {"site": "quick", "deadline": left.trigger.deadline, "late": False}
        with pytest.raises(TaskDeferred) as caught:
            task.execute_again(context(), event)
        assert caught.value.trigger.deadline == left.trigger.deadline, "the deadline is absolute"
        with pytest.raises(AirflowFailException, match="was unreachable until the deadline"):
            task.execute_again(context(), {**event, "late": True})


def test_what_is_wrong_is_said_and_not_tried_again():
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    from jobs.airflow.sites.client import Refused, SiteError

    with site(RUNNING) as asked:
        for task, words in (
            (operator(overrides=["training.batch_sise=3"]), "did you mean training.batch_size"),
            (operator(experiment="no-such"), "there is no experiment"),
            (operator(step="--help"), "is not a step"),
            (operator(needs=["../x"]), "is not a job key"),
            (operator(key="-x"), "is not a job key"),
            (operator(step="decide", request=[{"answer": "maybe"}]), "what is asked of this run is wrong"),
            (operator(site="debug"), "debugger"),
            (operator(site="nowhere"), "there is no site"),
        ):
            with pytest.raises(AirflowFailException, match=words):
                task.execute(context())
        assert not asked
    with (
        site(Refused("the key belongs to other work")),
        pytest.raises(AirflowFailException, match="belongs to other work"),
    ):
        operator().execute(context())
    with site(SiteError("command not found")), pytest.raises(AirflowException, match="command not found") as caught:
        operator().execute(context())
    assert not isinstance(caught.value, AirflowFailException), "that may be tried again"


def test_force_counts_once():
    given = context()
    with site({**RUNNING, "what": "submitted"}) as asked:
        deferral(operator(force=True), given)
        deferral(operator(force="True"), given)
        deferral(operator(force="False"), context())
    assert ["--force" in arguments for arguments, _ in asked] == [True, False, False]


def test_a_late_cancelling_of_an_earlier_try_is_healed_once():
    from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

    cancelled = {**FAILED, "state": "CANCELLED", "ending": "cancelled", "key": "k"}
    with site({**RUNNING, "what": "submitted"}):
        with pytest.raises(TaskDeferred) as caught:
            operator().execute_complete(context(2), {**cancelled, "attached": time.time() - 5})
        assert caught.value.trigger.attached is None
        for attached in (None, time.time() - 3600):
            with pytest.raises(AirflowFailException, match="CANCELLED"):
                operator().execute_complete(context(2), {**cancelled, "attached": attached})


def test_on_a_worker_a_kill_cancels():
    from jobs.airflow.sites.client import Unreachable

    with site({**RUNNING, "what": "submitted"}, Unreachable("busy"), FAILED) as asked:
        task = operator()
        task.on_kill()
        assert not asked, "nothing was submitted"
        deferral(task, context())
        task.on_kill()
    assert [arguments[0] for arguments, _ in asked] == ["submit", "cancel", "cancel"]


def test_a_deadline_that_has_come_fails_the_task():
    from airflow.sdk.exceptions import AirflowFailException

    with pytest.raises(AirflowFailException, match="by its deadline"):
        operator(deadline=timedelta(hours=1)).execute_complete(
            context(), {**FAILED, "key": "k", "late": True, "cancelled": True}
        )
    with pytest.raises(AirflowFailException, match="NOT cancelled: away"):
        event = {"state": "UNKNOWN", "message": "away", "key": "k", "late": True, "cancelled": False}
        operator(deadline=timedelta(hours=1)).execute_complete(context(), event)


def test_the_pool_is_the_sites():
    assert operator().pool == "quick-pool"
    assert operator(site="{{ params.site }}").pool == "default_pool" and operator(pool="mine").pool == "mine"


def test_a_training_that_need_not_be_registered_is_not():
    from airflow.sdk.exceptions import AirflowSkipException

    with site(DONE) as asked, pytest.raises(AirflowSkipException, match="not wanted"):
        operator(wanted=False).execute(context())
    assert not asked
