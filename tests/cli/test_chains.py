"""Chains of steps: what comes after a plan is given what was planned, and where a chain ends early."""

from __future__ import annotations

import pytest

from graphufs.cli import app, nightly, retraining
from graphufs.cli.main import main
from graphufs.config import loading
from graphufs.steps import CHAINS, STEPS

RETRAIN = CHAINS["retrain"]


@pytest.fixture
def taken(monkeypatch, tiny):
    """Which steps are taken with which names of experiments, if one of them has another result than the others."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
    planned = loading.dump(tiny.model_copy(update={"name": "planned"}))

    requests = {}

    def taken(root, one="", result=None, **options):
        seen = []

        def run_step(name, experiment, root, *, request, **_):
            seen.append((name, experiment.name))
            requests[name] = request.given
            own = result if name == one else {"experiment": planned} if STEPS[name].plans else {}
            return {"step": name, "status": "completed", **own}

        monkeypatch.setattr(app, "run_step", run_step)
        app.take(RETRAIN, tiny, root, **options)
        return seen

    taken.requests = requests
    return taken


def test_chains_name_steps_that_follow_what_they_need():
    for chain in CHAINS.values():
        assert set(chain) <= set(STEPS)
        for place, name in enumerate(chain):
            assert not set(STEPS[name].needs) & set(chain[place:])


def test_what_follows_a_plan_is_given_what_was_planned(taken, tmp_path):
    assert taken(tmp_path) == [(name, "planned" if place else "tiny") for place, name in enumerate(RETRAIN)]


def test_a_chain_ends_with_a_plan_of_nothing_with_a_stop_and_where_it_is_told_to(taken, tmp_path):
    assert [name for name, _ in taken(tmp_path, "plan_retraining", {"experiment": None})] == ["plan_retraining"]
    assert [name for name, _ in taken(tmp_path, "train", {"status": "stopped"})][-1] == "train"
    asks = taken(tmp_path, "compare_models", {"decision": "ask"}, ends=lambda result: result.get("decision") == "ask")
    assert [name for name, _ in asks][-1] == "compare_models"


def test_each_step_is_given_what_it_reads_of_the_request_and_of_what_a_plan_adds(taken, tmp_path, tiny):
    asked = loading.request({"answer": "hold", "why": "so", "night": "2026-03-01"})
    plan = {"experiment": loading.dump(tiny), "request": {"champion": "tiny-ab-1"}}
    taken(tmp_path, "plan_retraining", plan, request=asked)
    assert {name: given for name, given in taken.requests.items() if given} == {
        "compare_models": {"champion": "tiny-ab-1"},
        "decide": {"champion": "tiny-ab-1", "answer": "hold", "why": "so"},
    }


COMMANDS = (
    ("extend-world", ["--night", "2026-03-01"], {"night": "2026-03-01"}),
    ("plan-nightly", ["--model", "latest"], {"model": "latest"}),
    ("nightly", ["--night", "2026-03-01", "--model", "tiny-ab-1"], {"night": "2026-03-01", "model": "tiny-ab-1"}),
    ("register", ["--champion", "tiny-ab-1"], {"champion": "tiny-ab-1"}),
    ("compare-models", ["--champion", "tiny-ab-1"], {"champion": "tiny-ab-1"}),
    ("retrain", ["--answer", "hold", "--why", "so"], {"answer": "hold", "why": "so"}),
    ("rollback", ["--decided-by", "Ann"], {"decided_by": "Ann"}),
    ("decide", ["--answer", "promote", "--champion", "a-1"], {"answer": "promote", "champion": "a-1"}),
    ("rollback", ["--to", "a-1", "--why", "so"], {"rollback_to": "a-1", "why": "so"}),
    ("retrain", ["--set", "retraining.answer=hold"], {"answer": "hold"}),
    ("retrain", ["--set", "retraining.answer=hold", "--answer", "promote"], {"answer": "promote"}),
    ("nightly", ["--set", "nightly.night=2026-03-01"], {"night": "2026-03-01"}),
)  # fmt: skip


@pytest.mark.parametrize(("command", "options", "asked"), COMMANDS)
def test_commands_take_what_is_asked_of_a_run_as_options(command, options, asked, monkeypatch, tmp_path, capsys):
    seen = []

    def take(names, experiment, root, *ends, request):
        seen.append((names, request.given))
        return [{"step": names[-1], "status": "completed"}]

    for module in (app, nightly, retraining):
        monkeypatch.setattr(module, "take", take)
    with pytest.raises(SystemExit) as ended:
        main([command, "tiny", "--root", str(tmp_path), *options])
    assert ended.value.code == 0
    names = CHAINS.get(command, [command.replace("-", "_")])
    assert seen == [(names, asked)]
    assert ("is not a key of experiments any more" in capsys.readouterr().err) == ("--set" in options)


@pytest.mark.parametrize(
    ("command", "options"),
    [("retrain", ["--answer", "maybe"]), ("nightly", ["--night", "tonight"]), ("train", ["--answer", "hold"])],
)
def test_what_cannot_be_asked_is_bad_input(command, options, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "tiny", "--root", str(tmp_path), *options])
    said = capsys.readouterr()
    assert ended.value.code == 2 and options[0] in said.err + said.out
