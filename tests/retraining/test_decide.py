"""Decisions in the registry: promoted, held, refused, rolled back; always at most one champion."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from graphufs.cli.main import main
from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.errors import UserError
from graphufs.registry import registry
from graphufs.registry.decisions import promote, rollback
from graphufs.retraining.decide import evidence_file
from graphufs.steps import run_step
from graphufs.storage.atomic import write_json
from graphufs.storage.paths import Paths
from tests.registry.test_registry import model


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three models of demo: 1 and 3 candidates, 2 the champion."""
    rmse = [{"variable": "t", "level": 500, "units": "K", "emulator": {"24h": 1.5}}]
    scores = {"initial_times": 3, "period": "a..b", "grid": "64x32", "rmse": rmse}
    for update in (1, 2, 3):
        registry.register(tmp_path, model(update, scores=scores), "test")
    promote(tmp_path, "demo-abc-2", "me", "the first")
    return tmp_path


def champion(root: Path) -> str | None:
    found = [one.id for one in registry.models(root, "demo") if one.role == "champion"]
    assert len(found) <= 1
    return found[0] if found else None


def planned(tiny: Experiment, root: Path, decision: str, challenger: str = "demo-abc-3") -> Experiment:
    """An experiment whose comparison has come to a decision."""
    evidence = {"challenger": challenger, "champion": "demo-abc-2", "decision": decision, "why": "so it is"}
    write_json(evidence_file(Paths(tiny, root), "demo-abc-2"), evidence)
    return tiny


def decide(experiment: Experiment, root: Path, **asked: Any) -> dict[str, Any]:
    return run_step("decide", experiment, root, request=loading.request({"champion": "demo-abc-2", **asked}))


def last(root: Path) -> registry.RegistryEvent:
    return registry.history(root)[-1]


def test_a_promotion_keeps_evidence_and_cost_and_retires_the_former_champion(tiny: Experiment, root: Path) -> None:
    experiment, cost = planned(tiny, root, "promote"), {"gpu_hours": 2.5, "energy": None}
    done = decide(experiment, root, cost=cost)
    assert (done["status"], done["decision"], done["champion"]) == ("completed", "promote", "demo-abc-3")
    assert champion(root) == "demo-abc-3" and registry.get(root, "demo-abc-2").role == "retired"
    assert last(root).by == "the rule" and last(root).content["evidence"]["why"] == "so it is"
    assert registry.get(root, "demo-abc-3").cost == cost
    count = len(registry.history(root))
    assert decide(experiment, root, cost=cost)["status"] == "unchanged" and len(registry.history(root)) == count


def test_a_model_shows_what_it_cost_and_what_it_gained_for_that(
    tiny: Experiment, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = planned(tiny, root, "promote")
    path = evidence_file(Paths(experiment, root), "demo-abc-2")
    write_json(path, json.loads(path.read_text()) | {"findings": [{"change": -0.06}, {"change": -0.02}]})
    decide(experiment, root, cost={"gpu_hours": 2.5, "queue_wait": 30, "energy": None})
    with pytest.raises(SystemExit):
        main(["models", "show", "demo-abc-3", "--root", str(root)])
    said = capsys.readouterr().out
    assert "2.5 GPU-hours, 30 s in the queue\n" in said
    assert "4 % lower error than the champion's it was held against, 1.6 % per GPU-hour" in said
    with pytest.raises(SystemExit):
        main(["models", "show", "demo-abc-1", "--root", str(root)])
    assert "GPU" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("decision", "kind", "role"), [("hold", "held", "candidate"), ("refuse", "refused", "retired")]
)
def test_what_is_not_promoted_leaves_the_champion(
    tiny: Experiment, root: Path, decision: str, kind: str, role: str
) -> None:
    done = decide(planned(tiny, root, decision), root)
    assert done["champion"] == champion(root) == "demo-abc-2"
    assert last(root).kind == kind and registry.get(root, "demo-abc-3").role == role


def test_a_person_who_was_asked_stands_in_the_history(tiny: Experiment, root: Path) -> None:
    with pytest.raises(UserError, match="asks a person about demo-abc-3"):
        decide(planned(tiny, root, "ask"), root)
    decide(planned(tiny, root, "ask"), root, answer="promote", decided_by="Ann", why="looks good")
    assert champion(root) == "demo-abc-3" and last(root).by == "Ann" and last(root).why.startswith("looks good; asked")


def test_an_answer_does_not_overrule_the_rule(tiny: Experiment, root: Path) -> None:
    done = decide(planned(tiny, root, "refuse"), root, answer="promote")
    assert done["decision"] == "refuse" and champion(root) == "demo-abc-2"


def test_nobody_is_promoted_over_a_champion_it_was_not_compared_with(tiny: Experiment, root: Path) -> None:
    experiment = planned(tiny, root, "promote")
    promote(root, "demo-abc-1", "me", "meanwhile")
    with pytest.raises(UserError, match="demo-abc-1 is the champion by now"):
        decide(experiment, root)
    assert champion(root) == "demo-abc-1"


def test_a_rollback_goes_back_and_a_second_one_further(root: Path) -> None:
    with pytest.raises(UserError, match="former champions: none"):
        rollback(root, "demo", "me", "")
    for update in (3, 1):
        promote(root, f"demo-abc-{update}", "me", "better")
    event = rollback(root, "demo", "me", "worse nights")
    assert event is not None and champion(root) == "demo-abc-3"
    assert (event.why, event.content["rollback_of"]) == ("worse nights", "demo-abc-1")
    rollback(root, "demo", "me", "")
    assert champion(root) == "demo-abc-2"
    with pytest.raises(UserError, match="no model was a champion"):
        rollback(root, "demo", "me", "")
    rollback(root, "demo", "me", "", "demo-abc-1")
    assert champion(root) == "demo-abc-1" and rollback(root, "demo", "me", "", "demo-abc-1") is None
    with pytest.raises(UserError, match="nothing-1 was a champion"):
        rollback(root, "demo", "me", "", "nothing-1")
    rollback(root, "demo", "me", "")
    assert champion(root) == "demo-abc-2", "what was rolled back to stands behind what was before it"


PROMOTER = """
import os, signal, sys
from pathlib import Path
from graphufs.storage import atomic as files; from graphufs.registry import registry
from graphufs.registry.decisions import promote

root, at = Path(sys.argv[1]), int(sys.argv[2])
calls = 0
def hook(event, arguments):
    global calls
    if event.startswith(("open", "os.")) and str(root) in str(arguments):
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
promote(root, "demo-abc-3", "test", "better")
"""


def test_killed_anywhere_in_a_promotion_there_is_one_champion_and_the_history_is_true(root: Path) -> None:
    seen = set()
    for at in range(1, 60):
        done = subprocess.run([sys.executable, "-c", PROMOTER, str(root), str(at)], check=False, env=os.environ)
        seen.add(now := champion(root))
        assert now == (last(root).model if last(root).kind == "promoted" else None)
        if done.returncode != -signal.SIGKILL:
            break
    assert done.returncode == 0 and champion(root) == "demo-abc-3" and at > 5
    assert seen == {"demo-abc-2", "demo-abc-3"}
