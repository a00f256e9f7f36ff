"""What becomes of a job by the state of the task that it belongs to."""

from __future__ import annotations

import pytest

from jobs.airflow.keys import Origin
from jobs.airflow.sites.client import Unreachable
from jobs.airflow.sites.reconcile import ALIVE, GONE, reconcile
from tests.jobs import ago

LIVE = {"state": "PENDING", "over": False, "what": "nothing", "id": "7", "begun": ago(1000)}
LOST = {**LIVE, "state": "LOST"}
WAITS = {**LIVE, "state": "FAILED", "over": True, "what": "waits for a person"}


class Client:
    """A site with jobs, each of a run of its name."""

    name = "site"

    def __init__(self, jobs):
        self.jobs, self.asked = jobs, []

    def run(self, *arguments):
        self.asked.append(arguments)
        if arguments[0] == "list":
            return {
                "jobs": [
                    {"key": key, "labels": Origin("d", key, "t", 2).labels("me"), **self.jobs[key]} for key in self.jobs
                ]
            }
        return {"jobs": [{"key": key, "state": "CANCELLED"} for key in arguments[1:]]}


def found(of_task, **job):
    client = Client({"one": job})
    return reconcile(client, "me", lambda origins: {Origin("d", "one", "t", 2): of_task}, 300), client.asked[1:]


@pytest.mark.parametrize("state", ["failed", "success", "skipped", "upstream_failed", "removed", "none", GONE])
def test_a_live_job_whose_task_is_over_or_gone_is_cancelled(state):
    seen, asked = found(state, **LIVE)
    assert asked == [("cancel", "one")] and not seen.waited_for and not seen.need_a_person
    assert seen.cancelled == [f"one: CANCELLED; its task d.t[2] of one is {state}"]


@pytest.mark.parametrize("state", ALIVE)
@pytest.mark.parametrize("job", [LIVE, LOST, WAITS, {**LIVE, "state": "UNKNOWN"}])
def test_whatever_the_job_of_a_task_that_waits_is_it_is_left_alone(state, job):
    seen, asked = found(state, **job)
    assert not asked and seen.waited_for == 1 and not seen.need_a_person


def test_a_job_just_submitted_and_one_that_is_over_are_left_alone():
    for job in ({**LIVE, "begun": ago(200)}, {**LIVE, "begun": None, "state": "NEW"}, {**WAITS, "what": "stopped"}):
        assert not found("failed", **job)[1]


def test_a_lost_job_is_never_cancelled_and_named_until_a_person_says_that_it_is_known():
    for state in ("failed", GONE, "none"):
        seen, asked = found(state, **LOST)
        assert not asked and seen.need_a_person == [f"one: LOST, id 7; its task d.t[2] of one is {state}"]
    for state in ("success", "skipped"):
        assert not found(state, **LOST)[0].need_a_person


def test_a_job_that_waits_for_a_person_is_named_while_its_task_is_failed():
    assert found("failed", **WAITS)[0].need_a_person
    assert not found("success", **WAITS)[0].need_a_person and not found(GONE, **WAITS)[0].need_a_person


def test_only_jobs_of_this_airflow_are_asked_for_and_those_without_a_task_passed_over():
    client = Client({"one": {**LIVE, "labels": {"instance": "me"}}})
    seen = reconcile(client, "me", lambda origins: {one: "failed" for one in origins}, 0)
    assert client.asked == [("list", "--label=instance=me", "--unfinished")] and not seen.cancelled


def test_many_are_cancelled_in_a_few_commands_each_once():
    client = Client({f"job{number}": LIVE for number in range(120)})
    seen = reconcile(client, "me", lambda origins: dict.fromkeys(origins, "failed"), 300)
    commands = client.asked[1:]
    assert len(seen.cancelled) == 120 and [len(command) - 1 for command in commands] == [50, 50, 20]
    assert len({key for command in commands for key in command[1:]}) == 120


def test_of_a_site_that_cannot_be_asked_nothing_is_concluded():
    client = Client({})

    def run(*arguments):
        raise Unreachable("no route")

    client.run = run
    with pytest.raises(Unreachable):
        reconcile(client, "me", lambda origins: pytest.fail("Airflow was asked"), 0)


def test_labels_name_the_task_again():
    for origin in (Origin("d", "r=1", "t", 3), Origin("d", "manual__ü", "t")):
        assert Origin.of(origin.labels("me")) == origin == Origin.of(origin.labels(""))
    assert "instance" not in Origin("d", "r", "t").labels("")
    assert Origin.of({}) is None and Origin.of({**Origin("d", "r", "t").labels("me"), "map": "x"}) is None


def test_the_age_of_a_job_is_that_of_the_sites_clock():
    client = Client({"young": {**LIVE, "begun": "2020-01-01T00:00:00Z", "age": 10.0}, "old": {**LIVE, "age": 400.0}})
    seen = reconcile(client, "me", lambda origins: dict.fromkeys(origins, "failed"), 300)
    assert [line.split(":")[0] for line in seen.cancelled] == ["old"]
