"""How much a catalogue tells of a root: the newest of each kind, up to a number and a size; the others are counted.

A root grows for years; what forms and pages read must not. The site cuts what it tells, and the control plane cuts
what it was told once more, since sites of other versions may tell all. Champions and what made them so come first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

PART = r"[A-Za-z0-9_][A-Za-z0-9_.:+-]{0,200}"
"""What a part of a path looks like of a file that sites hand out and the control plane takes."""
ENDINGS = r"\.(?:html|csv|json|png|svg)"
"""How its name ends."""
MIB = 2**20
LIMITS: dict[str, tuple[int, int, str]] = {
    "models": (200, 2 * MIB, "registered"),
    "history": (200, 3 * MIB, "number"),
    "nightly": (100, 2 * MIB, ""),
    "runs": (300, MIB, "changed"),
    "jobs": (200, MIB, "begun"),
    "files": (1000, MIB, "modified"),
    "warnings": (50, MIB // 16, ""),
}
"""By part of a catalogue the most entries, their bytes as JSON, and the key that says how new one is; without such a
key the newest come first already."""


def limited(content: Mapping[str, Any]) -> dict[str, Any]:
    """A catalogue within its limits; `older` says, by part, how many entries it leaves out or lacked already."""
    found, said = dict(content), content.get("older")
    told = {str(part): n for part, n in said.items() if type(n) is int and n > 0} if isinstance(said, dict) else {}
    older = {part: told[part] for part in LIMITS if part in told}
    models = content.get("models")
    champions = {
        str(one.get("id"))
        for one in (models if isinstance(models, list) else ())
        if isinstance(one, dict) and one.get("role") == "champion"
    }
    odd = []
    for part, (most, size, when) in LIMITS.items():
        entries = content.get(part, [])
        if not isinstance(entries, list):
            odd.append(f"its {part} are left out: they are no list")
            entries = []
        # twice stable: of those that are equally new the order stays
        ordered = sorted(entries, key=lambda one: _age(one, when), reverse=True)
        ordered.sort(key=lambda one: not _first(part, one, champions))
        kept = []
        for one in ordered[:most]:
            size -= len(json.dumps(one, separators=(",", ":")))
            if size < 0:
                break
            kept.append(one)
        found[part] = kept
        if left := len(ordered) - len(kept):
            older[part] = older.get(part, 0) + left
    found["warnings"] = [*found["warnings"], *odd]
    return {**found, "older": older}


def _age(one: Any, when: str) -> str:
    value = one.get(when) if isinstance(one, dict) else None
    return f"{value:020d}" if type(value) is int and value >= 0 else str(value or "")


def _first(part: str, one: Any, champions: set[str]) -> bool:
    """Whether an entry is a champion's, or what made a model one."""
    if not isinstance(one, dict) or part not in ("models", "history", "nightly"):
        return False
    model = str(one.get("id" if part == "models" else "model"))
    return model in champions and (part != "history" or one.get("kind") == "promoted")
