"""Retraining: what a round is asked for, and the question to a person."""

from __future__ import annotations

import os

from inside import raises


def check_a_round_is_asked_for_by_form_or_setting():
    from graphufs import configuration
    from graphufs.errors import UserError
    from jobs.airflow import retraining

    form = {"experiment": "tiny", "site": "here", "overrides": ["training.seed=3"]}
    found = retraining.asked(form)
    assert (found["form"], found["name"], found["site"]) == ("tiny", "tiny", "here")
    assert configuration.parse(found["experiment"]).training.seed == 3
    nobody = {"experiment": None, "site": None, "overrides": None}
    with raises(UserError, "graphufs_retraining_experiment"):
        retraining.asked(nobody)
    os.environ.update({"GRAPHUFS_RETRAINING_EXPERIMENT": "demo", "GRAPHUFS_RETRAINING_SITE": "here"})
    try:
        assert retraining.asked(nobody)["name"] == "demo"
    finally:
        del os.environ["GRAPHUFS_RETRAINING_EXPERIMENT"], os.environ["GRAPHUFS_RETRAINING_SITE"]
    for wrong, words in (
        ({"site": "../../x"}, "no site"),
        ({"experiment": "../tiny"}, "no experiment"),
        ({"overrides": ["training.init_from=/etc/shadow"]}, "names a place"),
    ):
        with raises(UserError, words):
            retraining.asked({**form, **wrong})


def check_a_person_is_asked_only_if_the_rule_says_so_and_silence_means_hold():
    from datetime import UTC, datetime, timedelta

    from airflow.providers.standard.operators.hitl import HITLOperator
    from airflow.sdk.exceptions import AirflowSkipException
    from inside import replaced

    from jobs.airflow.retraining import NOBODY, AskPerson

    put = []
    with replaced(HITLOperator, execute=lambda self, context: put.append(self.response_timeout)):
        task = AskPerson(task_id="ask", subject="?", wanted="False", hours=2)
        assert task.defaults == ["Hold"] and task.options == ["Promote", "Hold"]
        with raises(AirflowSkipException, "nobody is asked"):
            task.execute({})
        AskPerson(task_id="ask2", subject="?", wanted="True", hours="0.5").execute({})
        AskPerson(task_id="ask3", subject="?", wanted=True, hours=2).execute({})
    assert put == [timedelta(minutes=30), timedelta(hours=2)]
    event = {"params_input": {}, "responded_at": datetime(2026, 3, 1, tzinfo=UTC)}
    somebody = {**event, "chosen_options": ["Promote"], "responded_by_user": {"id": "7", "name": "op"}}
    assert task.execute_complete({}, somebody) == {"answer": "Promote", "by": "op"}
    silence = {**event, "chosen_options": ["Hold"], "responded_by_user": None, "timedout": True}
    assert task.execute_complete({}, silence) == {"answer": "Hold", "by": NOBODY}
    with raises(ValueError, "Responses"):
        task.execute_complete({}, {**somebody, "chosen_options": ["Whatever"]})
