"""The decisions a person takes, as events of the registry: promotions and rollbacks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from graphufs.errors import UserError
from graphufs.registry import registry
from graphufs.registry.registry import RegisteredModel, RegistryEvent, fold


def promote(root: Path, model: str, by: str, why: str) -> RegistryEvent | None:
    """Make a model the champion of its experiment name by a person's decision; None if it is already.

    Raises
    ------
    UserError
        If there is no such model.
    """
    registry.get(root, model)

    def event(past: list[RegistryEvent]) -> RegistryEvent | None:
        return None if fold(past)[model].role == "champion" else RegistryEvent("promoted", model, by, why)

    return registry.append(root, event)


def rollback(root: Path, experiment_name: str, by: str, why: str, to: str | None = None) -> RegistryEvent | None:
    """Make the former champion the champion again, or `to`; None if `to` is the champion already.

    Raises
    ------
    UserError
        If there is no former champion, or `to` never was one.
    """

    def event(past: list[RegistryEvent]) -> RegistryEvent | None:
        known = {model.id: model for model in fold(past).values() if model.experiment_name == experiment_name}
        now = next((one.id for one in known.values() if one.role == "champion"), None)
        former = [one.model for one in past if one.kind == "promoted" and one.model in known]
        before = _before(past, known)
        wanted = to or before
        if wanted is None or wanted not in former:
            there = ", ".join(dict.fromkeys(one for one in former if one != now)) or "none"
            raise UserError(
                f"{to or 'no model'} was a champion of {experiment_name}{f' before {now}' if now else ''}; former "
                f"champions: {there}"
            )
        if wanted == now:
            return None
        return RegistryEvent("promoted", wanted, by, why or f"rolled back from {now}", {"rollback_of": now})

    return registry.append(root, event)


def _before(past: list[RegistryEvent], known: Mapping[str, RegisteredModel]) -> str | None:
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
