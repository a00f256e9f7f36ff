"""What is asked of one run: its fields, which step reads which, and the keys of experiments that were for it."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from graphufs.config import loading, moved_keys
from graphufs.config.experiment import Experiment
from graphufs.config.request import Request, words
from graphufs.errors import UserError
from graphufs.steps import STEPS, run_step
from tests.conftest import TINY

OTHER: dict[str, Any] = {
    "night": "2026-03-01",
    "model": "latest",
    "champion": "tiny-ab-16",
    "answer": "hold",
    "decided_by": "Ann 'B'",
    "why": "null",
    "rollback_to": "tiny-ab-12",
    "cost": {"gpu_hours": 2.5, "energy": None},
}
"""Another value for each field."""
FORMER = [
    "nightly.night=2026-03-01",
    "nightly.model=latest",
    "nightly.at_most=2",
    "retraining.answer=promote",
    "retraining.why=better nights",
    "retraining.then=promote",
]


def test_nothing_is_asked_for_by_default_and_fields_are_told_as_they_are_given() -> None:
    assert set(OTHER) == set(Request.model_fields)
    assert Request().given == {} and loading.request(None) == loading.request({"why": None}) == Request()
    request = loading.request(OTHER)
    assert request.given == OTHER and request.night == date(2026, 3, 1)
    assert words(request.given)[5:] == ["why=null", "rollback_to=tiny-ab-12", 'cost={"gpu_hours": 2.5, "energy": null}']


def test_of_two_requests_the_other_ones_fields_go_first() -> None:
    both = loading.request({"answer": "hold", "why": "a"}) | loading.request({"why": "b", "night": "2026-03-01"})
    assert both.given == {"answer": "hold", "why": "b", "night": "2026-03-01"}
    assert both.only(("why", "cost")).given == {"why": "b"}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"answer": "maybe"}, r"answer: Input should be 'promote' or 'hold' \(got 'maybe'\)"),
        ({"night": "tonight"}, "night: .*got 'tonight'"),
        ({"model": ""}, "model: "),
        ({"decided_by": "x" * 201}, "decided_by: "),
        ({"cost": {"energy": "much"}}, "cost.energy: "),
        ({"anser": "hold"}, r"anser: unknown key \(did you mean answer\?\)"),
    ],
)
def test_a_wrong_request_is_refused_by_name(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        loading.request(wrong)


def test_each_field_is_read_by_some_step_and_steps_read_fields_there_are() -> None:
    assert {name for step in STEPS.values() for name in step.asks} == set(Request.model_fields)


@pytest.mark.parametrize("name", STEPS)
def test_a_step_refuses_what_it_does_not_read(name: str, tiny: Experiment, tmp_path: Path) -> None:
    for field in set(OTHER) - set(STEPS[name].asks):
        with pytest.raises(UserError, match=f"{field} cannot be asked of {name}, which reads"):
            run_step(name, tiny, tmp_path, request=loading.request({field: OTHER[field]}))
    assert not any(tmp_path.iterdir())
    STEPS[name].require_read(loading.request(OTHER).only(STEPS[name].asks))


def test_keys_that_were_for_one_run_are_taken_out_and_handed_over() -> None:
    experiment, request = loading.load_run(TINY, FORMER)
    assert experiment == loading.load(TINY, FORMER) == loading.load(TINY, FORMER[2::3])
    assert request.given == {"night": "2026-03-01", "model": "latest", "answer": "promote", "why": "better nights"}
    assert " night:" not in loading.dump(experiment) and "answer" not in loading.dump(experiment)
    hints = moved_keys.hints(request)
    assert len(hints) == 4 and "retraining.answer is not a key" in hints[2] and "--answer" in hints[2]


def test_a_document_of_0_1_asks_for_nothing_at_its_defaults_and_for_what_it_says_else() -> None:
    plain, asked = loading.load(TINY), loading.request(OTHER)
    for request in (Request(), asked):
        document = loading.dump(plain, request)
        assert all(f"{former.partition('.')[2]}: " in document for former in moved_keys.FORMER.values())
        assert loading.parse_run(document) == (plain, request)
    assert loading.parse_run(loading.dump(plain)) == (plain, Request())


def test_a_wrong_value_of_a_former_key_is_told_by_its_place() -> None:
    with pytest.raises(UserError, match=r"retraining\.answer: Input should be 'promote' or 'hold' \(got 'maybe'\)"):
        loading.run_of("tiny", ["retraining.answer=maybe"])
