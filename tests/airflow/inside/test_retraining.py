"""Retraining: what a round is asked for, the question to a person, and a round that promotes, taken back again."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest

from tests.airflow.inside import events, run, states_of, xcoms

NIGHT = date(2026, 3, 1)
RULE = [
    f"retraining.{key}"
    for key in ("training_days=10", "validation_days=2", "comparison_times=10", "worse_by_at_most=9", "level=0.4")
]


def test_a_round_is_asked_for_by_form_or_setting(monkeypatch):
    from graphufs.config import loading
    from graphufs.errors import UserError
    from jobs.airflow.forms import retraining

    form = {"experiment": "tiny", "site": "here", "overrides": ["training.seed=3"]}
    found = retraining.asked(form, NIGHT, then="promote", why=None, decided_by="a 'b' {{ c }}")
    assert (found["form"], found["name"], found["site"]) == ("tiny", "tiny", "here")
    experiment = loading.parse(found["experiment"])
    assert experiment.training.seed == 3 and experiment.retraining.then == "promote"
    assert found["request"] == {"night": NIGHT.isoformat(), "decided_by": "a 'b' {{ c }}"}
    former = retraining.asked({**form, "overrides": ["retraining.why=so", "retraining.then=ask"]}, NIGHT)
    assert former["request"] == {"night": NIGHT.isoformat(), "why": "so"}
    nobody = {"experiment": None, "site": None, "overrides": None}
    with pytest.raises(UserError, match="graphufs_retraining_experiment"):
        retraining.asked(nobody, NIGHT)
    with monkeypatch.context() as patch:
        patch.setenv("GRAPHUFS_RETRAINING_EXPERIMENT", "demo")
        patch.setenv("GRAPHUFS_RETRAINING_SITE", "here")
        assert retraining.asked(nobody, NIGHT)["name"] == "demo"
    for wrong, words in (
        ({"site": "../../x"}, "no site"),
        ({"experiment": "../tiny"}, "no experiment"),
        ({"overrides": ["training.init_from=/etc/shadow"]}, "names a place"),
        ({"overrides": ["nightly.night=2026-01-01"]}, "nightly.night is given both"),
        ({"overrides": ["retraining.answer=maybe"]}, "retraining.answer"),
    ):
        with pytest.raises(UserError, match=words):
            retraining.asked({**form, **wrong}, NIGHT)
    with pytest.raises(UserError, match="decided_by"):
        retraining.asked(form, NIGHT, decided_by="x" * 201)


def test_a_person_is_asked_only_if_the_rule_says_so_and_silence_means_hold(monkeypatch):
    from datetime import UTC, datetime, timedelta

    from airflow.providers.standard.operators.hitl import HITLOperator
    from airflow.sdk.exceptions import AirflowSkipException

    from jobs.airflow.forms.retraining import NOBODY, AskPerson

    put = []
    with monkeypatch.context() as patch:
        patch.setattr(HITLOperator, "execute", lambda self, context: put.append(self.response_timeout))
        task = AskPerson(task_id="ask", subject="?", body="x", decision="hold", hours=2)
        assert task.defaults == ["Hold"] and task.options == ["Promote", "Hold"]
        with pytest.raises(AirflowSkipException, match="nobody is asked"):
            task.execute({})
        AskPerson(task_id="ask2", subject="?", body="x", decision="ask", hours="0.5").execute({})
        AskPerson(task_id="ask3", subject="?", body="x", decision="ask", hours=2).execute({})
    assert put == [timedelta(minutes=30), timedelta(hours=2)]
    event = {"params_input": {}, "responded_at": datetime(2026, 3, 1, tzinfo=UTC)}
    somebody = {**event, "chosen_options": ["Promote"], "responded_by_user": {"id": "7", "name": "op"}}
    assert task.execute_complete({}, somebody) == {"answer": "Promote", "by": "op"}
    silence = {**event, "chosen_options": ["Hold"], "responded_by_user": None, "timedout": True}
    assert task.execute_complete({}, silence) == {"answer": "Hold", "by": NOBODY}
    with pytest.raises(ValueError, match="Responses"):
        task.execute_complete({}, {**somebody, "chosen_options": ["Whatever"]})


def test_what_decide_is_told_and_which_task_has_something_to_do():
    from jobs.airflow.forms import retraining

    used = {"gpu_hours": 2.5, "energy": None}
    told = retraining.told({"answer": "Promote", "by": "Ann 'B' \\"}, used)
    assert told == {"answer": "promote", "decided_by": "Ann 'B' \\", "cost": used}
    assert retraining.told(None, None) == {}
    yes, no = {"answer": "Promote"}, {"answer": "Hold"}
    for decision, answered, promote in (("promote", None, True), ("hold", None, False), ("refuse", None, False),
                                        ("ask", yes, True), ("ask", no, False), ("ask", None, False)):  # fmt: skip
        assert retraining.outcome(decision, answered) == {"promote": promote, "hold": not promote}


def test_a_round_promotes_a_better_challenger_tells_the_nights_and_is_taken_back(trained):
    from graphufs.registry import registry
    from graphufs.registry.decisions import promote

    root = Path(os.environ["GRAPHUFS_ROOT"])
    (first,) = [one.id for one in registry.models(root, "tiny")]
    promote(root, first, "test", "the first")
    lenient = ["retraining.stability={margin: 1000, spectrum: 100000}", "nightly.days_per_night=40"]
    wish = {"experiment": "tiny", "site": "here", "then": "promote"}
    overrides = ["model.latent_size=4", "training.batch_size=4", *RULE, *lenient]
    done = run("retraining", **wish, overrides=overrides)
    states = states_of(done)
    assert states.pop("ask") == states.pop("hold") == "skipped" and set(states.values()) == {"success"}, states
    compared, decided = xcoms(done, "compare"), xcoms(done, "promote")
    assert compared["decision"] == decided["decision"] == "promote" and "| champion |" in compared["scorecard"]
    second = registry.champion(root, "tiny")
    assert second.id == compared["model"] != first and second.parent == first
    assert registry.history(root)[-1].by == "the rule" and "segments" in second.cost
    (told,) = events("graphufs_champion")
    assert (told["model"], told["experiment"], told["site"]) == (second.id, "tiny", "here")
    again = run("retraining", **wish, overrides=overrides)
    assert (
        states_of(again)["train"] == "skipped" and "nothing new" in xcoms(again, "plan_retraining")["result"]["message"]
    )
    back = run("rollback", experiment="tiny", site="here", why="worse nights")
    assert set(states_of(back).values()) == {"success"}, states_of(back)
    assert registry.champion(root, "tiny").id == first and registry.history(root)[-1].why == "worse nights"
    assert [event["model"] for event in events("graphufs_champion")] == [second.id, first]
