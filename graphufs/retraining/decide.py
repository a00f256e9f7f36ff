"""The step `decide`, and the decisions a person takes: promotions and rollbacks, as events of the registry.

A promotion is one event: the challenger becomes the champion and the former one retires in the moment that its file
appears, or nothing happened. So there is never more than one champion and, once there is one, never none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphufs.config.experiment import Experiment
from graphufs.errors import UserError
from graphufs.registry import registry
from graphufs.registry.registry import Event, Model, fold
from graphufs.steps import Progress, ShouldStop
from graphufs.storage.paths import Layout

RULE = "the rule"
KINDS = {"promote": "promoted", "hold": "held", "refuse": "refused"}


def run(experiment: Experiment, root: Path, *, progress: Progress, should_stop: ShouldStop) -> dict[str, Any]:
    """Take the decision that a comparison has led to; see graphufs.steps.Run. A second time it does nothing.

    Raises
    ------
    UserError
        If there was no comparison, a person was to be asked and gave no answer, or the champion is another by now.
    """
    wish = experiment.retraining
    if wish.champion is None:
        raise UserError("this experiment plans no comparison; use the one that `graphufs plan-retraining` gives")
    layout = Layout(experiment, root)
    path = evidence_file(layout, wish.champion)
    if not path.is_file():
        raise UserError(f"there is no comparison with {wish.champion} at {path}; run `graphufs compare-models` first")
    evidence = json.loads(path.read_text())
    decision, by, why = evidence["decision"], RULE, evidence["why"]
    if decision == "ask":
        if wish.answer is None:
            raise UserError(
                f"the rule asks a person about {evidence['challenger']}: {why}. Answer with --set "
                "retraining.answer=promote or =hold"
            )
        decision, by = wish.answer, wish.decided_by or registry.whoever()
        why = "; ".join(part for part in (wish.why, f"asked because {why}") if part)
    event = _decide(layout.root, KINDS[decision], evidence, by, why, wish.cost)
    return {
        "status": "unchanged" if event is None else "completed",
        "model": evidence["challenger"],
        "champion": evidence["challenger"] if decision == "promote" else evidence["champion"],
        "decision": decision,
        "message": f"{evidence['challenger']}: {KINDS[decision]} by {by}: {why}",
    }


def evidence_file(layout: Layout, champion: str) -> Path:
    """Where the outcome of a comparison lies."""
    return layout.run / "comparisons" / f"{champion}-{layout.hashes['scores']}.json"


def _decide(
    root: Path, kind: str, evidence: Mapping[str, Any], by: str, why: str, cost: Mapping[str, float | None]
) -> Event | None:
    """Add a decision with its evidence, unless it was taken already."""
    challenger = evidence["challenger"]

    def event(past: list[Event]) -> Event | None:
        done = [one for one in past if one.model == challenger and one.content.get("evidence") == evidence]
        if done:
            if done[-1].kind != kind:
                raise UserError(f"{challenger} was {done[-1].kind} on this comparison already, by {done[-1].by}")
            return None
        known = fold(past)
        if kind == "promoted":
            _require(known, challenger, evidence["champion"])
        return Event(kind, challenger, by, why, {"evidence": dict(evidence), "cost": dict(cost)})

    return registry.append(root, event)


def _require(known: Mapping[str, Model], challenger: str, compared_with: str) -> None:
    """Nobody is promoted over another champion than the one it was compared with."""
    name = known[challenger].experiment_name
    now = next((one.id for one in known.values() if one.experiment_name == name and one.role == "champion"), None)
    if now not in (None, compared_with):
        raise UserError(
            f"{challenger} was compared with {compared_with}, but {now} is the champion by now; plan another round"
        )


def promote(root: Path, model: str, by: str, why: str) -> Event | None:
    """Make a model the champion of its experiment name by a person's decision; None if it is already.

    Raises
    ------
    UserError
        If there is no such model.
    """
    registry.get(root, model)

    def event(past: list[Event]) -> Event | None:
        return None if fold(past)[model].role == "champion" else Event("promoted", model, by, why)

    return registry.append(root, event)


def rollback(root: Path, experiment_name: str, by: str, why: str, to: str | None = None) -> Event | None:
    """Make the former champion the champion again, or `to`; None if `to` is the champion already.

    Raises
    ------
    UserError
        If there is no former champion, or `to` never was one.
    """

    def event(past: list[Event]) -> Event | None:
        known = {model.id: model for model in fold(past).values() if model.experiment_name == experiment_name}
        now = next((one.id for one in known.values() if one.role == "champion"), None)
        former = [one.model for one in past if one.kind == "promoted" and one.model in known]
        before = _before(past, known)
        wanted = to or before
        if wanted is None or wanted not in former:
            there = ", ".join(dict.fromkeys(one for one in former if one != now)) or "none"
            raise UserError(
                f"{to or 'no model'} was a champion of {experiment_name} before {now}; former champions: {there}"
            )
        if wanted == now:
            return None
        return Event("promoted", wanted, by, why or f"rolled back from {now}", {"rollback_of": now})

    return registry.append(root, event)


def _before(past: list[Event], known: Mapping[str, Model]) -> str | None:
    """The champion before the present one; what was rolled back is skipped, so that a second rollback goes further."""
    stack: list[str] = []
    for one in past:
        if one.kind != "promoted" or one.model not in known:
            continue
        if "rollback_of" in one.content and one.model in stack:
            del stack[stack.index(one.model) + 1 :]
        elif not stack or stack[-1] != one.model:
            stack.append(one.model)
    return stack[-2] if len(stack) > 1 else None
