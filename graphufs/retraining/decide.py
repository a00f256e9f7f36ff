"""The step `decide`: what a comparison led to, as an event of the registry.

A promotion is one event: the challenger becomes the champion and the former one retires in the moment that its file
appears, or nothing happened. So there is never more than one champion and, once there is one, never none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphufs.config.experiment import Experiment
from graphufs.config.request import Request
from graphufs.errors import UserError
from graphufs.registry import registry
from graphufs.registry.registry import RegisteredModel, RegistryEvent, fold
from graphufs.steps import Progress, ShouldStop
from graphufs.storage.checksums import Damaged, read_checked
from graphufs.storage.paths import Paths

RULE = "the rule"
NO_PLAN = (
    "no comparison is planned: take the experiment that `graphufs plan-retraining` gives, and with --champion the "
    "model that its result names"
)
KINDS = {"promote": "promoted", "hold": "held", "refuse": "refused"}


def run(
    experiment: Experiment, root: Path, *, progress: Progress, should_stop: ShouldStop, request: Request
) -> dict[str, Any]:
    """Take the decision that a comparison has led to; see graphufs.steps.Run. A second time it does nothing.

    Raises
    ------
    UserError
        If there was no comparison, or it is damaged, a person was to be asked and gave no answer, or the champion is
        another by now.
    """
    if request.champion is None:
        raise UserError(NO_PLAN)
    paths = Paths(experiment, root)
    path = evidence_file(paths, request.champion)
    if not path.is_file():
        raise UserError(
            f"there is no comparison with {request.champion} at {path}; run `graphufs compare-models` first"
        )
    try:
        evidence = read_checked(path)
    except Damaged as error:
        raise UserError(f"{error}; run `graphufs compare-models` again") from None
    decision, by, why = evidence["decision"], RULE, evidence["why"]
    if decision == "ask":
        if request.answer is None:
            raise UserError(
                f"the rule asks a person about {evidence['challenger']}: {why}. Answer with --answer promote or "
                "--answer hold"
            )
        decision, by = request.answer, request.decided_by or registry.whoever()
        why = "; ".join(part for part in (request.why, f"asked because {why}") if part)
    event = _decide(paths.root, KINDS[decision], evidence, by, why, request.cost)
    return {
        "status": "unchanged" if event is None else "completed",
        "model": evidence["challenger"],
        "champion": evidence["challenger"] if decision == "promote" else evidence["champion"],
        "decision": decision,
        "message": f"{evidence['challenger']}: {KINDS[decision]} by {by}: {why}",
    }


def evidence_file(paths: Paths, champion: str) -> Path:
    """Where the outcome of a comparison lies."""
    return paths.run / "comparisons" / f"{champion}-{paths.hashes['scores']}.json"


def _decide(
    root: Path, kind: str, evidence: Mapping[str, Any], by: str, why: str, cost: Mapping[str, float | None]
) -> RegistryEvent | None:
    """Add a decision with its evidence, unless it was taken already."""
    challenger = evidence["challenger"]

    def event(past: list[RegistryEvent]) -> RegistryEvent | None:
        done = [one for one in past if one.model == challenger and one.content.get("evidence") == evidence]
        if done:
            if done[-1].kind != kind:
                raise UserError(f"{challenger} was {done[-1].kind} on this comparison already, by {done[-1].by}")
            return None
        known = fold(past)
        if kind == "promoted":
            _require(known, challenger, evidence["champion"])
        return RegistryEvent(kind, challenger, by, why, {"evidence": dict(evidence), "cost": dict(cost)})

    return registry.append(root, event)


def _require(known: Mapping[str, RegisteredModel], challenger: str, compared_with: str) -> None:
    """Nobody is promoted over another champion than the one it was compared with."""
    name = known[challenger].experiment_name
    now = next((one.id for one in known.values() if one.experiment_name == name and one.role == "champion"), None)
    if now not in (None, compared_with):
        raise UserError(
            f"{challenger} was compared with {compared_with}, but {now} is the champion by now; plan another round"
        )
