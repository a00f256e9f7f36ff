"""What the source says about a variable."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class VariableFacts:
    """What the source says about a variable: its dimensions, its vertical dimension if it has one, its attributes."""

    dimensions: tuple[str, ...]
    vertical: str | None
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def varies(self) -> bool:
        """Whether the variable changes with time."""
        return "time" in self.dimensions

    def to_json(self) -> dict[str, Any]:
        """As JSON objects."""
        return asdict(self) | {"dimensions": list(self.dimensions)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> VariableFacts:
        """From what `to_json` gave."""
        return cls(tuple(content["dimensions"]), content["vertical"], dict(content["attributes"]))
