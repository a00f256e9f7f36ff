"""Chains of steps: what comes after a plan is given what was planned, and where a chain ends early."""

from __future__ import annotations

import pytest

from graphufs.cli import app
from graphufs.config import loading
from graphufs.steps import CHAINS, STEPS

RETRAIN = CHAINS["retrain"]


@pytest.fixture
def taken(monkeypatch, tiny):
    """Which steps are taken with which names of experiments, if one of them has another result than the others."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
    planned = loading.dump(tiny.model_copy(update={"name": "planned"}))

    def taken(root, one="", result=None, **options):
        seen = []

        def run_step(name, experiment, root, **_):
            seen.append((name, experiment.name))
            own = result if name == one else {"experiment": planned} if STEPS[name].plans else {}
            return {"step": name, "status": "completed", **own}

        monkeypatch.setattr(app, "run_step", run_step)
        app.take(RETRAIN, tiny, root, **options)
        return seen

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
